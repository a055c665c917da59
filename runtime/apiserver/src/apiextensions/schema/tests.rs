use serde_json::{Value, json};

use super::*;

/// The schema of a built-in type as an operator would embed it, without references.
fn embedded(kind: &str, model: &str) -> Value {
    let served = kiln_schema::openapi::Served {
        group: "apps",
        version: "v1",
        kind,
        plural: "x",
        namespaced: true,
        verbs: &[],
        subresources: Vec::new(),
        custom: None,
    };
    let mut bytes = Vec::new();
    kiln_schema::openapi::v3(&[served], ("apps", "v1"), "v", &mut bytes).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let schemas = &document["components"]["schemas"];
    fn inline(value: &Value, schemas: &Value) -> Value {
        match value {
            Value::Object(map) => {
                if let Some(name) = map.get("$ref").and_then(Value::as_str) {
                    return inline(&schemas[name.rsplit('/').next().unwrap()], schemas);
                }
                if let Some([one]) = map.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
                    return inline(one, schemas);
                }
                map.iter().map(|(k, v)| (k.clone(), inline(v, schemas))).collect::<serde_json::Map<_, _>>().into()
            }
            Value::Array(list) => list.iter().map(|v| inline(v, schemas)).collect(),
            other => other.clone(),
        }
    }
    inline(&schemas[model], schemas)
}

#[test]
fn a_schema_as_large_as_a_deployment_takes_little() {
    let source = embedded("Deployment", "io.k8s.api.apps.v1.Deployment");
    let text = source.to_string().len();
    let schema = Schema::read(&source);
    let size = schema.heap_size();
    println!("{text} bytes of JSON, {} nodes, {size} bytes kept", schema.nodes.len());
    assert!(text > 150_000 && size < 100_000, "{text} {size}");
    // As many as a large bundle of operators has, half of them this large.
    assert!(size * 100 < 10_000_000);
}

#[test]
fn nodes_that_say_the_same_are_kept_once() {
    let port = json!({"type": "object", "properties": {"port": {"type": "integer", "minimum": 1}}});
    let schema = Schema::read(
        &json!({"type": "object", "properties": {"a": port, "b": port, "c": {"type": "integer", "minimum": 1}}}),
    );
    assert_eq!((schema.nodes.len(), schema.facts.len()), (3, 1));
    let root = schema.root();
    assert_eq!(root.property("a").map(|p| p.node), root.property("b").map(|p| p.node));
    assert!(root.property("d").is_none());
}

#[test]
fn pruning_tells_paths_and_keeps_what_is_described() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
            "tight": {"type": "object", "properties": {"a": {"type": "string"}}},
        }},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }}));
    let mut object = json!({
        "kind": "A", "metadata": {"name": "x", "odd": 1}, "gone": 1,
        "list": [{"a": "x", "b": 1}], "open": {"free": 1, "tight": {"a": "x", "b": 1}},
        "inner": {"kind": "B", "apiVersion": "v1", "metadata": {"name": "y"}, "any": 1}, "map": {"k": {"a": "x", "b": 1}},
    });
    assert_eq!(prune(schema.root(), &mut object), ["gone", "list[0].b", "map.k.b", "open.tight.b"]);
    assert_eq!(object["open"], json!({"free": 1, "tight": {"a": "x"}}));
    assert_eq!(object["inner"]["any"], 1);
    assert_eq!(object["metadata"]["odd"], 1);
}

#[test]
fn defaults_go_where_a_value_is_absent_or_null_is_none() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "x"},
        "b": {"type": "string", "default": "y", "nullable": true},
        "c": {"type": "string"},
        "d": {"type": "object", "default": {}, "properties": {"e": {"type": "integer", "default": 1}}},
        "l": {"type": "array", "items": {"type": "object", "properties": {"f": {"type": "boolean", "default": true}}}},
    }}));
    let mut object = json!({"a": null, "b": null, "c": null, "l": [{}]});
    nulls(Some(schema.root()), &mut object);
    defaults(schema.root(), &mut object);
    assert_eq!(object, json!({"a": "x", "b": null, "d": {"e": 1}, "l": [{"f": true}]}));
}

#[test]
fn formats_are_those_of_the_reference() {
    let rows = [
        ("date-time", "2026-01-02T03:04:05Z", true),
        ("date-time", "2026-01-02 03:04:05", false),
        ("date", "2026-02-30", false),
        ("ipv4", "10.0.0.1", true),
        ("ipv6", "::1", true),
        ("cidr", "10.0.0.0/33", false),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", true),
        ("uuid4", "123e4567-e89b-12d3-a456-426614174000", false),
        ("email", "a@b.example", true),
        ("hostname", "a_b", false),
        ("byte", "aGk=", true),
        ("byte", "a", false),
        ("duration", "1h30m", true),
        ("duration", "soon", false),
        ("mac", "00:11:22:33:44:55", true),
        ("hexcolor", "#fff", true),
        ("uri", "https://a.example/b", true),
        ("uri", "no address", false),
        ("anything", "goes", true),
    ];
    for (format, text, good) in rows {
        assert_eq!(formats::fits(format, text), good, "{format} {text}");
    }
}

#[test]
fn one_of_several_schemas_must_hold() {
    let schema = Schema::read(&json!({"type": "object", "properties": {"a": {
        "type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
        "oneOf": [{"required": ["x"]}, {"required": ["y"]}],
    }}}));
    let told = |value: Value| {
        check(schema.root(), &json!({"a": value}), "").iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(json!({"x": 1})), [""; 0]);
    assert_eq!(
        told(json!({"x": 1, "y": 1})),
        ["<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found 2 valid alternatives"]
    );
    assert_eq!(
        told(json!({})),
        [
            "<nil>: Invalid value: \"\": \"a\" must validate one and only one schema (oneOf). Found none valid",
            "a.x: Required value",
        ]
    );
}
