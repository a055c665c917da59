//! Paths of one host: exact ones by the whole path, prefixes by their elements in a trie.

use std::collections::HashMap;

/// Values by paths. The longest path that fits is found, and an exact one before a prefix.
#[derive(Debug)]
pub(crate) struct Paths<T> {
    exact: HashMap<Box<str>, T>,
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    value: Option<T>,
    /// In the order of their elements.
    children: Vec<(Box<str>, Node<T>)>,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), root: Node::default() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { value: None, children: Vec::new() }
    }
}

/// The elements of a path, each with the place where it ends. A slash at the end of the path means nothing.
fn elements(path: &str) -> impl Iterator<Item = (&str, usize)> {
    let end = if path.len() > 1 && path.ends_with('/') { path.len() - 1 } else { path.len() };
    let mut at = usize::from(path.starts_with('/'));
    let mut over = at >= end;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let rest = &path[at..end];
        let element = rest.split('/').next().unwrap_or(rest);
        let stop = at + element.len();
        over = stop >= end;
        at = stop + 1;
        Some((element, stop))
    })
}

impl<T> Paths<T> {
    /// Adds an exact path, over one that is there.
    pub(crate) fn add_exact(&mut self, path: &str, value: T) {
        self.exact.insert(path.into(), value);
    }

    /// Adds a prefix, over one that is there.
    pub(crate) fn add_prefix(&mut self, path: &str, value: T) {
        self.node(path).value = Some(value);
    }

    fn node(&mut self, path: &str) -> &mut Node<T> {
        let mut node = &mut self.root;
        for (element, _) in elements(path) {
            let at = match node.children.binary_search_by(|(known, _)| (**known).cmp(element)) {
                Ok(at) => at,
                Err(at) => {
                    node.children.insert(at, (element.into(), Node::default()));
                    at
                }
            };
            node = &mut node.children[at].1;
        }
        node
    }

    /// What `take` makes of the first value that it takes, in the order of what fits best, and how many bytes of the path the rule covers.
    pub(crate) fn find_where<'a, R>(&'a self, path: &str, take: impl Fn(&'a T) -> Option<R>) -> Option<(R, usize)> {
        if let Some(taken) = self.exact.get(path).and_then(&take) {
            return Some((taken, path.len()));
        }
        let mut node = &self.root;
        let mut fitting: Vec<(&T, usize)> = node.value.iter().map(|value| (value, 0)).collect();
        for (element, end) in elements(path) {
            let Ok(at) = node.children.binary_search_by(|(known, _)| (**known).cmp(element)) else { break };
            node = &node.children[at].1;
            fitting.extend(node.value.iter().map(|value| (value, end)));
        }
        fitting.into_iter().rev().find_map(|(value, end)| Some((take(value)?, end)))
    }

    /// All values.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let mut values: Vec<&mut T> = self.exact.values_mut().collect();
        let mut nodes = vec![&mut self.root];
        while let Some(node) = nodes.pop() {
            values.extend(&mut node.value);
            nodes.extend(node.children.iter_mut().map(|(_, child)| child));
        }
        values.into_iter()
    }

    /// The value of the rule for a path, and how many bytes of the path the rule covers, a slash at the end not counted.
    pub(crate) fn find(&self, path: &str) -> Option<(&T, usize)> {
        if let Some(value) = self.exact.get(path) {
            return Some((value, path.len()));
        }
        let mut node = &self.root;
        let mut found = node.value.as_ref().map(|value| (value, 0));
        for (element, end) in elements(path) {
            let Ok(at) = node.children.binary_search_by(|(known, _)| (**known).cmp(element)) else { break };
            node = &node.children[at].1;
            if let Some(value) = &node.value {
                found = Some((value, end));
            }
        }
        found
    }
}

impl<T: Default> Paths<T> {
    /// The value of an exact path, which is made if there is none.
    pub(crate) fn exact_mut(&mut self, path: &str) -> &mut T {
        self.exact.entry(path.into()).or_default()
    }

    /// The value of a prefix, which is made if there is none.
    pub(crate) fn prefix_mut(&mut self, path: &str) -> &mut T {
        self.node(path).value.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_match_as_the_documentation_of_ingress_has_it() {
        // The rows of "Examples" in the documentation of path types: kind, paths of rules, path of the request, the rule that matches.
        let rows: &[(&str, &[&str], &str, Option<&str>)] = &[
            ("Prefix", &["/"], "/any/path", Some("/")),
            ("Exact", &["/foo"], "/foo", Some("/foo")),
            ("Exact", &["/foo"], "/bar", None),
            ("Exact", &["/foo"], "/foo/", None),
            ("Exact", &["/foo/"], "/foo", None),
            ("Prefix", &["/foo"], "/foo", Some("/foo")),
            ("Prefix", &["/foo"], "/foo/", Some("/foo")),
            ("Prefix", &["/foo/"], "/foo", Some("/foo/")),
            ("Prefix", &["/foo/"], "/foo/", Some("/foo/")),
            ("Prefix", &["/aaa/bb"], "/aaa/bbb", None),
            ("Prefix", &["/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            ("Prefix", &["/aaa/bbb/"], "/aaa/bbb", Some("/aaa/bbb/")),
            ("Prefix", &["/aaa/bbb"], "/aaa/bbb/", Some("/aaa/bbb")),
            ("Prefix", &["/aaa/bbb"], "/aaa/bbb/ccc", Some("/aaa/bbb")),
            ("Prefix", &["/aaa/bbb"], "/aaa/bbbxyz", None),
            ("Prefix", &["/", "/aaa"], "/aaa/ccc", Some("/aaa")),
            ("Prefix", &["/", "/aaa", "/aaa/bbb"], "/aaa/bbb", Some("/aaa/bbb")),
            ("Prefix", &["/", "/aaa", "/aaa/bbb"], "/ccc", Some("/")),
            ("Prefix", &["/aaa"], "/ccc", None),
            // And some more.
            ("Prefix", &["/aaa", "/aaa/b/c"], "/aaa/b", Some("/aaa")),
            ("Prefix", &["/a"], "/A", None),
            ("Prefix", &["/a//b"], "/a//b/c", Some("/a//b")),
            ("Prefix", &["/a/b"], "/a//b", None),
            ("Prefix", &["/"], "", Some("/")),
            ("Prefix", &["/"], "*", Some("/")),
        ];
        for (kind, rules, path, expected) in rows {
            let mut paths = Paths::default();
            for rule in *rules {
                if *kind == "Exact" { paths.add_exact(rule, *rule) } else { paths.add_prefix(rule, *rule) }
            }
            assert_eq!(paths.find(path).map(|(rule, _)| *rule), *expected, "{kind} {rules:?} {path}");
        }
    }

    #[test]
    fn an_exact_path_goes_before_a_prefix_and_says_how_much_it_covers() {
        let mut paths = Paths::default();
        paths.add_prefix("/foo", 1);
        paths.add_exact("/foo", 2);
        paths.add_prefix("/foo/bar/", 3);
        assert_eq!(paths.find("/foo"), Some((&2, 4)));
        assert_eq!(paths.find("/foo/"), Some((&1, 4)));
        assert_eq!(paths.find("/foo/bar"), Some((&3, 8)));
        assert_eq!(paths.find("/foo/bar/x"), Some((&3, 8)));
    }
}
