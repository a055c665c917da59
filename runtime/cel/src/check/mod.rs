//! Types and costs of an expression, found in one walk.

mod calls;

use std::sync::Arc;

use calls::{is_function, price, result};

use crate::Fault;
use crate::cost::Size;
use crate::expr::{Expr, Fold, FoldKind, Node};
use crate::functions::{qualified, type_named};
use crate::types::{ObjectType, Type};
use crate::value::Value;

/// The variable that has another one with its name and a dot.
pub(crate) const AUTHORIZER: &str = "authorizer";
/// A variable of this name lets expressions make messages, as mutations do.
pub const MESSAGES: &str = "@messages";

/// The type of an expression and what it may cost, or what is wrong with it.
pub(crate) fn check(root: &Node, variables: &[(&str, Type)]) -> Result<(Type, u64), Vec<Fault>> {
    let names = variables.iter().map(|(name, ty)| ((*name).to_owned(), ty.clone())).collect();
    let mut check = Check { names, faults: Vec::new() };
    let found = check.node(root);
    if check.faults.is_empty() { Ok((found.ty, found.cost)) } else { Err(check.faults) }
}

struct Check {
    names: Vec<(String, Type)>,
    faults: Vec<Fault>,
}

/// What is known of a node.
struct Found {
    ty: Type,
    cost: u64,
}

impl Found {
    fn new(ty: Type, cost: u64) -> Self {
        Self { ty, cost }
    }

    fn size(&self) -> u64 {
        size(&self.ty)
    }
}

fn size(ty: &Type) -> u64 {
    match ty {
        Type::Text(size) | Type::Bytes(size) | Type::List(_, size) | Type::Map(_, size) => size.0,
        Type::Dyn => u64::MAX,
        _ => 1,
    }
}

impl Check {
    fn fault(&mut self, at: usize, what: impl Into<String>) -> Type {
        self.faults.push(Fault::new(at, what));
        Type::Dyn
    }

    fn known(&self, name: &str) -> Option<&Type> {
        self.names.iter().rev().find(|(n, _)| n == name).map(|(_, ty)| ty)
    }

    /// The type of a variable whose name has a dot, `authorizer.requestResource`.
    fn whole(&self, node: &Node) -> Option<&Type> {
        match &node.expr {
            Expr::Select { operand, field, .. } if matches!(&operand.expr, Expr::Name(n) if &**n == AUTHORIZER) => {
                self.known(&format!("{AUTHORIZER}.{field}"))
            }
            _ => None,
        }
    }

