//! Round trips of objects of every kind, and bytes that are nobody's.

use serde_json::{Map, Value, json};

use super::read::decode;
use super::*;
use crate::dice::{Dice, kinds};
use crate::lookup;

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
