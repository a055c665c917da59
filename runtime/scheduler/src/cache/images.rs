//! How many nodes have each image.

use std::collections::HashMap;

use crate::model::{Name, Node};

#[derive(Default)]
pub(super) struct Images(HashMap<Name, usize>);

impl Images {
    pub(super) fn count(&self, image: &Name) -> usize {
        self.0.get(image).copied().unwrap_or(0)
    }

    pub(super) fn add(&mut self, node: &Node) {
        for (image, _) in &node.images {
            *self.0.entry(image.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, node: &Node) {
        for (image, _) in &node.images {
            if let Some(count) = self.0.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.0.remove(image);
                }
            }
        }
    }
}
