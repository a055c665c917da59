//! Fields that a schema does not describe.

use serde_json::Value;

use super::SchemaRef;

const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Removes from a whole object what its schema does not describe; gives the paths.
pub(crate) fn prune(schema: SchemaRef<'_>, object: &mut Value) -> Vec<String> {
    let mut walk = Walk { path: Vec::new(), found: Vec::new() };
    walk.value(object, Some(schema), true);
    walk.found.sort_unstable();
    walk.found
}

enum Step {
    Key(String),
    Index(usize),
}

struct Walk {
    path: Vec<Step>,
    found: Vec<String>,
}

impl Walk {
    fn tell(&mut self, key: &str) {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Key(key) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(key);
                }
                Step::Index(at) => text.push_str(&format!("[{at}]")),
            }
        }
        if !text.is_empty() {
            text.push('.');
        }
        self.found.push(text + key);
    }

    fn below(&mut self, step: Step, visit: impl FnOnce(&mut Self)) {
        self.path.push(step);
        visit(self);
        self.path.pop();
    }

    fn value(&mut self, value: &mut Value, schema: Option<SchemaRef<'_>>, root: bool) {
        let keeps = schema.is_some_and(SchemaRef::preserves);
        match value {
            Value::Object(map) => {
                let embedded = root || schema.is_some_and(SchemaRef::is_embedded);
                let top = self.path.is_empty();
                let mut gone: Vec<String> = Vec::new();
                for (key, value) in map.iter_mut() {
                    if embedded && META.contains(&key.as_str()) {
                        continue;
                    }
                    let property = schema.and_then(|s| s.property(key));
                    if let Some(property) = property {
                        self.below(Step::Key(key.clone()), |walk| walk.value(value, Some(property), false));
                    } else if schema.is_some_and(SchemaRef::takes_others) {
                        let inner = schema.and_then(SchemaRef::additional);
                        self.below(Step::Key(key.clone()), |walk| walk.value(value, inner, false));
                    } else if !keeps {
                        if !(top && META.contains(&key.as_str())) {
                            self.tell(key);
                        }
                        gone.push(key.clone());
                    }
                }
                gone.iter().for_each(|key| drop(map.remove(key)));
            }
            Value::Array(list) => {
                let items = schema.and_then(SchemaRef::items);
                for (at, value) in list.iter_mut().enumerate() {
                    self.below(Step::Index(at), |walk| match (keeps, items) {
                        // Elements of a list that keeps everything keep everything too.
                        (true, items) => walk.skip(value, items),
                        (false, items) => walk.value(value, items, false),
                    });
                }
            }
            _ => {}
        }
    }

    /// Keeps what is not described, and looks for what is.
    fn skip(&mut self, value: &mut Value, schema: Option<SchemaRef<'_>>) {
        let Some(schema) = schema else { return };
        match value {
            Value::Object(map) => {
                for (key, value) in map.iter_mut() {
                    if schema.is_embedded() && META.contains(&key.as_str()) {
                        continue;
                    }
                    match schema.property(key) {
                        Some(property) => {
                            self.below(Step::Key(key.clone()), |walk| walk.value(value, Some(property), false));
                        }
                        None if schema.takes_others() => {
                            let inner = schema.additional();
                            self.below(Step::Key(key.clone()), |walk| walk.value(value, inner, false));
                        }
                        None => {}
                    }
                }
            }
            Value::Array(list) => {
                for (at, value) in list.iter_mut().enumerate() {
                    self.below(Step::Index(at), |walk| walk.skip(value, schema.items()));
                }
            }
            _ => {}
        }
    }
}

/// Removes from a value inside an object what the value's schema does not describe.
pub(crate) fn prune_value(schema: SchemaRef<'_>, value: &mut Value) {
    let mut walk = Walk { path: Vec::new(), found: Vec::new() };
    walk.value(value, Some(schema), false);
}
