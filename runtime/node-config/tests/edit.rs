//! Edits keep a person's file as it is, and never leave an invalid one.

use kiln_node_config::edit::{EditError, get, remove, set, set_all};

const FILE: &str = r#"# my first node
version = 1

[node]
role = "agent"   # not the server
name = "pi-1"    # on the shelf

[cluster]
server = "https://10.0.2.2:6443"
token = "K100000000000000000000000000000000000000000000000000000000000000abc::abc123:0123456789abcdef"
"#;

#[test]
fn setting_a_value_keeps_comments_and_order() {
    let out = set(FILE, "node.name", "pi-2").unwrap();
    assert_eq!(out, FILE.replace("\"pi-1\"", "\"pi-2\""));
    assert_eq!(get(&out, "node.name").unwrap().as_deref(), Some("pi-2"));
}

#[test]
fn the_schema_gives_a_value_its_type() {
    assert!(set(FILE, "node.name", "42").unwrap().contains("name = \"42\""));
    assert!(set(FILE, "console.shell", "true").unwrap().contains("[console]\nshell = true"));
    assert!(
        set(FILE, "time.servers", "a.example, b.example").unwrap().contains("servers = [\"a.example\", \"b.example\"]")
    );
    assert!(set(FILE, "time.servers", "[]").unwrap().contains("servers = []"));
    assert!(matches!(set(FILE, "console.shell", "maybe"), Err(EditError::WrongType { .. })));
    assert!(matches!(set(FILE, "console", "x"), Err(EditError::IsTable { .. })));
}

#[test]
fn labels_with_dots_are_one_key() {
    let out = set(FILE, "node.labels.example.org/zone", "shop").unwrap();
    assert!(out.contains("labels = { \"example.org/zone\" = \"shop\" }"), "{out}");
    assert_eq!(get(&out, "node.labels.example.org/zone").unwrap().as_deref(), Some("shop"));
    assert!(!remove(&out, "node.labels.example.org/zone").unwrap().contains("shop"));
}

#[test]
fn an_interface_is_added_and_changed_by_its_index() {
    let out = set_all(
        FILE,
        &[
            ("network.interface.0.match", "eth0"),
            ("network.interface.0.method", "static"),
            ("network.interface.0.address", "192.168.77.3/24"),
        ],
    )
    .unwrap();
    assert!(out.contains("[[network.interface]]\nmatch = \"eth0\""), "{out}");
    assert_eq!(get(&out, "network.interface.0.address").unwrap().as_deref(), Some("192.168.77.3/24"));
    for (new, written) in [
        ("192.168.77.3/24,fd00::3/64", "address = \"192.168.77.3/24,fd00::3/64\""),
        ("[\"192.168.77.3/24\", \"fd00::3/64\"]", "address = [\"192.168.77.3/24\", \"fd00::3/64\"]"),
    ] {
        let both = set(&out, "network.interface.0.address", new).unwrap();
        assert!(both.contains(written), "{both}");
    }
    assert!(matches!(set(&out, "network.interface.2.method", "dhcp"), Err(EditError::NotSet { .. })));
    assert_eq!(remove(&out, "network.interface.0").unwrap().trim_end(), FILE.trim_end());
}

#[test]
fn an_edit_that_would_make_the_file_invalid_is_refused() {
    let error = set(FILE, "node.role", "server").unwrap_err();
    assert!(error.to_string().contains("`[cluster]` says which server an agent joins"), "{error}");
    assert!(matches!(remove(FILE, "node.role"), Err(EditError::Invalid(_))));
    assert!(matches!(set(FILE, "node.name", "No Name"), Err(EditError::Invalid(_))));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let error = set(FILE, "node.nmae", "x").unwrap_err();
    assert_eq!(error.to_string(), "there is no key `node.nmae`; did you mean `node.name`?");
    assert_eq!(
        set(FILE, "network.interface.0.adress", "x").unwrap_err().to_string(),
        "there is no key `network.interface.0.adress`; did you mean `network.interface.0.address`?"
    );
    assert!(matches!(get(FILE, "x.y"), Err(EditError::UnknownKey { nearest: None, .. })));
}

#[test]
fn a_token_is_scrubbed_by_removing_it() {
    let out = remove(FILE, "cluster.token").unwrap();
    assert!(!out.contains("token") && out.contains("# on the shelf"));
    assert!(matches!(remove(&out, "cluster.token"), Err(EditError::NotSet { .. })));
}
