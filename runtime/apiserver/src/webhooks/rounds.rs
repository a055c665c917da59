//! Who is asked again about a request: when a webhook or a policy has changed the object, the server's own admission sees it a
//! second time, and so do those before them that ask for it. There is no third time.

use std::collections::BTreeSet;

use serde_json::Value;

/// The rounds of one request.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) policies: Again,
    pub(crate) webhooks: Again,
    /// This is the second round.
    second: bool,
    changed: bool,
}

impl Rounds {
    /// Begins the second round, if there is to be one.
    pub(crate) fn next(&mut self) -> bool {
        let go = self.changed && !self.second;
        self.second |= go;
        go
    }

    /// Somebody has changed the object.
    pub(crate) fn changed(&mut self) {
        self.changed = true;
    }

    /// Which round it is, from 0.
    pub(crate) fn number(&self) -> usize {
        self.second.into()
    }
}

/// Webhooks, or policies with their bindings, by name.
#[derive(Debug, Default)]
pub(crate) struct Again {
    invoked: Vec<String>,
    wanted: BTreeSet<String>,
    /// The object as they left it.
    left: Value,
}

impl Again {
    /// Begins their part of a round.
    pub(crate) fn begin(&mut self, round: usize, object: &Value) {
        if round > 0 && !self.invoked.is_empty() && self.left != *object {
            self.changed();
        }
    }

    /// True if this one has its turn in the round.
    pub(crate) fn has(&self, round: usize, name: &str) -> bool {
        round == 0 || self.wanted.contains(name)
    }

    /// One that wants to see what comes of the object was asked.
    pub(crate) fn invoked(&mut self, name: String) {
        self.invoked.push(name);
    }

    /// The object is another one: who was asked before is asked again.
    pub(crate) fn changed(&mut self) {
        self.wanted.extend(self.invoked.drain(..));
    }

    /// Ends their part of a round.
    pub(crate) fn end(&mut self, object: &Value) {
        if !self.invoked.is_empty() {
            self.left = object.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_came_before_a_change_is_asked_again_and_nobody_twice() {
        let mut rounds = Rounds::default();
        let hooks = &mut rounds.webhooks;
        hooks.begin(0, &json!(1));
        hooks.invoked("a".into());
        hooks.changed();
        hooks.invoked("b".into());
        hooks.end(&json!(2));
        rounds.changed();
        assert!(rounds.next());
        let hooks = &mut rounds.webhooks;
        hooks.begin(1, &json!(2));
        assert_eq!((hooks.has(1, "a"), hooks.has(1, "b"), hooks.has(1, "c")), (true, false, false));
        // The server's own admission changed something in between.
        hooks.begin(1, &json!(3));
        assert!(hooks.has(1, "b"));
        assert!(!rounds.next());
    }
}
