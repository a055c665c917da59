//! The files that ConfigMaps and Secrets become.

use std::borrow::Cow;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, KeyToPath, Secret};

use super::atomic::{File, Payload};

/// All keys of an object, or those that the volume picks.
pub(crate) struct Pick<'a> {
    pub(crate) items: Option<&'a [KeyToPath]>,
    /// The permissions of files that name none.
    pub(crate) mode: i32,
    /// A key that is not there is left out.
    pub(crate) optional: bool,
}

/// Adds the files of a ConfigMap.
pub(crate) fn of_config_map<'a>(
    into: &mut Payload<'a>,
    map: Option<&'a ConfigMap>,
    pick: &Pick<'_>,
) -> Result<(), String> {
    let data = map.and_then(|map| map.data.as_ref());
    let binary = map.and_then(|map| map.binary_data.as_ref());
    let texts = data.into_iter().flatten().map(|(key, text)| (key.as_str(), text.as_bytes()));
    let bytes = binary.into_iter().flatten().map(|(key, bytes)| (key.as_str(), bytes.0.as_slice()));
    let find = |key: &str| {
        let text = data.and_then(|data| data.get(key)).map(String::as_bytes);
        text.or_else(|| binary.and_then(|binary| binary.get(key)).map(|bytes| bytes.0.as_slice()))
    };
    add(into, texts.chain(bytes), find, "config", pick)
}

/// Adds the files of a Secret.
pub(crate) fn of_secret<'a>(into: &mut Payload<'a>, secret: Option<&'a Secret>, pick: &Pick<'_>) -> Result<(), String> {
    let data = secret.and_then(|secret| secret.data.as_ref());
    let bytes = |bytes: &'a ByteString| bytes.0.as_slice();
    let all = data.into_iter().flatten().map(|(key, value)| (key.as_str(), bytes(value)));
    add(into, all, |key| data.and_then(|data| data.get(key)).map(bytes), "secret", pick)
}

fn add<'a>(
    into: &mut Payload<'a>,
    all: impl Iterator<Item = (&'a str, &'a [u8])>,
    find: impl Fn(&str) -> Option<&'a [u8]>,
    kind: &str,
    pick: &Pick<'_>,
) -> Result<(), String> {
    let mut put = |path: &str, data: &'a [u8], mode: i32| {
        let file = File { data: Cow::Borrowed(data), mode: bits(mode), owner: None };
        into.insert(path.to_owned(), file);
    };
    let items = pick.items.unwrap_or_default();
    if items.is_empty() {
        all.for_each(|(key, data)| put(key, data, pick.mode));
        return Ok(());
    }
    for item in items {
        match find(&item.key) {
            Some(data) => put(&item.path, data, item.mode.unwrap_or(pick.mode)),
            None if pick.optional => {}
            None => return Err(format!("references non-existent {kind} key: {}", item.key)),
        }
    }
    Ok(())
}

/// Permission bits of what the API has as a number.
pub(crate) fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0o644) & 0o777
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn files(payload: &Payload<'_>) -> Vec<(String, String, u32)> {
        let text = |file: &File<'_>| String::from_utf8_lossy(&file.data).into_owned();
        payload.iter().map(|(path, file)| (path.clone(), text(file), file.mode)).collect()
    }

    fn row(path: &str, text: &str, mode: u32) -> (String, String, u32) {
        (path.to_owned(), text.to_owned(), mode)
    }

    #[test]
    fn keys_become_files_with_their_modes() {
        let map: ConfigMap =
            serde_json::from_value(json!({"data": {"a": "1"}, "binaryData": {"b": "Mg=="}})).expect("a map");
        let all = Pick { items: None, mode: 0o644, optional: false };
        let mut payload = Payload::new();
        of_config_map(&mut payload, Some(&map), &all).expect("all keys");
        assert_eq!(files(&payload), [row("a", "1", 0o644), row("b", "2", 0o644)]);

        let items: Vec<KeyToPath> =
            serde_json::from_value(json!([{"key": "b", "path": "x/y", "mode": 256}, {"key": "a", "path": "z"}]))
                .expect("items");
        let some = Pick { items: Some(&items), mode: 0o644, optional: false };
        let mut payload = Payload::new();
        of_config_map(&mut payload, Some(&map), &some).expect("both keys");
        assert_eq!(files(&payload), [row("x/y", "2", 0o400), row("z", "1", 0o644)]);
    }

    #[test]
    fn a_missing_key_is_a_fault_unless_it_is_optional() {
        let secret: Secret = serde_json::from_value(json!({"data": {"a": "MQ=="}})).expect("a secret");
        let items: Vec<KeyToPath> = serde_json::from_value(json!([{"key": "b", "path": "b"}])).expect("items");
        let pick = |optional| Pick { items: Some(&items), mode: 0o644, optional };
        let mut payload = Payload::new();
        let missing = of_secret(&mut payload, Some(&secret), &pick(false)).expect_err("it is missing");
        assert_eq!(missing, "references non-existent secret key: b");
        of_secret(&mut payload, Some(&secret), &pick(true)).expect("it is optional");
        of_secret(&mut payload, None, &pick(true)).expect("so is the whole secret");
        assert!(payload.is_empty());
        let missing = of_config_map(&mut payload, None, &pick(false)).expect_err("it is missing");
        assert_eq!(missing, "references non-existent config key: b");
    }
}
