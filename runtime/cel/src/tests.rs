use std::sync::Arc;

use serde_json::json;

use super::*;

fn run(source: &str) -> String {
    let object = json!({
        "name": "web", "replicas": 3, "ports": [{"port": 80, "name": "http"}, {"port": 443}], "labels": {"a": "b"},
        "since": "2026-01-02T03:04:05Z", "odd-key": 1, "none": null, "ratio": 1.0,
    });
    let program = match Program::compile(source, &[("self", Type::Dyn)]) {
        Ok(program) => program,
        Err(why) => return why.to_string().lines().next().unwrap_or_default().to_owned(),
    };
    let mut budget = BUDGET;
    match program.run(&[("self", Value::of(&object, None))], None, &mut budget) {
        Ok(value) => match value.to_json() {
            Ok(json) => json.to_string(),
            Err(_) => value.type_name().to_owned(),
        },
        Err(why) => why.to_string(),
    }
}

#[test]
fn expressions_give_what_the_specification_says() {
    let cases = [
        ("1 + 2 * 3 == 7 && !false", "true"),
        ("self.replicas > 2 ? 'many' : 'few'", "\"many\""),
        ("self.ports.all(p, p.port > 0)", "true"),
        ("self.ports.exists(p, has(p.name) && p.name == 'http')", "true"),
        ("self.ports.exists_one(p, p.port == 443)", "true"),
        ("self.ports.map(p, p.port)", "[80,443]"),
        ("self.ports.filter(p, p.port > 100).size()", "1"),
        ("self.ports.map(p, has(p.name), p.name)", "[\"http\"]"),
        ("[3, 1, 2].isSorted()", "false"),
        ("[3, 1, 2].max() + [1, 2].sum()", "6"),
        ("'a' in self.labels && self.labels['a'] == 'b'", "true"),
        ("self.labels.all(k, v, k == 'a' && v == 'b')", "true"),
        ("{'x': 1}.transformMap(k, v, v + 1)", "{\"x\":2}"),
        ("self.?missing.orValue('none')", "\"none\""),
        ("self.?name.optMap(n, n + '!').value()", "\"web!\""),
        ("has(self.none)", "false"),
        ("self.ratio == 1", "true"),
        ("1 / 0 == 1 || true", "true"),
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("-9223372036854775808 < 0", "true"),
        ("self.missing", "no such key: missing"),
        ("'héllo'.size()", "5"),
        ("'a,b'.split(',')", "[\"a\",\"b\"]"),
        ("'%s=%d'.format(['a', 1])", "\"a=1\""),
        ("'web-1'.matches('^[a-z]+-\\\\d$')", "true"),
        ("r'\\d' == '\\\\d'", "true"),
        ("quantity('1Gi').isGreaterThan(quantity('500Mi'))", "true"),
        ("url('https://a.b:80/c?d=e').getHostname()", "\"a.b\""),
        ("cidr('10.0.0.0/8').containsIP(ip('10.1.2.3'))", "true"),
        ("semver('1.2.3').isLessThan(semver('1.10.0'))", "true"),
        ("format.dns1123Label().validate('A_').hasValue()", "true"),
        ("duration('1h30m') > duration('80m')", "true"),
        ("timestamp(self.since).getFullYear()", "2026"),
        ("type(1) == int", "true"),
        ("[1, 2] + [3]", "[1,2,3]"),
        ("sets.contains([1, 2], [2])", "true"),
        ("optional.none().hasValue()", "false"),
        ("size(self.ports)", "2"),
        ("1 == 1.0", "true"),
    ];
    for (source, wanted) in cases {
        assert_eq!(run(source), wanted, "{source}");
    }
}

#[test]
fn what_is_no_expression_is_told_with_its_place() {
    let cases = [
        ("1 +", "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting"),
        ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')"),
        ("1 + 'a'", "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'"),
        ("nope(1)", "ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')"),
        ("'a'.contains(1)", "ERROR: <input>:1:4: found no matching overload for 'contains' applied to 'string.(int)'"),
        ("for", "ERROR: <input>:1:1: Syntax error: reserved identifier: for"),
    ];
    for (source, wanted) in cases {
        let found = run(source);
        assert!(found.starts_with(wanted), "{source}: {found}");
    }
}

#[test]
fn fields_are_checked_where_the_type_is_known() {
    let port = ObjectType::new("port", vec![Field::new("port", Type::Int), Field::new("host-name", Type::TEXT)]);
    let list = Type::List(Arc::new(Type::Object(Arc::new(port))), Size(10));
    let ty = Type::Object(Arc::new(ObjectType::new("object", vec![Field::new("ports", list)])));
    let object = json!({"ports": [{"port": 1, "host-name": "x"}]});
    let good = Program::compile("self.ports.all(p, p.host__dash__name == 'x')", &[("self", ty.clone())]).unwrap();
    let found = good.run(&[("self", Value::of(&object, Some(&ty)))], None, &mut BUDGET.clone()).unwrap();
    assert!(matches!(found, Value::Bool(true)));
    assert!(good.uses("self") && !good.uses("p"));
    let bad = Program::compile("self.ports.all(p, p.nope == 1)", &[("self", ty)]).unwrap_err();
    assert!(bad.to_string().contains("undefined field 'nope'"), "{bad}");
}

#[test]
fn costs_grow_with_sizes_and_a_run_stops_at_its_budget() {
    let list = |n| Type::List(Arc::new(Type::Int), Size(n));
    let cost = |n| Program::compile("self.all(a, self.all(b, a == b))", &[("self", list(n))]).unwrap().cost();
    assert!(cost(10) < 1_000 && cost(100_000) > 10_000_000);
    let numbers: Vec<u32> = (0..2000).collect();
    let object = json!(numbers);
    let program = Program::compile("self.all(a, self.all(b, a == b || true))", &[("self", Type::Dyn)]).unwrap();
    let mut budget = BUDGET;
    let found = program.run(&[("self", Value::of(&object, None))], None, &mut budget);
    assert_eq!(found.unwrap_err(), EvalError::TooCostly);
    assert!(budget < BUDGET);
}

#[test]
fn messages_are_made_where_they_are_let() {
    let source = "Object{spec: Object.spec{replicas: object.spec.replicas + 1}}";
    let object = json!({"spec": {"replicas": 1}});
    let variables = [("object", Type::Dyn), (check::MESSAGES, Type::Dyn)];
    let program = Program::compile(source, &variables).unwrap();
    let made = program.run(&[("object", Value::of(&object, None))], None, &mut BUDGET.clone()).unwrap();
    assert_eq!(made.to_json().unwrap(), json!({"spec": {"replicas": 2}}));
    assert!(Program::compile(source, &variables[..1]).is_err());
}
