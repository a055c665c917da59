//! Tests' random objects of every kind.

use serde_json::{Map, Value, json};

use crate::builtin;
use crate::table::{ALWAYS, Code, Field, INLINE, POINTER, TypeRef};

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn value(&mut self, ty: TypeRef<'_>, zero: bool, depth: usize) -> Value {
        let small = i64::try_from(self.roll(300)).unwrap() - 100;
        let number = if zero || small != 0 { small } else { 1 };
        match ty.code() {
            Code::Text => ["a", "grün", "some-name"][self.roll(3) as usize].into(),
            Code::Bool => true.into(),
            Code::Int32 => number.into(),
            Code::Int64 => (number << 40).into(),
            Code::Double => json!(number as f64 + 0.5),
            Code::Bytes => "AAEC/w==".into(),
            Code::Time => "2026-01-02T03:04:05Z".into(),
            Code::MicroTime => "1966-01-02T03:04:05.000006Z".into(),
            Code::Quantity => ["0", "100m", "1Gi"][self.roll(3) as usize].into(),
            Code::IntOrString => [number.into(), Value::from("25%")][self.roll(2) as usize].clone(),
            Code::Raw | Code::Fields | Code::Json | Code::Any => json!({"any": [1, null]}),
            Code::Texts => json!(["a", "b"]),
            Code::List => (0..=self.roll(2)).map(|_| self.value(ty.inner(), zero, depth + 1)).collect(),
            Code::Map => {
                let entries = 0..=self.roll(2);
                entries
                    .map(|n| (format!("k{n}"), self.value(ty.inner(), zero, depth + 1)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Code::Struct => self.object(ty, depth + 1).into(),
            Code::SchemaOrArray => [json!([{"type": "a"}]), json!({"type": "a"})][self.roll(2) as usize].clone(),
            Code::SchemaOrBool => [json!(true), json!(false), json!({"type": "a"})][self.roll(3) as usize].clone(),
            Code::SchemaOrStrings => [json!(["a"]), json!({"type": "a"})][self.roll(2) as usize].clone(),
        }
    }

    pub(crate) fn object(&mut self, ty: TypeRef<'_>, depth: usize) -> Map<String, Value> {
        let mut out = Map::new();
        for field in ty.fields().iter().filter(|f| f.number != 0) {
            if field.is(INLINE) {
                out.append(&mut self.object(ty.to(field.node), depth + 1));
            } else if self.has(ty, field, depth) {
                let value = self.value(ty.to(field.node), field.is(POINTER), depth);
                // An object without fields that is no pointer is not told from none.
                if field.is(POINTER) || value != json!({}) {
                    out.insert(ty.table.str(field.name).to_owned(), value);
                }
            }
        }
        out
    }

    fn has(&mut self, ty: TypeRef<'_>, field: &Field, depth: usize) -> bool {
        let optional = field.is(POINTER) || matches!(ty.to(field.node).code(), Code::List | Code::Map);
        let must = !optional && (field.is(ALWAYS) || matches!(ty.to(field.node).code(), Code::Struct | Code::Quantity));
        must || (depth < 12 && self.roll(3) > 0)
    }
}

/// Version, name and type of every kind.
pub(crate) fn kinds() -> impl Iterator<Item = (String, String, TypeRef<'static>)> {
    let table = builtin();
    table.structs.iter().filter(|s| s.kind).filter_map(|s| {
        let name = table.str(s.name);
        let (group, rest) = name.split_once('.')?;
        let (version, kind) = rest.split_once('.')?;
        let long = table.groups.iter().find(|(short, _)| table.str(*short) == group).map_or("", |(_, l)| table.str(*l));
        Some((kiln_apimachinery::gvk::api_version(long, version), kind.to_owned(), table.named(name)?))
    })
}
