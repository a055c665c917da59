//! A batch: changes that are applied together or not at all, in the order in which they were added.

use super::rule::Rule;
use super::set::{Element, Intervals, Set};
use super::uapi::{self, chain, elements, rule, set, table};
use super::wire::{Message, Messages, Open, Writer};
use super::{Family, Table};

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// The most bytes of elements in one message: the length of an attribute has 16 bits.
const ELEMENTS: usize = 0x8000;

/// Where in a packet's way a base chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Hook {
    /// As it comes in, before it is routed.
    Prerouting = 0,
    /// For this machine.
    Input = 1,
    /// For another machine.
    Forward = 2,
    /// From this machine.
    Output = 3,
    /// As it goes out.
    Postrouting = 4,
}

/// What a base chain does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Lets packets pass or not.
    Filter,
    /// Translates addresses: sees only the first packet of each connection.
    Nat,
    /// Changes packets of this machine before they are routed again.
    Route,
}

/// What makes a chain a base chain. Its policy is to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Base {
    /// What it does.
    pub kind: Kind,
    /// Where it is.
    pub hook: Hook,
    /// Its place among those there: lower ones come first.
    pub priority: i32,
}

/// Changes to apply together.
#[derive(Debug, Clone)]
pub struct Batch {
    writer: Writer,
    messages: u32,
    own_sets: u32,
    /// Where the last message's flags are.
    last: Option<usize>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Nothing to change yet.
    pub fn new() -> Self {
        let mut batch = Self { writer: Writer::default(), messages: 0, own_sets: 0, last: None };
        let open = batch.writer.message(uapi::BATCH_BEGIN, REQUEST, 0, 0, uapi::SUBSYSTEM);
        batch.writer.end_message(&open);
        batch
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.messages as usize
    }

    fn begin(&mut self, kind: u16, flags: u16, family: Family) -> Open {
        self.messages += 1;
        self.last = Some(self.writer.bytes.len() + 6);
        self.writer.message((uapi::SUBSYSTEM << 8) | kind, REQUEST | flags, self.messages, family as u8, 0)
    }

    /// Makes a table, if it is not there.
    pub fn add_table(&mut self, table: &Table) {
        self.table(uapi::NEW_TABLE, CREATE, table);
    }

    /// Removes a table with all in it.
    pub fn delete_table(&mut self, table: &Table) {
        self.table(uapi::DELETE_TABLE, 0, table);
    }

    /// Leaves an empty table, whether there was one or not.
    pub fn recreate_table(&mut self, table: &Table) {
        self.remove_table(table);
        self.add_table(table);
    }

    /// Leaves no table, whether there was one or not.
    pub fn remove_table(&mut self, table: &Table) {
        self.add_table(table);
        self.delete_table(table);
    }

    fn table(&mut self, kind: u16, flags: u16, table: &Table) {
        let open = self.begin(kind, flags, table.family);
        self.writer.put_text(table::NAME, &table.name);
        if kind == uapi::NEW_TABLE {
            self.writer.put_u32(table::FLAGS, 0);
        }
        self.writer.end_message(&open);
    }

    /// Makes a chain that others go to, if it is not there.
    pub fn add_chain(&mut self, table: &Table, name: &str) {
        let open = self.begin(uapi::NEW_CHAIN, CREATE, table.family);
        self.chain_name(table, name);
        self.writer.end_message(&open);
    }