    fn node(&mut self, node: &Node) -> Found {
        match &node.expr {
            Expr::Literal(value) => Found::new(literal(value), 0),
            Expr::Name(name) => match self.known(name) {
                Some(ty) => Found::new(ty.clone(), 1),
                None if type_named(name).is_some() => Found::new(Type::Type, 0),
                None => {
                    Found::new(self.fault(node.at, format!("undeclared reference to '{name}' (in container '')")), 1)
                }
            },
            Expr::Select { .. } if self.whole(node).is_some() => {
                Found::new(self.whole(node).cloned().unwrap_or(Type::Dyn), 1)
            }
            Expr::Select { operand, field, optional } => {
                let of = self.node(operand);
                let ty = self.field(node.at, &of.ty, field);
                let ty = match (&of.ty, optional) {
                    (Type::Optional(_), _) | (_, true) if !matches!(ty, Type::Optional(_)) => {
                        Type::Optional(Arc::new(ty))
                    }
                    _ => ty,
                };
                Found::new(ty, of.cost.saturating_add(1))
            }
            Expr::Has { operand, field } => {
                let of = self.node(operand);
                self.field(node.at, &of.ty, field);
                Found::new(Type::Bool, of.cost.saturating_add(1))
            }
            Expr::Index { operand, index, optional } => {
                let (of, at) = (self.node(operand), self.node(index));
                let ty = self.index(node.at, &of.ty, &at.ty);
                let ty = match (&of.ty, optional) {
                    (Type::Optional(_), _) | (_, true) => Type::Optional(Arc::new(ty)),
                    _ => ty,
                };
                Found::new(ty, of.cost.saturating_add(at.cost).saturating_add(1))
            }
            Expr::And(a, b) | Expr::Or(a, b) => {
                let sign = if matches!(node.expr, Expr::And(..)) { "_&&_" } else { "_||_" };
                let (a, b) = (self.node(a), self.node(b));
                if !a.ty.fits(&Type::Bool) || !b.ty.fits(&Type::Bool) {
                    self.fault(node.at, no_overload(sign, None, &[a.ty, b.ty]));
                }
                Found::new(Type::Bool, a.cost.saturating_add(b.cost))
            }
            Expr::Choose(all) => {
                let [condition, yes, no] = &**all;
                let (c, a, b) = (self.node(condition), self.node(yes), self.node(no));
                if !c.ty.fits(&Type::Bool) || !a.ty.fits(&b.ty) {
                    self.fault(node.at, no_overload("_?_:_", None, &[c.ty.clone(), a.ty.clone(), b.ty.clone()]));
                }
                let cost = c.cost.saturating_add(a.cost.max(b.cost));
                Found::new(joined(a.ty, b.ty), cost)
            }
            Expr::Call { name, target, args } => self.call(node.at, name, target.as_deref(), args),
            Expr::List(items) => {
                let mut cost = 10_u64;
                let mut of: Option<Type> = None;
                for (item, _) in items {
                    let found = self.node(item);
                    cost = cost.saturating_add(found.cost);
                    of = Some(of.map_or(found.ty.clone(), |of| joined(of, found.ty)));
                }
                Found::new(Type::List(Arc::new(of.unwrap_or(Type::Dyn)), Size(items.len() as u64)), cost)
            }
            Expr::Map(entries) => {
                let mut cost = 30_u64;
                let mut of: Option<(Type, Type)> = None;
                for (key, value, _) in entries {
                    let (k, v) = (self.node(key), self.node(value));
                    cost = cost.saturating_add(k.cost).saturating_add(v.cost);
                    of = Some(match of {
                        None => (k.ty, v.ty),
                        Some((a, b)) => (joined(a, k.ty), joined(b, v.ty)),
                    });
                }
                let of = of.unwrap_or((Type::Dyn, Type::Dyn));
                Found::new(Type::Map(Arc::new(of), Size(entries.len() as u64)), cost)
            }
            Expr::Message { name, fields } => {
                let mut cost = 40_u64;
                for (_, value, _) in fields {
                    cost = cost.saturating_add(self.node(value).cost);
                }
                let known = name.split('.').next() == Some("Object") || &**name == "JSONPatch";
                if self.known(MESSAGES).is_none() || !known {
                    self.fault(node.at, format!("undeclared reference to '{name}' (in container '')"));
                }
                let ty = ObjectType { name: name.to_string(), fields: Vec::new(), open: true };
                Found::new(Type::Object(Arc::new(ty)), cost)
            }
            Expr::Fold(fold) => self.fold(fold),
            Expr::OptMap { target, variable, body, flat } => {
                let of = self.node(target);
                let inner = match &of.ty {
                    Type::Optional(inner) => (**inner).clone(),
                    Type::Dyn => Type::Dyn,
                    other => self.fault(node.at, no_overload("optMap", Some(other), &[])),
                };
                self.names.push((variable.to_string(), inner));
                let body = self.node(body);
                self.names.pop();
                let ty = if *flat { body.ty } else { Type::Optional(Arc::new(body.ty)) };
                Found::new(ty, of.cost.saturating_add(body.cost).saturating_add(1))
            }
        }
    }

    fn field(&mut self, at: usize, of: &Type, field: &str) -> Type {
        match of {
            Type::Object(ty) => match ty.field(field) {
                Some(found) => found.ty.clone(),
                None if ty.open => Type::Dyn,
                None => self.fault(at, format!("undefined field '{field}'")),
            },
            Type::Map(of, _) => of.1.clone(),
            Type::Optional(inner) => self.field(at, inner, field),
            Type::Dyn => Type::Dyn,
            other => self.fault(at, format!("type '{other}' does not support field selection")),
        }
    }

    fn index(&mut self, at: usize, of: &Type, index: &Type) -> Type {
        match of {
            Type::List(inner, _) if index.fits(&Type::Int) => (**inner).clone(),
            Type::Map(inner, _) if index.fits(&inner.0) => inner.1.clone(),
            Type::Object(_) if index.fits(&Type::TEXT) => Type::Dyn,
            Type::Optional(inner) => self.index(at, inner, index),
            Type::Dyn => Type::Dyn,
            other => self.fault(at, no_overload("_[_]", None, &[other.clone(), index.clone()])),
        }
    }

