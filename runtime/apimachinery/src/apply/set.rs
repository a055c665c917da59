//! A set of fields, kept as a tree: what an owner owns. A field's parents are in the set only if they are named themselves.

use serde_json::{Map, Value};

use super::path::Element;
use crate::typed::{Kind, Type};

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted by element. Every node is a member or has members below.
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    element: Element,
    member: bool,
    below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// A set of paths of field names.
    pub fn of(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// True if it has no members.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a field. The whole object (an empty path) can't be owned.
    pub fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.put(last.clone(), true, Self::default()),
            [first, rest @ ..] => {
                let mut below = Self::default();
                below.insert(rest);
                self.put(first.clone(), false, below);
            }
        }
    }

    /// Adds an element, if it is a member, and what is below it.
    pub(super) fn put(&mut self, element: Element, member: bool, below: Self) {
        if !member && below.is_empty() {
            return;
        }
        // Nearly always fields come in order.
        let at = match self.nodes.last() {
            Some(last) if last.element >= element => self.find(&element),
            _ => Err(self.nodes.len()),
        };
        match at {
            Ok(at) => {
                let node = &mut self.nodes[at];
                node.member |= member;
                node.below = std::mem::take(&mut node.below).union(below);
            }
            Err(at) => self.nodes.insert(at, Node { element, member, below }),
        }
    }

    fn find(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|n| n.element.cmp(element))
    }

    /// True if the field at the path is a member.
    pub fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.holds(last),
            [first, rest @ ..] => self.below(first).is_some_and(|set| set.has(rest)),
        }
    }

    /// True if the element itself is a member.
    pub(super) fn holds(&self, element: &Element) -> bool {
        self.find(element).is_ok_and(|at| self.nodes[at].member)
    }

    /// The members below an element, if there are any.
    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        self.find(element).ok().map(|at| &self.nodes[at].below).filter(|set| !set.is_empty())
    }

    /// Everything that either set has.
    pub fn union(self, other: Self) -> Self {
        if self.is_empty() {
            return other;
        }
        if other.is_empty() {
            return self;
        }
        let mut nodes = Vec::with_capacity(self.nodes.len().max(other.nodes.len()));
        let (mut left, mut right) = (self.nodes.into_iter().peekable(), other.nodes.into_iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let side = a.element.cmp(&b.element);
            let (a, b) = (left.next_if(|_| side.is_le()), right.next_if(|_| side.is_ge()));
            match (a, b) {
                (Some(a), Some(b)) => {
                    nodes.push(Node { element: a.element, member: a.member || b.member, below: a.below.union(b.below) })
                }
                (one, other) => nodes.extend(one.or(other)),
            }
        }
        nodes.extend(left);
        nodes.extend(right);
        Self { nodes }
    }

    /// Everything that both sets have.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let mut right = other.nodes.iter().peekable();
        for a in &self.nodes {
            while right.next_if(|b| b.element < a.element).is_some() {}
            if let Some(b) = right.next_if(|b| b.element == a.element) {
                out.put(a.element.clone(), a.member && b.member, a.below.intersection(&b.below));
            }
        }
        out
    }

    /// Removes the members of `other`; what is below one of them stays. True if there was any.
    pub fn subtract(&mut self, other: &Self) -> bool {
        self.subtract_with(other, false)
    }

    /// Removes the members of `other` with everything below them. True if there was any.
    pub fn subtract_trees(&mut self, other: &Self) -> bool {
        self.subtract_with(other, true)
    }

    fn subtract_with(&mut self, other: &Self, trees: bool) -> bool {
        let mut changed = false;
        if other.is_empty() {
            return changed;
        }
        let mut right = other.nodes.iter().peekable();
        self.nodes.retain_mut(|a| {
            while right.next_if(|b| b.element < a.element).is_some() {}
            if let Some(b) = right.next_if(|b| b.element == a.element) {
                if trees && b.member {
                    changed = true;
                    return false;
                }
                changed |= a.member && b.member;
                a.member &= !b.member;
                changed |= a.below.subtract_with(&b.below, trees);
            }
            !a.is_empty()
        });
        changed
    }

    /// Those members that have no members below.
    pub fn leaves(&self) -> Self {
        let node = |n: &Node| Node {
            element: n.element.clone(),
            member: n.member && n.below.is_empty(),
            below: n.below.leaves(),
        };
        Self { nodes: self.nodes.iter().map(node).filter(|n| !n.is_empty()).collect() }
    }

    /// The set with the named fields of structs that have members below them.
    pub(super) fn with_named_fields<T: Type>(&self, ty: Option<T>) -> Self {
        let node = |n: &Node| {
            let (below, named) = match (&n.element, ty) {
                (Element::Field(name), Some(ty)) => (super::shape::child(ty, name), ty.declares(name)),
                (Element::Key(_), Some(ty)) => (ty.item(), false),
                _ => (None, false),
            };
            Node { element: n.element.clone(), member: n.member || named, below: n.below.with_named_fields(below) }
        };
        Self { nodes: self.nodes.iter().map(node).collect() }
    }

    /// Brings a set that was written under another schema in line: what is atomic by now is owned as a whole. True if
    /// there was any such thing.
    pub(super) fn reconcile<T: Type>(&mut self, ty: T) -> bool {
        let mut changed = false;
        if ty.kind() == Kind::Any {
            return changed;
        }
        for node in &mut self.nodes {
            let below = match &node.element {
                Element::Field(name) => super::shape::child(ty, name),
                _ => ty.item(),
            };
            let Some(below) = below else { continue };
            if node.below.is_empty() {
                continue;
            }
            if super::shape::is_atomic(below) {
                node.member = true;
                node.below = Self::default();
                changed = true;
            } else {
                changed |= node.below.reconcile(below);
            }
        }
        changed
    }

    /// The members' paths: at every level first the members, then what is below them.
    pub fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for node in self.nodes.iter().filter(|n| n.member) {
            out.push(prefix.iter().chain([&node.element]).cloned().collect());
        }
        for node in self.nodes.iter().filter(|n| !n.below.is_empty()) {
            prefix.push(node.element.clone());
            node.below.collect(prefix, out);
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    pub fn to_value(&self) -> Value {
        Value::Object(self.to_map(false))
    }

    fn to_map(&self, member: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if member && !self.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for node in &self.nodes {
            map.insert(node.element.to_key(), Value::Object(node.below.to_map(node.member)));
        }
        map
    }

    /// Reads `fieldsV1`. The error says which key can't be read.
    pub fn from_value(fields: &Value) -> Result<Self, String> {
        let Value::Object(map) = fields else { return Err("fieldsV1 must be an object".to_owned()) };
        let mut set = Self { nodes: Vec::with_capacity(map.len()) };
        for (key, value) in map.iter().filter(|(key, _)| *key != ".") {
            let Some(element) = Element::parse(key)? else { continue };
            let below = Self::from_value(value)?;
            let member = below.is_empty() || value.get(".").is_some();
            set.put(element, member, below);
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(paths: &[&str]) -> Set {
        let mut set = Set::default();
        for path in paths {
            set.insert(&path.split('.').map(Element::field).collect::<Vec<_>>());
        }
        set
    }

    #[test]
    fn the_algebra_of_sets_of_fields() {
        let (a, b) = (set(&["a", "a.b", "c.d", "e"]), set(&["a", "c.d", "c.x", "z"]));
        assert_eq!(a.clone().union(b.clone()), set(&["a", "a.b", "c.d", "c.x", "e", "z"]));
        assert_eq!(a.intersection(&b), set(&["a", "c.d"]));
        let mut less = a.clone();
        less.subtract(&b);
        assert_eq!(less, set(&["a.b", "e"]), "a parent that goes leaves its children");
        let mut less = a.clone();
        less.subtract_trees(&b);
        assert_eq!(less, set(&["e"]), "a tree goes whole");
        assert_eq!(a.leaves(), set(&["a.b", "c.d", "e"]));
        assert!(a.has(&[Element::field("a"), Element::field("b")]) && !a.has(&[Element::field("c")]));
    }

    #[test]
    fn a_set_is_written_with_a_dot_for_a_member_that_has_members_below() {
        let mut s = set(&["data", "data.k", "spec.x"]);
        s.insert(&[Element::field("l"), Element::Key(vec![("name".into(), json!("n"))]), Element::field("name")]);
        let text = json!({"f:data": {".": {}, "f:k": {}}, "f:l": {"k:{\"name\":\"n\"}": {"f:name": {}}}, "f:spec": {"f:x": {}}});
        assert_eq!(s.to_value(), text);
        assert_eq!(Set::from_value(&text), Ok(s));
        assert!(Set::from_value(&json!({"x": {}})).is_err() && Set::from_value(&json!(3)).is_err());
    }

    #[test]
    fn paths_list_members_before_what_is_below_them() {
        let shown: Vec<String> = set(&["b.c", "a.x", "b", "d"])
            .paths()
            .iter()
            .map(|p| p.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(shown, [".b", ".d", ".a.x", ".b.c"]);
    }
}
