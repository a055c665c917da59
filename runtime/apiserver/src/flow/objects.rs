//! The flow schemas and priority levels of the store, read for use.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_apimachinery::meta;
use kiln_storage::Record;
use serde_json::Value;

use super::level::Queuing;
use super::rule::Rule;
use crate::authz::follow::View;
use crate::registry::flow::level_of;
use crate::request_info::RequestInfo;
use crate::user::UserInfo;

const SCHEMAS: &str = "/registry/flowcontrol.apiserver.k8s.io/flowschemas/";
const LEVELS: &str = "/registry/flowcontrol.apiserver.k8s.io/prioritylevelconfigurations/";
const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";
/// Shares and precedence of objects that do not say.
const SHARES: usize = 30;
const PRECEDENCE: i64 = 1000;
/// Shares of the level that takes what no other takes.
const CATCH_ALL_SHARES: usize = 5;

/// How the requests of a schema are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distinguisher {
    None,
    User,
    Namespace,
}

/// A flow schema.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) level: String,
    pub(super) distinguisher: Distinguisher,
    precedence: i64,
    rules: Vec<Rule>,
}

impl Schema {
    /// True if a request falls under it.
    pub(super) fn matches(&self, user: &UserInfo, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| rule.matches(user, info))
    }

    fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        Self {
            name: meta::name(object).to_owned(),
            uid: meta::uid(object).to_owned(),
            level: level_of(object).to_owned(),
            distinguisher: match meta::text(spec, &["distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            precedence: spec["matchingPrecedence"].as_i64().unwrap_or(PRECEDENCE),
            rules: spec["rules"].as_array().into_iter().flatten().map(Rule::read).collect(),
        }
    }

    fn fixed(name: &str, precedence: i64, rule: Rule) -> Self {
        Self {
            name: name.to_owned(),
            uid: String::new(),
            level: name.to_owned(),
            distinguisher: Distinguisher::User,
            precedence,
            rules: vec![rule],
        }
    }
}

/// A priority level.
#[derive(Clone, Debug)]
pub(super) struct LevelSpec {
    pub(super) uid: String,
    /// Without limits.
    pub(super) exempt: bool,
    /// Its part of all seats, against those of the others.
    pub(super) shares: usize,
    /// Percent of its seats that it may lend.
    pub(super) lendable: usize,
    /// Percent of its seats that it may borrow; `None` for any number.
    pub(super) borrowing: Option<usize>,
    pub(super) queuing: Option<Queuing>,
}

impl LevelSpec {
    fn read(object: &Value) -> Self {
        let (spec, uid) = (&object["spec"], meta::uid(object).to_owned());
        let exempt = spec["type"] == "Exempt";
        let limits = if exempt { &spec["exempt"] } else { &spec["limited"] };
        let share = |key: &str| limits[key].as_u64().and_then(|n| usize::try_from(n).ok());
        let shares = share("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { SHARES });
        let (lendable, borrowing) = (share("lendablePercent").unwrap_or(0), share("borrowingLimitPercent"));
        let limited = &spec["limited"];
        let queuing = &limited["limitResponse"]["queuing"];
        let number = |key: &str, default: usize| {
            queuing[key].as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
        };
        let waits = !exempt && limited["limitResponse"]["type"] == "Queue";
        let queuing = waits.then(|| Queuing {
            queues: number("queues", 64),
            hand: number("handSize", 8),
            length: number("queueLengthLimit", 50),
        });
        Self { uid, exempt, shares, lendable: lendable.min(100), borrowing, queuing }
    }
}

/// Everything that was configured.
#[derive(Clone, Debug, Default)]
pub(super) struct Objects {
    schemas: BTreeMap<String, Arc<Schema>>,
    pub(super) levels: BTreeMap<String, LevelSpec>,
}

impl Objects {
    /// The schemas in the order in which they are asked. The first and the last are always there, so that an administrator
    /// gets in and every request falls somewhere.
    pub(super) fn in_order(&self) -> Vec<Arc<Schema>> {
        let mut all: Vec<Arc<Schema>> = self.schemas.values().cloned().collect();
        if !self.schemas.contains_key(EXEMPT) {
            all.push(Arc::new(Schema::fixed(EXEMPT, 1, Rule::group(crate::user::MASTERS))));
        }
        all.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        all.push(Arc::new(Schema::fixed(CATCH_ALL, i64::MAX, Rule::everything())));
        all
    }

    /// The levels, those among them that are always there.
    pub(super) fn all_levels(&self) -> BTreeMap<String, LevelSpec> {
        let mut all = self.levels.clone();
        let fixed = |exempt, shares| LevelSpec {
            uid: String::new(),
            exempt,
            shares,
            lendable: 0,
            borrowing: None,
            queuing: None,
        };
        all.entry(EXEMPT.to_owned()).or_insert_with(|| fixed(true, 0));
        all.entry(CATCH_ALL.to_owned()).or_insert_with(|| fixed(false, CATCH_ALL_SHARES));
        all
    }
}

impl View for Objects {
    const PREFIXES: &'static [&'static str] = &[SCHEMAS, LEVELS];

    fn put(&mut self, record: &Record) {
        let Ok(object) = serde_json::from_slice::<Value>(&record.value) else { return };
        if let Some(name) = record.key.strip_prefix(SCHEMAS) {
            self.schemas.insert(name.to_owned(), Arc::new(Schema::read(&object)));
        } else if let Some(name) = record.key.strip_prefix(LEVELS) {
            self.levels.insert(name.to_owned(), LevelSpec::read(&object));
        }
    }

    fn remove(&mut self, record: &Record) {
        if let Some(name) = record.key.strip_prefix(SCHEMAS) {
            self.schemas.remove(name);
        } else if let Some(name) = record.key.strip_prefix(LEVELS) {
            self.levels.remove(name);
        }
    }
}
