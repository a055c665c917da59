//! From text to JSON.

use std::collections::HashMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Number, Value};

use super::YamlError;
use super::raw::{Event, Parser};
use super::resolve::{Scalar, resolve, tagged};

/// How deep a document may be.
const DEPTH: usize = 200;
/// How many nodes a text may stand for, with what its aliases repeat.
const NODES: usize = 500_000;
const BINARY: &str = "tag:yaml.org,2002:binary";

/// Every document of a text; one that is empty is null.
pub fn documents(text: &str) -> Result<Vec<Value>, YamlError> {
    let mut reader = Reader { parser: Parser::new(text.as_bytes()), anchors: HashMap::new(), left: NODES };
    let mut documents = Vec::new();
    loop {
        match reader.parser.next()? {
            Event::StreamEnd => return Ok(documents),
            Event::DocumentStart => {
                reader.anchors.clear();
                let first = reader.parser.next()?;
                documents.push(reader.node(first, 0)?.value);
            }
            _ => {}
        }
    }
}

/// The first document of a text; null if there is none.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    let mut reader = Reader { parser: Parser::new(text.as_bytes()), anchors: HashMap::new(), left: NODES };
    loop {
        match reader.parser.next()? {
            Event::StreamEnd => return Ok(Value::Null),
            Event::DocumentStart => {
                let first = reader.parser.next()?;
                return Ok(reader.node(first, 0)?.value);
            }
            _ => {}
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a>,
    anchors: HashMap<String, Node>,
    left: usize,
}

/// A value, and how many nodes it has.
#[derive(Clone)]
struct Node {
    value: Value,
    nodes: usize,
    /// Whether it is the plain scalar `<<`.
    merge: bool,
}

impl Reader<'_> {
    fn count(&mut self, nodes: usize) -> Result<(), YamlError> {
        self.left =
            self.left.checked_sub(nodes).ok_or_else(|| YamlError::new("document contains excessive aliasing"))?;
        Ok(())
    }

    fn node(&mut self, event: Event, depth: usize) -> Result<Node, YamlError> {
        if depth > DEPTH {
            return Err(YamlError::new(format!("exceeded max depth of {DEPTH}")));
        }
        self.count(1)?;
        let (node, anchor) = match event {
            Event::Alias(name) => {
                let Some(node) = self.anchors.get(&name).cloned() else {
                    return Err(YamlError::new(format!("unknown anchor '{name}' referenced")));
                };
                self.count(node.nodes)?;
                return Ok(node);
            }
            Event::Scalar { value, tag, plain, anchor } => (scalar(value, tag.as_deref(), plain)?, anchor),
            Event::SequenceStart(anchor) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor) => (self.mapping(depth)?, anchor),
            _ => return Err(YamlError::new("unknown problem parsing YAML content")),
        };
        if let Some(anchor) = anchor {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, YamlError> {
        let (mut items, mut nodes) = (Vec::new(), 1);
        loop {
            match self.parser.next()? {
                Event::SequenceEnd => return Ok(Node { value: Value::Array(items), nodes, merge: false }),
                event => {
                    let item = self.node(event, depth + 1)?;
                    nodes += item.nodes;
                    items.push(item.value);
                }
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Node, YamlError> {
        let (mut map, mut nodes) = (Map::new(), 1);
        let mut merged = Map::new();
        loop {
            let key = match self.parser.next()? {
                Event::MappingEnd => break,
                event => self.node(event, depth + 1)?,
            };
            let event = self.parser.next()?;
            let value = self.node(event, depth + 1)?;
            nodes += key.nodes + value.nodes;
            if key.merge {
                merge(&mut merged, value.value)?;
            } else {
                map.insert(name(key.value)?, value.value);
            }
        }
        // What stands here comes before what is merged into it.
        for (key, value) in merged {
            map.entry(key).or_insert(value);
        }
        Ok(Node { value: Value::Object(map), nodes, merge: false })
    }
}

fn merge(into: &mut Map<String, Value>, value: Value) -> Result<(), YamlError> {
    match value {
        Value::Object(map) => into.extend(map),
        // Of several the earlier ones hold.
        Value::Array(list) => list.into_iter().rev().try_for_each(|item| match item {
            Value::Object(map) => {
                into.extend(map);
                Ok(())
            }
            _ => Err(YamlError::new("map merge requires map or sequence of maps as the value")),
        })?,
        _ => return Err(YamlError::new("map merge requires map or sequence of maps as the value")),
    }
    Ok(())
}

/// A key as JSON has it.
fn name(key: Value) -> Result<String, YamlError> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Ok("null".to_owned()),
        _ => Err(YamlError::new("invalid map key: a map or a list")),
    }
}

fn scalar(value: Vec<u8>, tag: Option<&str>, plain: bool) -> Result<Node, YamlError> {
    let text = String::from_utf8(value).map_err(|_| YamlError::new("control characters are not allowed"))?;
    let merge = plain && tag.is_none() && text == "<<";
    if tag == Some(BINARY) {
        let packed: String = text.split_whitespace().collect();
        let bytes = BASE64_STANDARD
            .decode(packed)
            .map_err(|_| YamlError::new("!!binary value contains invalid base64 data"))?;
        let value = Value::String(String::from_utf8_lossy(&bytes).into_owned());
        return Ok(Node { value, nodes: 1, merge: false });
    }
    let scalar = match tag {
        Some(tag) => tagged(tag, &text)?,
        None if plain => resolve(&text),
        None => Scalar::Text,
    };
    let value = match scalar {
        Scalar::Null => Value::Null,
        Scalar::Bool(value) => Value::Bool(value),
        Scalar::Int(value) => Value::Number(value.into()),
        Scalar::Unsigned(value) => Value::Number(value.into()),
        Scalar::Float(value) => match Number::from_f64(value) {
            Some(number) => Value::Number(number),
            None => return Err(YamlError::new(format!("unsupported value: {text}"))),
        },
        Scalar::Text => Value::String(text),
    };
    Ok(Node { value, nodes: 1, merge })
}
