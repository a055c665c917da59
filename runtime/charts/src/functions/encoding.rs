//! sprig's and Helm's functions that encode: base64, JSON, YAML, sums.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use serde_json::Value as Json;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use super::{Made, exactly, text};
use crate::value::Value;
use crate::yaml;

pub(super) fn find(name: &str) -> Option<fn(&[Value]) -> Made> {
    Some(match name {
        "b64enc" => |given| Ok(Value::str(BASE64_STANDARD.encode(text(&exactly::<1>(given)?[0])?))),
        "b64dec" => |given| {
            let text = text(&exactly::<1>(given)?[0])?;
            Ok(match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Value::str(String::from_utf8_lossy(&bytes)),
                Err(_) => Value::str(format!("illegal base64 data at input byte {}", faulty(text))),
            })
        },
        "b32enc" => |given| Ok(Value::str(base32(text(&exactly::<1>(given)?[0])?.as_bytes()))),
        "b32dec" => |given| {
            let text = text(&exactly::<1>(given)?[0])?;
            let decoded = from_base32(text).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            Ok(Value::str(decoded.unwrap_or_else(|| "illegal base32 data at input byte 0".to_owned())))
        },
        "sha1sum" => |given| Ok(Value::str(hex(&Sha1::digest(text(&exactly::<1>(given)?[0])?)))),
        "sha256sum" => |given| Ok(Value::str(hex(&Sha256::digest(text(&exactly::<1>(given)?[0])?)))),
        "sha512sum" => |given| Ok(Value::str(hex(&Sha512::digest(text(&exactly::<1>(given)?[0])?)))),
        "adler32sum" => |given| Ok(Value::str(adler32(text(&exactly::<1>(given)?[0])?).to_string())),
        "toJson" | "mustToJson" => |given| Ok(Value::str(html_safe(&exactly::<1>(given)?[0].to_json().to_string()))),
        "toRawJson" | "mustToRawJson" => |given| Ok(Value::str(exactly::<1>(given)?[0].to_json().to_string())),
        "toPrettyJson" | "mustToPrettyJson" => |given| {
            let json = exactly::<1>(given)?[0].to_json();
            Ok(Value::str(html_safe(&serde_json::to_string_pretty(&json).unwrap_or_default())))
        },
        "fromJson" => |given| read(given, |text| json(text, Json::is_object)),
        "fromJsonArray" => |given| read_list(given, |text| json(text, Json::is_array)),
        "mustFromJson" => |given| {
            let text = text(&exactly::<1>(given)?[0])?;
            Ok(Value::from_json(&serde_json::from_str::<Json>(text).map_err(|error| error.to_string())?))
        },
        "toYaml" | "mustToYaml" => |given| Ok(Value::str(to_yaml(&exactly::<1>(given)?[0])?)),
        "toYamlPretty" => |given| Ok(Value::str(pretty(&to_yaml(&exactly::<1>(given)?[0])?))),
        "fromYaml" => |given| {
            let read_map = |text: &str| {
                match yaml::parse(text) {
                Ok(Json::Null) => Ok(Json::Object(serde_json::Map::new())),
                Ok(json @ Json::Object(_)) => Ok(json),
                Ok(_) => Err("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal into Go value of type map[string]interface {}".to_owned()),
                Err(error) => Err(format!("error converting YAML to JSON: {error}")),
            }
            };
            read(given, read_map)
        },
        "fromYamlArray" => |given| {
            let read_items = |text: &str| {
                match yaml::parse(text) {
                Ok(Json::Null) => Ok(Json::Array(Vec::new())),
                Ok(json @ Json::Array(_)) => Ok(json),
                Ok(_) => Err("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal into Go value of type []interface {}".to_owned()),
                Err(error) => Err(format!("error converting YAML to JSON: {error}")),
            }
            };
            read_list(given, read_items)
        },
        _ => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where base64 is none.
fn faulty(text: &str) -> usize {
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let at = text.bytes().position(|b| !is_digit(b));
    at.unwrap_or_else(|| if BASE64_STANDARD_NO_PAD.decode(text).is_ok() { text.len() } else { text.len() / 4 * 4 })
}

/// encoding/json writes these so that HTML can hold them.
fn html_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

/// Helm's way with a text that cannot be read: the failure is in the map.
fn read(given: &[Value], read: impl Fn(&str) -> Result<Json, String>) -> Made {
    Ok(match read(text(&exactly::<1>(given)?[0])?) {
        Ok(json) => Value::from_json(&json),
        Err(error) => Value::of([("Error", Value::str(error))]),
    })
}

/// As [`read`], with the failure as the only item.
fn read_list(given: &[Value], read: impl Fn(&str) -> Result<Json, String>) -> Made {
    Ok(match read(text(&exactly::<1>(given)?[0])?) {
        Ok(json) => Value::from_json(&json),
        Err(error) => Value::list(vec![Value::str(error)]),
    })
}

fn json(text: &str, is: fn(&Json) -> bool) -> Result<Json, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if is(&json) { Ok(json) } else { Err("json: cannot unmarshal into another type".to_owned()) }
}

fn to_yaml(value: &Value) -> Result<String, String> {
    let text = yaml::to_string(&value.to_json()).map_err(|error| error.to_string())?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// yaml.v3's way: lists in maps are indented.
fn pretty(text: &str) -> String {
    // The columns at which a list's dashes begin under a key of the same column.
    let mut out = String::with_capacity(text.len());
    let mut moved: Vec<usize> = Vec::new();
    let mut before: Option<usize> = None;
    for line in text.split('\n') {
        let column = line.len() - line.trim_start_matches(' ').len();
        let is_item = line[column..].starts_with("- ") || &line[column..] == "-";
        moved.retain(|at| column > *at || (column == *at && is_item));
        if is_item && before == Some(column) && !moved.contains(&column) {
            moved.push(column);
        }
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&"  ".repeat(moved.len()));
        out.push_str(line);
        before = (!is_item || line.trim_end().ends_with(':')).then_some(column);
    }
    out
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut block = [0u8; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let digits = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let digit = (bits >> (35 - 5 * at)) & 31;
            out.push(if at < digits { char::from(BASE32[digit as usize]) } else { '=' });
        }
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0u64, 0u32, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let digit = BASE32.iter().position(|known| *known == byte)?;
        bits = bits << 5 | digit as u64;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

fn adler32(text: &str) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in text.bytes() {
        a = (a + u32::from(byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    b << 16 | a
}
