//! Which devices an expression selects.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceSelector};
use kiln_apimachinery::quantity::Quantity;
use kiln_cel::{Program, Type, Value};

use super::pool::Offer;

/// What one expression may cost on one device.
const BUDGET: u64 = 1_000_000;

/// Expressions of which all must hold.
pub(super) struct Selectors(Vec<Program>);

impl Selectors {
    /// # Errors
    /// One of them is no expression.
    pub(super) fn compile<'a>(selectors: impl Iterator<Item = &'a DeviceSelector>) -> Result<Self, String> {
        let expressions = selectors.filter_map(|selector| selector.cel.as_ref());
        let compile = |cel: &k8s_openapi::api::resource::v1::CELDeviceSelector| {
            Program::compile(&cel.expression, &[("device", Type::Dyn)]).map_err(|error| error.to_string())
        };
        Ok(Self(expressions.map(compile).collect::<Result<_, _>>()?))
    }

    /// # Errors
    /// An expression can't be evaluated on the device.
    pub(super) fn select(&self, offer: &Offer) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let device = value(offer);
        for program in &self.0 {
            let mut budget = BUDGET;
            match program.run(&[("device", device.clone())], None, &mut budget) {
                Ok(Value::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(true)
    }
}

fn attribute(attribute: &DeviceAttribute) -> Option<Value<'static>> {
    let text = attribute.string.as_ref().or(attribute.version.as_ref());
    attribute
        .bool
        .map(Value::Bool)
        .or_else(|| attribute.int.map(Value::Int))
        .or_else(|| text.map(|text| Value::text(text.clone())))
}

/// The device as expressions see it: its driver, and its attributes and capacities by domain and name.
fn value(offer: &Offer) -> Value<'static> {
    let device = offer.device();
    let attributes = device.attributes.iter().flatten().filter_map(|(name, value)| Some((name, attribute(value)?)));
    let capacity = device
        .capacity
        .iter()
        .flatten()
        .filter_map(|(name, capacity)| Some((name, Value::Quantity(Quantity::parse(&capacity.value.0).ok()?))));
    map([
        ("driver".to_owned(), Value::text(offer.driver())),
        ("attributes".to_owned(), by_domain(offer.driver(), attributes)),
        ("capacity".to_owned(), by_domain(offer.driver(), capacity)),
        ("allowMultipleAllocations".to_owned(), Value::Bool(false)),
    ])
}

fn by_domain<'a>(driver: &str, values: impl Iterator<Item = (&'a String, Value<'static>)>) -> Value<'static> {
    let mut domains = std::collections::BTreeMap::<String, Vec<(String, Value<'static>)>>::new();
    for (name, value) in values {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        domains.entry(domain.to_owned()).or_default().push((name.to_owned(), value));
    }
    map(domains.into_iter().map(|(domain, values)| (domain, map(values))))
}

fn map(entries: impl IntoIterator<Item = (String, Value<'static>)>) -> Value<'static> {
    Value::Map(Arc::new(entries.into_iter().map(|(key, value)| (Value::text(key), value)).collect()))
}
