//! How the values of a schema merge, for server-side apply.

use kiln_apimachinery::typed::{Kind as Shape, ListType, Scalar, Type};
use serde_json::Value;

use super::{Kind, List, SchemaRef};

impl Type for SchemaRef<'_> {
    fn kind(&self) -> Shape {
        match self.record().kind {
            Kind::Object if self.takes_others() && self.fields().is_empty() => Shape::Map,
            Kind::Object if self.preserves() && self.fields().is_empty() => Shape::Any,
            Kind::Object => Shape::Struct,
            Kind::Array => Shape::List,
            Kind::Any => Shape::Any,
            _ => Shape::Scalar,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        self.field_schema(name)
    }

    fn item(&self) -> Option<Self> {
        self.items()
    }

    fn scalar(&self) -> Scalar {
        match self.record().kind {
            Kind::Text => Scalar::Text,
            Kind::Integer | Kind::Number => Scalar::Number,
            Kind::Boolean => Scalar::Boolean,
            _ => Scalar::Any,
        }
    }

    fn declares(&self, name: &str) -> bool {
        self.property(name).is_some()
    }

    fn list(&self) -> ListType {
        match self.record().list {
            List::Atomic => ListType::Atomic,
            List::Set => ListType::Set,
            List::Map => ListType::Map,
        }
    }

    fn key(&self, index: usize) -> Option<&str> {
        self.keys().nth(index)
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        self.items()?.property(key)?.default().cloned()
    }

    fn atomic(&self) -> bool {
        self.is_atomic()
    }
}
