#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use serde_json::json;

use super::*;

/// What Go's sigs.k8s.io/yaml makes of these.
#[test]
fn scalars_are_those_of_yaml_1_1() {
    let table = [
        ("a: 0644", json!({"a": 420})),
        ("a: \"0644\"", json!({"a": "0644"})),
        ("a: yes\nb: off\nc: 'no'", json!({"a": true, "b": false, "c": "no"})),
        ("a: 1_000\nb: 0x1F\nc: 0o17\nd: 0b11", json!({"a": 1000, "b": 31, "c": 15, "d": 3})),
        ("a: 1e3\nb: .5\nc: 1.\nd: 08", json!({"a": 1000.0, "b": 0.5, "c": 1.0, "d": 8.0})),
        ("a: ~\nb:\nc: null", json!({"a": null, "b": null, "c": null})),
        ("a: 2001-12-14\nb: 12:30:45", json!({"a": "2001-12-14", "b": "12:30:45"})),
        ("a: 18446744073709551615", json!({"a": 18_446_744_073_709_551_615_u64})),
        ("1: x\ntrue: w\n1.5: z", json!({"1": "x", "true": "w", "1.5": "z"})),
        ("a: !!str 12\nb: !!float 1\nc: !!binary aGk=\nd: !mine x", json!({"a": "12", "b": 1.0, "c": "hi", "d": "x"})),
        ("a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: 2", json!({"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}})),
        ("a: 1\na: 2", json!({"a": 2})),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn a_text_of_several_documents_is_read_whole() {
    let text = "# nothing\n---\na: 1\n---\n# empty\n---\n- b\n...\n";
    assert_eq!(documents(text).unwrap(), [json!({"a": 1}), json!(null), json!(["b"])]);
    assert_eq!(documents("").unwrap(), Vec::<serde_json::Value>::new());
}

#[test]
fn faults_are_told_with_their_lines() {
    let told = |text: &str| parse(text).unwrap_err().to_string();
    assert_eq!(told("a: b: c"), "yaml: mapping values are not allowed in this context");
    assert_eq!(told("a: 1\nb: c: d\n"), "yaml: line 2: mapping values are not allowed in this context");
    assert_eq!(told("a: *b"), "yaml: unknown anchor 'b' referenced");
}

#[test]
fn neither_depth_nor_aliases_are_without_end() {
    assert!(parse(&"[".repeat(10_000)).is_err());
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..9 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","));
    }
    assert_eq!(parse(&bomb).unwrap_err().to_string(), "yaml: document contains excessive aliasing");
}

#[test]
fn values_are_written_as_go_writes_them() {
    let value = json!({
        "text": "plain", "number": "12", "yes": "yes", "colon": "a: b", "lines": "a\nb\n", "empty": "", "date": "2001-01-01",
        "base60": "1:30", "list": [1, "x", [], {}, {"a": 1, "b": [2]}], "a10": 1, "a9": 2, "float": 1.5, "big": 1e6, "none": null,
        "hash": "#x", "star": "*x", "space": " x",
    });
    let expected = r##"a9: 2
a10: 1
base60: "1:30"
big: 1000000
colon: 'a: b'
date: "2001-01-01"
empty: ""
float: 1.5
hash: '#x'
lines: |
  a
  b
list:
- 1
- x
- []
- {}
- a: 1
  b:
  - 2
none: null
number: "12"
space: ' x'
star: '*x'
text: plain
"yes": "yes"
"##;
    assert_eq!(to_string(&value).unwrap(), expected);
    assert_eq!(to_string(&json!("x")).unwrap(), "x\n");
    assert_eq!(to_string(&json!({})).unwrap(), "{}\n");
}