    /// Makes a chain that packets come through.
    pub fn add_base_chain(&mut self, table: &Table, name: &str, base: &Base) {
        let open = self.begin(uapi::NEW_CHAIN, CREATE, table.family);
        self.chain_name(table, name);
        let hook = self.writer.nest(chain::HOOK);
        self.writer.put_u32(chain::HOOK_NUMBER, base.hook as u32);
        self.writer.put(chain::HOOK_PRIORITY, &base.priority.to_be_bytes());
        self.writer.end(&hook);
        self.writer.put_u32(chain::POLICY, 1);
        let kind = match base.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
            Kind::Route => "route",
        };
        self.writer.put_text(chain::TYPE, kind);
        self.writer.end_message(&open);
    }

    /// Removes a chain; nothing may lead to it any more.
    pub fn delete_chain(&mut self, table: &Table, name: &str) {
        let open = self.begin(uapi::DELETE_CHAIN, 0, table.family);
        self.chain_name(table, name);
        self.writer.end_message(&open);
    }

    fn chain_name(&mut self, table: &Table, name: &str) {
        self.writer.put_text(chain::TABLE, &table.name);
        self.writer.put_text(chain::NAME, name);
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, table: &Table, chain: &str) {
        let open = self.begin(uapi::DELETE_RULE, 0, table.family);
        self.writer.put_text(rule::TABLE, &table.name);
        self.writer.put_text(rule::CHAIN, chain);
        self.writer.end_message(&open);
    }

    /// Removes the rule with a handle, as [`super::Socket::rules`] tells it.
    pub fn delete_rule(&mut self, table: &Table, chain: &str, handle: u64) {
        let open = self.begin(uapi::DELETE_RULE, 0, table.family);
        self.writer.put_text(rule::TABLE, &table.name);
        self.writer.put_text(rule::CHAIN, chain);
        self.writer.put(rule::HANDLE, &handle.to_be_bytes());
        self.writer.end_message(&open);
    }

    /// Adds a rule at the end of a chain, and before it the sets that are its own.
    pub fn add_rule(&mut self, table: &Table, chain: &str, rule: &Rule) {
        let first = self.own_sets;
        for (set, content) in rule.expressions.iter().filter_map(super::Expression::own_set) {
            self.own_sets += 1;
            let mut set = set.clone();
            OWN_SET.clone_into(&mut set.name);
            self.set(table, &set, self.own_sets, Some(content.len()));
            self.elements(
                uapi::NEW_ELEMENTS,
                table,
                OWN_SET,
                Some(self.own_sets),
                set.ranges(),
                content.iter().cloned(),
            );
        }
        let open = self.begin(uapi::NEW_RULE, CREATE | APPEND, table.family);
        self.writer.put_text(rule::TABLE, &table.name);
        self.writer.put_text(rule::CHAIN, chain);
        let list = self.writer.nest(rule::EXPRESSIONS);
        let mut own = first;
        for expression in &rule.expressions {
            own += u32::from(expression.own_set().is_some());
            expression.write(&mut self.writer, expression.own_set().map(|_| (OWN_SET, own)));
        }
        self.writer.end(&list);
        if let Some(comment) = &rule.comment {
            let length = u8::try_from(comment.len() + 1).unwrap_or(u8::MAX);
            self.writer.put(rule::USER_DATA, &[&[0, length], comment.as_bytes(), &[0]].concat());
        }
        self.writer.end_message(&open);
    }

    /// Makes a set or a map, if it is not there.
    pub fn add_set(&mut self, table: &Table, set: &Set) {
        self.own_sets += 1;
        self.set(table, set, self.own_sets, None);
    }

    fn set(&mut self, table: &Table, set: &Set, id: u32, anonymous: Option<usize>) {
        let open = self.begin(uapi::NEW_SET, CREATE, table.family);
        self.writer.put_text(set::TABLE, &table.name);
        set.write(&mut self.writer, id, anonymous);
        self.writer.end_message(&open);
    }

    /// Removes a set or a map; no rule may look into it any more.
    pub fn delete_set(&mut self, table: &Table, name: &str) {
        let open = self.begin(uapi::DELETE_SET, 0, table.family);
        self.writer.put_text(set::TABLE, &table.name);
        self.writer.put_text(set::NAME, name);
        self.writer.end_message(&open);
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, table: &Table, name: &str) {
        let open = self.begin(uapi::DELETE_ELEMENTS, 0, table.family);
        self.writer.put_text(elements::TABLE, &table.name);
        self.writer.put_text(elements::SET, name);
        self.writer.end_message(&open);
    }

    /// Adds elements to a set. One that is there already is no error, unless it led elsewhere.
    pub fn add_elements(&mut self, table: &Table, set: &str, content: impl IntoIterator<Item = Element>) {
        self.elements(uapi::NEW_ELEMENTS, table, set, None, Intervals::None, content);
    }

    /// Adds ranges to a set with ranges; elements without an end are ranges of one.
    pub fn add_ranges(&mut self, table: &Table, set: &Set, content: impl IntoIterator<Item = Element>) {
        self.elements(uapi::NEW_ELEMENTS, table, &set.name, None, set.ranges(), content);
    }

    /// Removes elements, which must be there.
    pub fn delete_elements(&mut self, table: &Table, set: &str, content: impl IntoIterator<Item = Element>) {
        self.elements(uapi::DELETE_ELEMENTS, table, set, None, Intervals::None, content);
    }

    /// Removes ranges, which must be there as they were added.
    pub fn delete_ranges(&mut self, table: &Table, set: &Set, content: impl IntoIterator<Item = Element>) {
        self.elements(uapi::DELETE_ELEMENTS, table, &set.name, None, set.ranges(), content);
    }

    fn elements(
        &mut self,
        kind: u16,
        table: &Table,
        set: &str,
        id: Option<u32>,
        intervals: Intervals,
        content: impl IntoIterator<Item = Element>,
    ) {
        let mut content = content.into_iter().peekable();
        while content.peek().is_some() {
            let flags = if kind == uapi::NEW_ELEMENTS { CREATE } else { 0 };
            let open = self.begin(kind, flags, table.family);
            self.writer.put_text(elements::TABLE, &table.name);
            self.writer.put_text(elements::SET, set);
            if let Some(id) = id {
                self.writer.put_u32(elements::SET_ID, id);
            }
            let (list, start) = (self.writer.nest(elements::ELEMENTS), self.writer.bytes.len());
            while self.writer.bytes.len() - start < ELEMENTS
                && let Some(element) = content.next()
            {
                element.write(&mut self.writer, intervals);
            }
            self.writer.end(&list);
            self.writer.end_message(&open);
        }
    }

    /// The whole batch as it is sent; the last change is acknowledged once all are applied.
    pub(super) fn finish(&self) -> Vec<u8> {
        let mut writer = self.writer.clone();
        if let Some(at) = self.last {
            let flags = u16::from_ne_bytes([writer.bytes[at], writer.bytes[at + 1]]) | ACK;
            writer.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let open = writer.message(uapi::BATCH_END, REQUEST, self.messages + 1, 0, uapi::SUBSYSTEM);
        writer.end_message(&open);
        writer.bytes
    }

    /// The number of the last change.
    pub(super) fn last_sequence(&self) -> u32 {
        self.messages
    }

    /// What a change was to do, for an error.
    pub(super) fn describe(&self, sequence: u32) -> String {
        let found = Messages(&self.writer.bytes).find(|message| message.sequence == sequence && sequence > 0);
        found.map_or_else(|| "the batch".to_owned(), |message| describe(&message))
    }
}

