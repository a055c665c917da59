//! Running an expression.

use std::sync::Arc;

use crate::check::AUTHORIZER;
use crate::expr::{Expr, Fold, FoldKind, Node};
use crate::functions;
use crate::value::Value;

/// Why a run gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The expression can't be evaluated on these values.
    #[error("{0}")]
    Failed(String),
    /// The budget is spent.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
}

impl EvalError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }
}

/// Answers what expressions ask beyond their values.
pub trait Host {
    /// Whether the user of the request may do something: for `authorizer`.
    fn authorize(&self, question: &crate::libraries::Authority) -> Result<(bool, String), String>;
}

/// One run.
pub(crate) struct Run<'a, 'v> {
    names: Vec<(&'v str, Value<'a>)>,
    host: Option<&'v dyn Host>,
    limit: u64,
    spent: u64,
}

impl<'a: 'v, 'v> Run<'a, 'v> {
    pub(crate) fn new(variables: &[(&'v str, Value<'a>)], host: Option<&'v dyn Host>, limit: u64) -> Self {
        Self { names: variables.to_vec(), host, limit, spent: 0 }
    }

    pub(crate) fn spent(&self) -> u64 {
        self.spent
    }

    pub(crate) fn host(&self) -> Option<&'v dyn Host> {
        self.host
    }

    /// Pays for something.
    pub(crate) fn pay(&mut self, cost: u64) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(EvalError::TooCostly) } else { Ok(()) }
    }

    fn name(&self, name: &str) -> Option<Value<'a>> {
        self.names.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| v.clone())
    }

    pub(crate) fn value(&mut self, node: &'a Node) -> Result<Value<'a>, EvalError> {
        match &node.expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Name(name) => {
                self.pay(1)?;
                let found = self.name(name).or_else(|| functions::type_named(name));
                found.ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
            }
            Expr::Select { operand, field, .. } if matches!(&operand.expr, Expr::Name(n) if &**n == AUTHORIZER) => {
                self.pay(1)?;
                let name = format!("{AUTHORIZER}.{field}");
                self.name(&name).ok_or_else(|| EvalError::new(format!("no such attribute(s): {name}")))
            }
            Expr::Select { operand, field, optional } => self.select(operand, field, *optional),
            Expr::Has { operand, field } => {
                let found = self.value(operand)?;
                self.pay(1)?;
                match found {
                    Value::Optional(inner) => Ok(Value::Bool(inner.is_some_and(|inner| inner.member(field).is_some()))),
                    found => Ok(Value::Bool(found.member(field).is_some_and(|v| !matches!(v, Ok(Value::Null))))),
                }
            }
            Expr::Index { operand, index, optional } => {
                let (of, at) = (self.value(operand)?, self.value(index)?);
                self.pay(1)?;
                functions::index(&of, &at, *optional)
            }
            Expr::And(a, b) => self.both(a, b, false),
            Expr::Or(a, b) => self.both(a, b, true),
            Expr::Choose(all) => {
                let [condition, yes, no] = &**all;
                match self.value(condition)? {
                    Value::Bool(true) => self.value(yes),
                    Value::Bool(false) => self.value(no),
                    other => Err(no_overload("_?_:_", &[other])),
                }
            }
            Expr::Call { name, target, args } => {
                let mut values = Vec::with_capacity(args.len() + 1);
                if let Some(target) = target {
                    // A name with dots may be that of a function.
                    let dotted = target.dotted().filter(|d| {
                        // A variable comes before a function of the same name.
                        self.name(d.split('.').next().unwrap_or_default()).is_none()
                    });
                    if let Some(found) = dotted.and_then(|d| functions::qualified(&d, name)) {
                        for arg in args {
                            values.push(self.value(arg)?);
                        }
                        return functions::call(self, found, values, false);
                    }
                    values.push(self.value(target)?);
                }
                for arg in args {
                    values.push(self.value(arg)?);
                }
                functions::call(self, name, values, target.is_some())
            }
            Expr::List(items) => {
                self.pay(10)?;
                let mut out = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.value(item)?, optional) {
                        (Value::Optional(value), true) => out.extend(value.map(|v| (*v).clone())),
                        (value, _) => out.push(value),
                    }
                }
                Ok(Value::list(out))
            }
            Expr::Map(entries) => {
                self.pay(30)?;
                let mut out = Vec::with_capacity(entries.len());
                for (key, value, optional) in entries {
                    let key = self.value(key)?;
                    match (self.value(value)?, optional) {
                        (Value::Optional(value), true) => out.extend(value.map(|v| (key, (*v).clone()))),
                        (value, _) => out.push((key, value)),
                    }
                }
                Ok(Value::Map(Arc::new(out)))
            }
            Expr::Message { name, fields } => {
                self.pay(40)?;
                let mut out = Vec::with_capacity(fields.len());
                for (field, value, optional) in fields {
                    match (self.value(value)?, optional) {
                        (Value::Optional(value), true) => out.extend(value.map(|v| (field.clone(), (*v).clone()))),
                        (value, _) => out.push((field.clone(), value)),
                    }
                }
                Ok(Value::Message(name.clone(), Arc::new(out)))
            }
            Expr::Fold(fold) => self.fold(fold),
            Expr::OptMap { target, variable, body, flat } => match self.value(target)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(value)) => {
                    self.names.push((variable, (*value).clone()));
                    let result = self.value(body);
                    self.names.pop();
                    let result = result?;
                    Ok(if *flat { result } else { Value::Optional(Some(Arc::new(result))) })
                }
                other => Err(no_overload("optMap", &[other])),
            },
        }
    }

    fn select(&mut self, operand: &'a Node, field: &str, optional: bool) -> Result<Value<'a>, EvalError> {
        let found = self.value(operand)?;
        self.pay(1)?;
        let missing = || EvalError::new(format!("no such key: {field}"));
        let wrap = |value: Option<Value<'a>>| Value::Optional(value.map(Arc::new));
        match found {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => Ok(wrap(inner.member(field).transpose()?)),
            found if optional => Ok(wrap(found.member(field).transpose()?)),
            found => match found.member(field) {
                Some(value) => value,
                None if found.entries().is_some() || matches!(found, Value::Results(_)) => Err(missing()),
                None => Err(EvalError::new(format!("unexpected type '{}' for field selection", found.type_name()))),
            },
        }
    }

    /// `&&` and `||`, whose sides may come in any order: an error on one side does not matter if the other decides.
    fn both(&mut self, a: &'a Node, b: &'a Node, decides: bool) -> Result<Value<'a>, EvalError> {
        let left = self.value(a);
        if matches!(left, Err(EvalError::TooCostly)) || matches!(&left, Ok(Value::Bool(yes)) if *yes == decides) {
            return left;
        }
        let right = self.value(b);
        if matches!(&right, Ok(Value::Bool(yes)) if *yes == decides) {
            return right;
        }
        let sign = if decides { "_||_" } else { "_&&_" };
        match (left?, right?) {
            (Value::Bool(_), Value::Bool(_)) => Ok(Value::Bool(!decides)),
            (a, b) => Err(no_overload(sign, &[a, b])),
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>, EvalError> {
        let range = self.value(&fold.range)?;
        let rounds: Vec<(Value<'a>, Option<Value<'a>>)> = match (range.items(), range.entries()) {
            (Some(items), _) if fold.second.is_some() => {
                items.into_iter().zip(0..).map(|(v, at)| (Value::Int(at), Some(v))).collect()
            }
            (Some(items), _) => items.into_iter().map(|v| (v, None)).collect(),
            (_, Some(entries)) => entries.into_iter().map(|(k, v)| (k, Some(v))).collect(),
            _ => return Err(EvalError::new(format!("got '{}', expected iterable type", range.type_name()))),
        };
        let mut list = Vec::new();
        let mut map = Vec::new();
        let mut found = 0;
        let mut failed = None;
        for (first, second) in rounds {
            self.pay(2)?;
            let depth = self.names.len();
            self.names.push((&fold.first, first.clone()));
            if let (Some(name), Some(value)) = (&fold.second, second) {
                self.names.push((name, value));
            }
            let outcome = self.round(fold);
            self.names.truncate(depth);
            let value = match outcome {
                Err(EvalError::TooCostly) => return Err(EvalError::TooCostly),
                // What decides all may still come.
                Err(error) if matches!(fold.kind, FoldKind::All | FoldKind::Exists) => {
                    failed.get_or_insert(error);
                    continue;
                }
                outcome => outcome?,
            };
            match (fold.kind, value) {
                (_, None) => {}
                (FoldKind::All, Some(Value::Bool(false))) => return Ok(Value::Bool(false)),
                (FoldKind::Exists, Some(Value::Bool(true))) => return Ok(Value::Bool(true)),
                (FoldKind::ExistsOne, Some(Value::Bool(yes))) => found += usize::from(yes),
                (FoldKind::Filter, Some(Value::Bool(yes))) => list.extend(yes.then_some(first)),
                (FoldKind::All | FoldKind::Exists, Some(Value::Bool(_))) => {}
                (FoldKind::Map, Some(value)) => list.push(value),
                (FoldKind::MapValues, Some(value)) => map.push((first, value)),
                (FoldKind::MapEntries, Some(value)) => map.extend(value.entries().unwrap_or_default()),
                (_, Some(other)) => return Err(no_overload("@not_strictly_false", &[other])),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(found == 1),
            FoldKind::Filter | FoldKind::Map => Value::list(list),
            FoldKind::MapValues | FoldKind::MapEntries => Value::Map(Arc::new(map)),
        })
    }

    /// What the body gives, unless the filter keeps it out.
    fn round(&mut self, fold: &'a Fold) -> Result<Option<Value<'a>>, EvalError> {
        if let Some(filter) = &fold.filter {
            match self.value(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(None),
                other => return Err(no_overload("_?_:_", &[other])),
            }
        }
        self.value(&fold.body).map(Some)
    }
}

pub(crate) fn no_overload(name: &str, values: &[Value<'_>]) -> EvalError {
    let types: Vec<&str> = values.iter().map(Value::type_name).collect();
    EvalError::new(format!("no such overload: {name}({})", types.join(", ")))
}
