//! `ImageLocality`: nodes that have the pod's images are better, the more so the larger these are and the more nodes have them.

use crate::cache::{Cache, NodeInfo};
use crate::framework::{MAX_SCORE, Plugin, PluginId, Score, World};
use crate::model::Pod;

/// Images of less than this count as none, in bytes.
const LEAST: i64 = 23 << 20;
/// Images of more than this for each container count as this, in bytes.
const MOST: i64 = 1000 << 20;

pub(super) struct ImageLocality;

struct Images<'a> {
    pod: &'a Pod,
    cache: &'a Cache,
}

impl Plugin for ImageLocality {
    fn id(&self) -> PluginId {
        PluginId::ImageLocality
    }

    fn pre_score<'a>(&'a self, world: World<'a>, pod: &'a Pod, _nodes: &[&'a NodeInfo]) -> Option<Box<dyn Score + 'a>> {
        // An image that no node has makes no difference.
        let any = pod.spec.images.iter().any(|image| world.cache.nodes_with_image(image) > 0);
        any.then(|| -> Box<dyn Score + 'a> { Box::new(Images { pod, cache: world.cache }) })
    }
}

impl Score for Images<'_> {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "sizes of images and counts of nodes"
    )]
    fn score(&self, info: &NodeInfo) -> i64 {
        let nodes = self.cache.nodes().len() as f64;
        let scaled = self.pod.spec.images.iter().filter_map(|image| {
            let spread = self.cache.nodes_with_image(image) as f64 / nodes;
            Some((info.node.image(image)? as f64 * spread) as i64)
        });
        let most = MOST.saturating_mul(i64::try_from(self.pod.spec.containers).unwrap_or(1).max(1));
        let sum = scaled.sum::<i64>().clamp(LEAST, most);
        MAX_SCORE * (sum - LEAST) / (most - LEAST)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plugins::testing::Bench;
    use crate::testing::{node, pod};

    #[test]
    fn nodes_that_have_large_images_score_higher() {
        const MIB: i64 = 1 << 20;
        // Names and sizes of the reference's own test.
        let bench = Bench::new([
            node("a")
                .image("gcr.io/40:latest", 40 * MIB)
                .image("gcr.io/300:latest", 300 * MIB)
                .image("gcr.io/2000:latest", 2000 * MIB)
                .build(),
            node("b").image("gcr.io/250:latest", 250 * MIB).image("gcr.io/10:v1", 10 * MIB).build(),
        ]);
        let wants = |images: &[&str]| {
            let containers: Vec<_> = images.iter().map(|image| json!({"name": "c", "image": image})).collect();
            bench.scores(&ImageLocality, &pod("p").spec("containers", json!(containers)).build())
        };
        assert_eq!(wants(&["gcr.io/40", "gcr.io/250"]), Some(vec![0, 5]));
        assert_eq!(wants(&["gcr.io/40", "gcr.io/300"]), Some(vec![7, 0]));
        assert_eq!(wants(&["gcr.io/10", "gcr.io/2000"]), Some(vec![49, 0]));
        assert_eq!(wants(&["nowhere"]), None);
    }
}