/// The name that the kernel makes names of rules' own sets from.
const OWN_SET: &str = "__set%d";

fn describe(message: &Message<'_>) -> String {
    let attributes = message.attributes();
    let text = |kind| attributes.text(kind).unwrap_or_default();
    let what = match message.kind & 0xff {
        uapi::NEW_TABLE => format!("to add table {}", text(table::NAME)),
        uapi::DELETE_TABLE => format!("to delete table {}", text(table::NAME)),
        uapi::NEW_CHAIN => format!("to add chain {} to table {}", text(chain::NAME), text(chain::TABLE)),
        uapi::DELETE_CHAIN => format!("to delete chain {} of table {}", text(chain::NAME), text(chain::TABLE)),
        uapi::NEW_RULE => format!("to add a rule to chain {} in table {}", text(rule::CHAIN), text(rule::TABLE)),
        uapi::DELETE_RULE => format!("to flush chain {} in table {}", text(rule::CHAIN), text(rule::TABLE)),
        uapi::NEW_SET => format!("to add set {} to table {}", text(set::NAME), text(set::TABLE)),
        uapi::DELETE_SET => format!("to delete set {} of table {}", text(set::NAME), text(set::TABLE)),
        uapi::NEW_ELEMENTS => format!("to add to set {} in table {}", text(elements::SET), text(elements::TABLE)),
        uapi::DELETE_ELEMENTS => {
            format!("to remove from set {} in table {}", text(elements::SET), text(elements::TABLE))
        }
        other => format!("message {other}"),
    };
    match message.body.first() {
        Some(10) => format!("{what} (ip6)"),
        Some(1) => format!("{what} (inet)"),
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::{Type, wire::HEADER};

    #[test]
    fn an_error_names_the_object_of_its_message() {
        let table = Table::new(Family::Ip, "t");
        let mut batch = Batch::new();
        batch.add_table(&table);
        batch.add_set(&table, &Set::new("s", &[Type::Ipv4]));
        batch.add_rule(&table, "c", &Rule::new().drop());
        assert_eq!(batch.describe(2), "to add set s to table t");
        assert_eq!(batch.describe(3), "to add a rule to chain c in table t");
        assert_eq!(batch.describe(9), "the batch");
    }

    #[test]
    fn many_elements_are_spread_over_messages_that_each_fit() {
        let table = Table::new(Family::Ip6, "t");
        let mut batch = Batch::new();
        let content = (0..10_000u32).map(|number| Element::new(crate::nft::Key::new().number(number)));
        batch.add_elements(&table, "s", content);
        let bytes = batch.finish();
        let messages: Vec<_> = Messages(&bytes).collect();
        assert!(messages.iter().all(|message| message.body.len() + HEADER < 0xffff));
        let elements =
            messages[1..messages.len() - 1].iter().map(|m| m.attributes().nested(elements::ELEMENTS).count());
        assert_eq!(elements.sum::<usize>(), 10_000);
    }
}
