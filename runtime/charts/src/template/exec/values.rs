//! What pipelines, commands and operands come to.

use std::rc::Rc;

use super::{Engine, Run, fault};
use crate::functions::{self, Function};
use crate::template::node::{Expr, Pipe, What, command_text};
use crate::value::Value;

impl Engine<'_> {
    pub(super) fn pipe(&mut self, run: &mut Run<'_>, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(run, command, dot, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        for name in &pipe.variables {
            if pipe.assigns {
                assign(run, name, &value);
            } else {
                run.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    /// `last` is what the command before it gave.
    fn command(
        &mut self,
        run: &mut Run<'_>,
        command: &[Expr],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        self.step()?;
        let (first, rest) = (&command[0], &command[1..]);
        match &first.what {
            What::Function(name, function) => return self.call(run, command, name, function, dot, last),
            What::Field(names) => return self.fields(run, first, dot, names, (rest, last), dot),
            What::Variable(names) if names.len() > 1 => {
                let value = variable(run, &names[0]);
                return self.fields(run, first, &value, &names[1..], (rest, last), dot);
            }
            What::Chain(inner, names) => {
                let value = self.value(run, inner, dot)?;
                return self.fields(run, first, &value, names, (rest, last), dot);
            }
            What::Nil => return Err(fault(run, first.at, "nil", "nil is not a command")),
            _ => {}
        }
        if !rest.is_empty() || last.is_some() {
            let what = format!("can't give argument to non-function {first}");
            return Err(fault(run, first.at, &first.to_string(), &what));
        }
        self.value(run, first, dot)
    }

    /// An argument's value.
    fn value(&mut self, run: &mut Run<'_>, expr: &Expr, dot: &Value) -> Result<Value, String> {
        Ok(match &expr.what {
            What::Dot => dot.clone(),
            What::Nil => Value::Nil,
            What::Bool(value) => Value::Bool(*value),
            What::Int(value, _) => Value::Int(*value),
            What::Float(value, _) => Value::Float(*value),
            What::Text(text, _) => Value::Str(text.clone()),
            What::Field(names) => self.fields(run, expr, dot, names, (&[], None), dot)?,
            What::Variable(names) => {
                let value = variable(run, &names[0]);
                match names.len() {
                    1 => value,
                    _ => self.fields(run, expr, &value, &names[1..], (&[], None), dot)?,
                }
            }
            What::Chain(inner, names) => {
                let value = self.value(run, inner, dot)?;
                self.fields(run, expr, &value, names, (&[], None), dot)?
            }
            What::Function(name, function) => self.call(run, std::slice::from_ref(expr), name, function, dot, None)?,
            What::Pipe(pipe) => self.pipe(run, pipe, dot)?,
        })
    }

    /// `.a.b` of a value; the last may be a method, which takes the arguments.
    fn fields(
        &mut self,
        run: &mut Run<'_>,
        expr: &Expr,
        receiver: &Value,
        names: &[Rc<str>],
        (arguments, last): (&[Expr], Option<Value>),
        dot: &Value,
    ) -> Result<Value, String> {
        let mut value = receiver.clone();
        let mut given = Vec::new();
        for argument in arguments {
            given.push(self.value(run, argument, dot)?);
        }
        given.extend(last);
        for (at, name) in names.iter().enumerate() {
            let is_last = at + 1 == names.len();
            let told = |run: &Run<'_>, what: &str| Err(fault(run, expr.at, &expr.to_string(), what));
            value = match &value {
                // Nothing at all has no fields, and nobody minds; a field that is not there is another matter.
                Value::Nil if at == 0 => return Ok(Value::Nil),
                Value::Nil => return told(run, &format!("nil pointer evaluating interface {{}}.{name}")),
                Value::Map(map) => {
                    if is_last && !given.is_empty() {
                        return told(run, &format!("{name} is not a method but has arguments"));
                    }
                    map.borrow().get(name).cloned().unwrap_or(Value::Nil)
                }
                Value::Object(object) => {
                    let given = if is_last { std::mem::take(&mut given) } else { Vec::new() };
                    match functions::method(object, name, given) {
                        Some(Ok(value)) => value,
                        Some(Err(error)) => return told(run, &format!("error calling {name}: {error}")),
                        None => {
                            return told(run, &format!("can't evaluate field {name} in type {}", value.type_name()));
                        }
                    }
                }
                other => {
                    // What came out of a map is anything to Go.
                    let kind = if at > 0 { "interface {}" } else { other.type_name() };
                    return told(run, &format!("can't evaluate field {name} in type {kind}"));
                }
            };
        }
        Ok(value)
    }

    fn call(
        &mut self,
        run: &mut Run<'_>,
        command: &[Expr],
        name: &Rc<str>,
        function: &Function,
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, String> {
        let arguments = &command[1..];
        // These look at no more than they need.
        if let Function::And | Function::Or = function {
            let stops = |value: &Value| value.is_true() == matches!(function, Function::Or);
            let mut value = None;
            for argument in arguments {
                let next = self.value(run, argument, dot)?;
                let stop = stops(&next);
                value = Some(next);
                if stop {
                    break;
                }
            }
            return match (value, last) {
                (Some(value), _) if stops(&value) => Ok(value),
                (_, Some(last)) => Ok(last),
                (Some(value), None) => Ok(value),
                (None, None) => {
                    let what = format!("wrong number of args for {name}: want at least 1 got 0");
                    Err(fault(run, command[0].at, &command_text(command), &what))
                }
            };
        }
        let mut given = Vec::with_capacity(arguments.len() + 1);
        for argument in arguments {
            given.push(self.value(run, argument, dot)?);
        }
        given.extend(last);
        let made = match function {
            Function::Plain(function) => function(&given),
            Function::Engine(function) => function(self, &given),
            Function::And | Function::Or => Ok(Value::Nil),
        };
        let made = match made {
            Ok(value) => value,
            Err(error) => {
                let what = match error.strip_prefix(functions::WRONG) {
                    // The call itself is wrong, not what it does.
                    Some(what) => what.replace("{name}", name),
                    None => format!("error calling {name}: {error}"),
                };
                let context = if what.starts_with("wrong number") { name.to_string() } else { command_text(command) };
                return Err(fault(run, command[0].at, &context, &what));
            }
        };
        if let Value::Str(text) = &made {
            self.spend(text.len())?;
        }
        Ok(made)
    }
}

fn variable(run: &Run<'_>, name: &str) -> Value {
    run.variables.iter().rev().find(|(known, _)| &**known == name).map_or(Value::Nil, |(_, value)| value.clone())
}

pub(super) fn assign(run: &mut Run<'_>, name: &str, value: &Value) {
    if let Some((_, known)) = run.variables.iter_mut().rev().find(|(known, _)| &**known == name) {
        *known = value.clone();
    }
}
