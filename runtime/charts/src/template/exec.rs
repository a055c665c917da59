//! Carries a template out.

use std::collections::HashMap;
use std::rc::Rc;

use super::node::{Expr, Node, Pipe, Template, What, command_text};
use super::parse::{is_empty, parse};
use crate::functions::{self, Function};
use crate::host::Host;
use crate::value::{Object, Value};

/// What a run may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How deep templates may call each other.
    pub(crate) depth: usize,
    /// Steps.
    pub(crate) steps: u64,
    /// Bytes of all texts that functions and templates make.
    pub(crate) bytes: usize,
}

/// How often a template may be within itself, as Helm has it.
const NESTED: usize = 1000;

/// Templates by name.
pub(crate) type Templates = HashMap<Rc<str>, Rc<Template>>;

/// Runs templates.
pub(crate) struct Engine<'h> {
    pub(crate) host: &'h dyn Host,
    templates: Rc<Templates>,
    limits: Limits,
    depth: usize,
    included: HashMap<Rc<str>, usize>,
}

/// A template at work.
struct Run<'a> {
    template: &'a Template,
    variables: Vec<(Rc<str>, Value)>,
}

/// How a list of nodes ended.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'h> Engine<'h> {
    pub(crate) fn new(host: &'h dyn Host, limits: Limits) -> Self {
        Self { host, templates: Rc::default(), limits, depth: 0, included: HashMap::new() }
    }

    /// Adds a text's templates. Of two of one name the later holds, unless it is empty.
    pub(crate) fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let parsed = parse(name, text)?;
        let templates = Rc::make_mut(&mut self.templates);
        for template in parsed {
            if !(is_empty(&template.body) && templates.contains_key(&template.name)) {
                templates.insert(template.name.clone(), template);
            }
        }
        Ok(())
    }

    /// What a template makes of a value.
    pub(crate) fn execute(&mut self, name: &str, dot: &Value) -> Result<String, String> {
        let Some(template) = self.templates.get(name).cloned() else {
            return Err(format!("template: no template {name:?} associated with template \"gotpl\""));
        };
        let mut out = String::new();
        self.run(&template, dot, &mut out)?;
        Ok(out)
    }

    /// `include`.
    pub(crate) fn include(&mut self, name: &str, dot: &Value) -> Result<String, String> {
        let count = self.included.entry(name.into()).or_default();
        if *count > NESTED {
            let text = "rendering template has a nested reference name";
            return Err(format!("{text}: {name}: unable to execute template"));
        }
        *count += 1;
        let made = self.execute(name, dot);
        if let Some(count) = self.included.get_mut(name) {
            *count -= 1;
        }
        made
    }

    /// `tpl`: what a text makes of a value. Templates that it defines are there within it.
    pub(crate) fn tpl(&mut self, text: &str, dot: &Value) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut parsed =
            parse("gotpl", text).map_err(|error| format!("cannot parse template {text:?}: {error}"))?.into_iter();
        let Some(template) = parsed.next() else { return Ok(String::new()) };
        let before = self.templates.clone();
        for template in parsed {
            Rc::make_mut(&mut self.templates).insert(template.name.clone(), template);
        }
        let mut out = String::new();
        let run = self.run(&template, dot, &mut out);
        self.templates = before;
        run.map_err(|error| format!("error during tpl function execution for {text:?}: {error}"))?;
        Ok(out.replace("<no value>", ""))
    }

    /// Counts what a text takes.
    pub(crate) fn spend(&mut self, bytes: usize) -> Result<(), String> {
        self.limits.bytes = self.limits.bytes.checked_sub(bytes).ok_or("the templates make too much text")?;
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.limits.steps = self.limits.steps.checked_sub(1).ok_or("the templates take too many steps")?;
        Ok(())
    }

    fn run(&mut self, template: &Template, dot: &Value, out: &mut String) -> Result<(), String> {
        if self.depth >= self.limits.depth {
            return Err(format!("exceeded maximum template depth ({})", self.limits.depth));
        }
        self.depth += 1;
        let mut run = Run { template, variables: vec![("$".into(), dot.clone())] };
        let done = self.nodes(&mut run, &template.body, dot, out);
        self.depth -= 1;
        done.map(drop)
    }

    fn nodes(&mut self, run: &mut Run<'_>, nodes: &[Node], dot: &Value, out: &mut String) -> Result<Flow, String> {
        for node in nodes {
            self.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.spend(text.len())?;
                    out.push_str(text);
                    Flow::On
                }
                Node::Action(pipe) => {
                    let value = self.pipe(run, pipe, dot)?;
                    if pipe.variables.is_empty() {
                        let text = match &value {
                            Value::Nil => "<no value>".to_owned(),
                            value => value.to_string(),
                        };
                        self.spend(text.len())?;
                        out.push_str(&text);
                    }
                    Flow::On
                }
                Node::If(pipe, body, otherwise) => {
                    let mark = run.variables.len();
                    let is_true = self.pipe(run, pipe, dot)?.is_true();
                    let flow = self.nodes(run, if is_true { body } else { otherwise }, dot, out)?;
                    run.variables.truncate(mark);
                    flow
                }
                Node::With(pipe, body, otherwise) => {
                    let mark = run.variables.len();
                    let value = self.pipe(run, pipe, dot)?;
                    let flow = match value.is_true() {
                        true => self.nodes(run, body, &value, out)?,
                        false => self.nodes(run, otherwise, dot, out)?,
                    };
                    run.variables.truncate(mark);
                    flow
                }
                Node::Range(pipe, body, otherwise) => self.range(run, pipe, body, otherwise, dot, out)?,
                Node::Template { at, name, pipe } => {
                    let Some(template) = self.templates.get(name).cloned() else {
                        return Err(fault(run, *at, &shown(node), &format!("template {name:?} not defined")));
                    };
                    let value = pipe.as_ref().map_or(Ok(Value::Nil), |pipe| self.pipe(run, pipe, dot))?;
                    self.run(&template, &value, out)?;
                    Flow::On
                }
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn range(
        &mut self,
        run: &mut Run<'_>,
        pipe: &Pipe,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
        out: &mut String,
    ) -> Result<Flow, String> {
        let mark = run.variables.len();
        let value = self.pipe(run, pipe, dot)?;
        // What declares them has put the whole there: each turn sets them.
        let declared = run.variables.len();
        // The body may change what is ranged over: Go sees the keys that were there.
        let items: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::Int(count) if *count <= 0 => Vec::new(),
            Value::Int(count) => {
                if pipe.variables.len() > 1 {
                    let what = format!("can't use {value} to iterate over more than one variable");
                    return Err(fault(run, pipe.at, &pipe.to_string(), &what));
                }
                if u64::try_from(*count).is_ok_and(|count| count > self.limits.steps) {
                    return Err("the templates take too many steps".to_owned());
                }
                (0..*count).map(|at| (Value::Nil, Value::Int(at))).collect()
            }
            Value::List(items) => (0..).map(Value::Int).zip(items.iter().cloned()).collect(),
            Value::Map(map) => {
                map.borrow().iter().map(|(key, value)| (Value::Str(key.clone()), value.clone())).collect()
            }
            Value::Object(object) => match &**object {
                Object::Files(files) => files
                    .iter()
                    .map(|(name, bytes)| (Value::Str(name.clone()), Value::str(String::from_utf8_lossy(bytes))))
                    .collect(),
                Object::Versions(versions) => (0..).map(Value::Int).zip(versions.iter().map(Value::str)).collect(),
                _ => return Err(fault(run, pipe.at, &pipe.to_string(), &format!("range can't iterate over {value}"))),
            },
            _ => return Err(fault(run, pipe.at, &pipe.to_string(), &format!("range can't iterate over {value}"))),
        };
        if items.is_empty() {
            let flow = self.nodes(run, otherwise, dot, out)?;
            run.variables.truncate(mark);
            return Ok(flow);
        }
        for (index, item) in items {
            match (pipe.variables.as_slice(), pipe.assigns) {
                ([], _) => {}
                ([only], true) => assign(run, only, &item),
                ([first, second, ..], true) => {
                    assign(run, first, &index);
                    assign(run, second, &item);
                }
                ([_], false) => run.variables[declared - 1].1 = item.clone(),
                ([_, _, ..], false) => {
                    run.variables[declared - 2].1 = index;
                    run.variables[declared - 1].1 = item.clone();
                }
            }
            let flow = self.nodes(run, body, &item, out)?;
            run.variables.truncate(declared);
            if flow == Flow::Break {
                break;
            }
        }
        run.variables.truncate(mark);
        Ok(Flow::On)
    }

    fn pipe(&mut self, run: &mut Run<'_>, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
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

fn assign(run: &mut Run<'_>, name: &str, value: &Value) {
    if let Some((_, known)) = run.variables.iter_mut().rev().find(|(known, _)| &**known == name) {
        *known = value.clone();
    }
}

fn shown(node: &Node) -> String {
    match node {
        Node::Template { name, pipe: Some(pipe), .. } => format!("{{{{template {name:?} {pipe}}}}}"),
        Node::Template { name, .. } => format!("{{{{template {name:?}}}}}"),
        _ => String::new(),
    }
}

/// As Go tells of a failure.
fn fault(run: &Run<'_>, at: usize, context: &str, what: &str) -> String {
    let place = run.template.source.place(at);
    format!("template: {place}: executing {:?} at <{context}>: {what}", &*run.template.name)
}
