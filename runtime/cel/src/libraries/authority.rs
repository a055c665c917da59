//! Questions to the authorizer.

use std::sync::Arc;

use super::{Authority, Result};
use crate::eval::Host;
use crate::value::Value;

pub(super) fn of_authority<'a>(host: Option<&dyn Host>, name: &str, values: &[Value<'a>]) -> Option<Result<Value<'a>>> {
    let Value::Authority(asked) = values.first()? else { return None };
    let text = |at: usize| values.get(at).and_then(Value::as_text).map(str::to_owned);
    let with = |change: &dyn Fn(&mut Authority)| {
        let mut next = (**asked).clone();
        change(&mut next);
        Ok(Value::Authority(Arc::new(next)))
    };
    Some(match (name, values.len()) {
        ("path", 2) => with(&|a| a.path = text(1)),
        ("group", 2) => with(&|a| a.group = text(1).unwrap_or_default()),
        ("resource", 2) => with(&|a| a.resource = text(1).unwrap_or_default()),
        ("subresource", 2) => with(&|a| a.subresource = text(1).unwrap_or_default()),
        ("namespace", 2) => with(&|a| a.namespace = text(1).unwrap_or_default()),
        ("name", 2) => with(&|a| a.name = text(1).unwrap_or_default()),
        ("serviceAccount", 3) => with(&|a| a.account = text(1).zip(text(2))),
        ("fieldSelector" | "labelSelector", 2) => with(&|_| {}),
        ("check", 2) => {
            let mut next = (**asked).clone();
            next.verb = text(1).unwrap_or_default();
            let answer = match host {
                Some(host) => host.authorize(&next),
                None => Err("there is no authorizer here".into()),
            };
            next.answer = Some(answer);
            Ok(Value::Authority(Arc::new(next)))
        }
        ("allowed", 1) => Ok(Value::Bool(matches!(asked.answer, Some(Ok((true, _)))))),
        ("errored", 1) => Ok(Value::Bool(matches!(asked.answer, Some(Err(_))))),
        ("reason", 1) => Ok(Value::text(match &asked.answer {
            Some(Ok((_, reason))) => reason.clone(),
            _ => String::new(),
        })),
        ("error", 1) => Ok(Value::text(match &asked.answer {
            Some(Err(why)) => why.clone(),
            _ => String::new(),
        })),
        _ => return None,
    })
}
