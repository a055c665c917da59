//! Carries a template out, node by node; [`values`] finds what its pipelines come to.

mod values;

use std::collections::HashMap;
use std::rc::Rc;

use self::values::assign;
use super::node::{Node, Pipe, Template};
use super::parse::{is_empty, parse};
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
