//! Round trips of objects of every kind, and bytes that are nobody's.

use serde_json::{Map, Value, json};

use super::read::decode;
use super::*;
use crate::table::{ALWAYS, Code, Field, INLINE, POINTER, TypeRef};
use crate::{builtin, lookup};

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
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

    fn object(&mut self, ty: TypeRef<'_>, depth: usize) -> Map<String, Value> {
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

fn kinds() -> impl Iterator<Item = (String, String, TypeRef<'static>)> {
    let table = builtin();
    table.structs.iter().filter(|s| s.kind).filter_map(|s| {
        let name = table.str(s.name);
        let (group, rest) = name.split_once('.')?;
        let (version, kind) = rest.split_once('.')?;
        let long = table.groups.iter().find(|(short, _)| table.str(*short) == group).map_or("", |(_, l)| table.str(*l));
        Some((kiln_apimachinery::gvk::api_version(long, version), kind.to_owned(), table.named(name)?))
    })
}

fn named(version: &str, kind: &str, mut object: Map<String, Value>) -> Value {
    object.insert("apiVersion".into(), version.into());
    object.insert("kind".into(), kind.into());
    object.into()
}

#[test]
fn an_object_of_any_kind_is_the_same_after_a_round_trip() {
    let mut dice = Dice(1);
    let mut count = 0;
    for (version, kind, ty) in kinds() {
        for _ in 0..4 {
            let object = named(&version, &kind, dice.object(ty, 0));
            let bytes = encode(&object).unwrap();
            assert_eq!(decode(&bytes).unwrap(), object, "{kind}");
            let mut checked = object.clone();
            assert_eq!(crate::decode::check(ty, &mut checked).unwrap().unknown, Vec::<String>::new(), "{kind}");
            assert_eq!(checked, object, "{kind}");
            count += 1;
        }
    }
    assert!(count > 600, "{count}");
}

#[test]
fn bytes_are_those_that_kubernetes_writes() {
    let mut count = 0;
    for line in include_str!("../../tests/golden.txt").lines() {
        let (json, bytes) = line.split_once('\t').unwrap();
        let mut object: Value = serde_json::from_str(json).unwrap();
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, bytes).unwrap();
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let findings = crate::decode::check(lookup(version, kind).unwrap(), &mut object).unwrap();
        assert_eq!(findings.unknown, Vec::<String>::new());
        assert_eq!(decode(&bytes).map(|o| encode(&o)), Ok(Ok(bytes.clone())), "{object}");
        assert!(encode(&object).unwrap() == bytes, "{object}\n{}", decode(&bytes).unwrap());
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn bytes_of_no_object_are_an_error_or_an_object_and_never_a_panic() {
    let mut dice = Dice(2);
    for (version, kind, ty) in kinds() {
        let good = encode(&named(&version, &kind, dice.object(ty, 0))).unwrap();
        for _ in 0..40 {
            let mut bytes = good.clone();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(bytes.len() as u64) as usize;
                bytes[at] = dice.roll(256) as u8;
            }
            bytes.truncate(bytes.len() - dice.roll(bytes.len() as u64 / 4 + 1) as usize);
            if let Ok(mut object) = decode(&bytes) {
                // What was read can be judged, and, if it is good, written.
                if crate::decode::check(ty, &mut object).is_ok() {
                    drop(encode(&object));
                }
            }
        }
    }
}

#[test]
fn nesting_and_the_number_of_values_are_bounded() {
    let nested = |depth: usize| {
        let mut schema = json!({"type": "object"});
        for _ in 0..depth {
            schema = json!({"not": schema});
        }
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}})
    };
    assert!(encode(&nested(90)).and_then(|b| decode(&b)).is_ok());
    assert_eq!(encode(&nested(120)), Err(ProtobufError::TooDeep));
    let item = [0x12, 0];
    let list = [MAGIC, &[0x0a, 13, 0x0a, 2, b'v', b'1', 0x12, 7], b"PodList", &[0x12], &{
        let mut len = Vec::new();
        wire::put_varint(&mut len, 1_000_000 * 2);
        len
    }];
    let mut body = list.concat();
    body.extend(item.repeat(1_000_000));
    assert_eq!(decode(&body), Err(ProtobufError::TooMany));
}

#[test]
fn broken_bodies_are_errors() {
    let envelope = |kind: &str, raw: &[u8]| {
        let mut meta = Vec::new();
        wire::put_bytes(&mut meta, 1, b"v1");
        wire::put_bytes(&mut meta, 2, kind.as_bytes());
        let mut out = MAGIC.to_vec();
        wire::put_bytes(&mut out, 1, &meta);
        wire::put_bytes(&mut out, 2, raw);
        out
    };
    assert_eq!(decode(b"{}"), Err(ProtobufError::NoMagic));
    assert_eq!(decode(&envelope("Nonsense", b"")), Err(ProtobufError::UnknownKind("v1, Kind=Nonsense".into())));
    assert_eq!(decode(&envelope("ConfigMap", &[0x0a, 0x7f])), Err(ProtobufError::Malformed));
    assert_eq!(decode(&envelope("ConfigMap", &[0xff; 12])), Err(ProtobufError::Malformed));
    assert_eq!(decode(&envelope("Secret", &[0x1a, 1, 0xff])), Err(ProtobufError::Text("type".into())));
}

#[test]
fn a_list_is_written_item_by_item_as_it_would_be_at_once() {
    let item = |name: &str| json!({"metadata": {"name": name}, "data": {"k": "v"}});
    let metadata = json!({"resourceVersion": "7", "continue": "x"});
    let items = [item("a"), item("b")];
    let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
    let mut writer = ListWriter::new("v1", "ConfigMapList", &metadata).unwrap();
    let pieces: Vec<Vec<u8>> = items.iter().map(|i| writer.item(i).unwrap()).collect();
    let (head, tail) = writer.finish();
    assert_eq!([head, pieces.concat(), tail.to_vec()].concat(), encode(&whole).unwrap());
    assert!(ListWriter::new("v1", "ConfigMap", &metadata).is_err());
}

#[test]
fn a_watch_event_is_a_length_and_a_message_with_an_enveloped_object() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let frame = WatchWriter::frame("ADDED", &object).unwrap();
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    let event = [&[0x0a, 5][..], b"ADDED"].concat();
    assert!(frame[4..].starts_with(&event));
    assert!(frame.ends_with(&encode(&object).unwrap()));
}