    fn fold(&mut self, fold: &Fold) -> Found {
        let range = self.node(&fold.range);
        let rounds = range.size();
        let (first, second) = match (&range.ty, &fold.second) {
            (Type::List(of, _), Some(_)) => (Type::Int, (**of).clone()),
            (Type::Map(of, _), _) => (of.0.clone(), of.1.clone()),
            (Type::Object(_), _) => (Type::TEXT, Type::Dyn),
            (Type::List(of, _), None) => ((**of).clone(), Type::Dyn),
            (Type::Dyn, _) => (Type::Dyn, Type::Dyn),
            (other, _) => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                (self.fault(fold.range.at, why), Type::Dyn)
            }
        };
        let depth = self.names.len();
        self.names.push((fold.first.to_string(), first.clone()));
        if let Some(name) = &fold.second {
            self.names.push((name.to_string(), second));
        }
        let filter = fold.filter.as_ref().map(|f| self.node(f));
        let body = self.node(&fold.body);
        self.names.truncate(depth);
        let decides = matches!(fold.kind, FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne | FoldKind::Filter);
        let filter_type = filter.as_ref().map_or(Type::Bool, |f| f.ty.clone());
        if !filter_type.fits(&Type::Bool) || (decides && !body.ty.fits(&Type::Bool)) {
            let found = if decides { body.ty.clone() } else { filter_type };
            self.fault(fold.body.at, format!("expected type 'bool' but found '{found}'"));
        }
        let round = body.cost.saturating_add(filter.map_or(0, |f| f.cost)).saturating_add(3);
        let more = if matches!(fold.kind, FoldKind::Map | FoldKind::Filter) { 11 } else { 0 };
        let cost = range.cost.saturating_add(rounds.saturating_mul(round.saturating_add(more))).saturating_add(1);
        let ty = match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => Type::Bool,
            FoldKind::Filter => Type::List(Arc::new(first), Size(rounds)),
            FoldKind::Map => Type::List(Arc::new(body.ty), Size(rounds)),
            FoldKind::MapValues => Type::Map(Arc::new((first, body.ty)), Size(rounds)),
            FoldKind::MapEntries => Type::Dyn,
        };
        Found::new(ty, cost)
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&Node>, args: &[Node]) -> Found {
        let dotted = target.and_then(Node::dotted);
        let free = dotted.as_deref().is_some_and(|d| self.known(d.split('.').next().unwrap_or_default()).is_none());
        let whole = dotted.as_deref().filter(|_| free).and_then(|d| qualified(d, name));
        let target = target.filter(|_| whole.is_none()).map(|t| self.node(t));
        let args: Vec<Found> = args.iter().map(|a| self.node(a)).collect();
        let mut cost = target.as_ref().map_or(0, |t| t.cost);
        cost = args.iter().fold(cost, |sum, a| sum.saturating_add(a.cost));
        let sizes: Vec<u64> = target.iter().chain(&args).map(Found::size).collect();
        cost = cost.saturating_add(price(whole.unwrap_or(name), &sizes));
        let name = whole.unwrap_or(name);
        let types: Vec<Type> = args.into_iter().map(|a| a.ty).collect();
        let of = target.map(|t| t.ty);
        let ty = match result(name, of.as_ref(), &types) {
            Some(ty) => ty,
            None if is_function(name) => self.fault(at, no_overload(name, of.as_ref(), &types)),
            None => self.fault(at, format!("undeclared reference to '{name}' (in container '')")),
        };
        Found::new(ty, cost)
    }
}

fn no_overload(name: &str, target: Option<&Type>, args: &[Type]) -> String {
    let args = args.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let target = target.map(|t| format!("{t}.")).unwrap_or_default();
    format!("found no matching overload for '{name}' applied to '{target}({args})'")
}

fn literal(value: &Value<'_>) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::Text(text) => Type::Text(Size(text.chars().count() as u64)),
        Value::Bytes(bytes) => Type::Bytes(Size(bytes.len() as u64)),
        _ => Type::Dyn,
    }
}

/// A type that has the values of both.
fn joined(a: Type, b: Type) -> Type {
    match (&a, &b) {
        (Type::Text(x), Type::Text(y)) => Type::Text(Size(x.0.max(y.0))),
        (Type::Null, _) => b,
        (_, Type::Null) => a,
        _ if a.fits(&b) && a != Type::Dyn => a,
        _ => Type::Dyn,
    }
}
