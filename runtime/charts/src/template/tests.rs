#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use serde_json::Value as Json;

use super::{Engine, Limits};
use crate::host::{CertificateRequest, Host, Pair};
use crate::value::Value;

struct Nothing;

impl Host for Nothing {
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Option<Json>, String> {
        Ok(None)
    }

    fn random(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn now(&self) -> i64 {
        1_700_000_000
    }

    fn certificate(&self, _: &CertificateRequest) -> Result<Pair, String> {
        Err("there is no CA".to_owned())
    }
}

const LIMITS: Limits = Limits { depth: 100, steps: 100_000, bytes: 1 << 20 };

fn made(template: &str, data: &Json) -> Result<String, String> {
    let mut engine = Engine::new(&Nothing, LIMITS);
    engine.add("t", template)?;
    engine.execute("t", &Value::from_json(data))
}

/// Each row: a template, its data, and what Go's text/template with sprig's functions makes of it, or its failure.
#[test]
fn templates_come_to_what_go_makes_of_them() {
    let table: Json = serde_json::from_str(include_str!("cases.json")).unwrap();
    let rows: Vec<(String, String, String)> = serde_json::from_value(table["rows"].clone()).unwrap();
    let mut wrong = Vec::new();
    for (template, expected, error) in rows {
        let made = made(&template, &table["data"]);
        let right = match &made {
            Ok(text) => error.is_empty() && *text == expected,
            Err(text) => *text == error,
        };
        if !right {
            wrong.push(format!("{template}\n   made {made:?}\n   not {expected:?} {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_template_without_end_is_stopped() {
    let told = |template: &str| made(template, &Json::Null).unwrap_err();
    let deep = std::thread::Builder::new()
        .stack_size(64 << 20)
        .spawn(|| made(r#"{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}"#, &Json::Null).unwrap_err());
    assert_eq!(deep.unwrap().join().unwrap(), "exceeded maximum template depth (100)");
    assert_eq!(told("{{range until 900000}}{{.}}{{end}}"), "the templates take too many steps");
    let grows = r#"{{$x := "xxxxxxxxxxxxxxxx"}}{{range until 1000}}{{$x = printf "%s%s" $x $x}}{{end}}"#;
    assert!(told(grows).contains("the templates make too much text"));
    assert!(made(&"{{(".repeat(10_000), &Json::Null).is_err());
    assert!(made(&"{{if .}}".repeat(10_000), &Json::Null).is_err());
}
