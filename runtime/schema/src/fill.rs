//! What objects have though nobody said it: in Go, a struct that is no pointer is written if it is empty, and a field without
//! `omitempty` with its zero. A Deployment has a `status: {}`, a container `resources: {}`, a Role without rules
//! `rules: null`.

use serde_json::{Map, Value};

use crate::table::{ALWAYS, Code, Field, POINTER, Table, Text, TypeRef};

/// Adds the fields that an object of the type always has, at any depth, but for those that are null. What is there stays, unless it
/// is empty and as good as absent.
pub fn fill(ty: TypeRef<'_>, value: &mut Value) {
    walk(ty, value, false);
}

/// The same, with the nulls: the form in which an object is shown.
pub fn complete(ty: TypeRef<'_>, value: &mut Value) {
    walk(ty, value, true);
}

fn walk(ty: TypeRef<'_>, value: &mut Value, nulls: bool) {
    match value {
        Value::Object(map) => match ty.code() {
            Code::Struct => fields(ty, map, nulls),
            Code::Map => map.values_mut().for_each(|value| walk(ty.inner(), value, nulls)),
            _ => {}
        },
        Value::Array(list) if ty.code() == Code::List => {
            list.iter_mut().for_each(|value| walk(ty.inner(), value, nulls));
        }
        _ => {}
    }
}

fn fields(ty: TypeRef<'_>, map: &mut Map<String, Value>, nulls: bool) {
    let range = ty.structure().map(|s| s.fills).unwrap_or_default();
    for (name, at) in ty.table.fills.get(range.0 as usize..range.1 as usize).unwrap_or_default() {
        let (Some(field), name) = (ty.table.fields.get(*at as usize), ty.table.str(*name)) else { continue };
        match map.get_mut(name) {
            Some(Value::Null) | None if field.is(ALWAYS) => {
                let zero = if field.is(POINTER) { Value::Null } else { zero(ty.to(field.node), nulls) };
                if nulls || !zero.is_null() {
                    map.insert(name.to_owned(), zero);
                }
            }
            Some(Value::Array(list)) if list.is_empty() && field.is(ALWAYS) => none(map, name, nulls),
            Some(Value::Object(of)) if of.is_empty() && field.is(ALWAYS) && ty.to(field.node).code() == Code::Map => {
                none(map, name, nulls);
            }
            Some(value) => walk(ty.to(field.node), value, nulls),
            None => {}
        }
    }
}

/// Lists and maps without elements are kept as none at all.
fn none(map: &mut Map<String, Value>, name: &str, nulls: bool) {
    if nulls {
        map.insert(name.to_owned(), Value::Null);
    } else {
        map.remove(name);
    }
}

/// What Go writes of a value that nothing was put into.
fn zero(ty: TypeRef<'_>, nulls: bool) -> Value {
    match ty.code() {
        Code::Text => "".into(),
        Code::Bool => false.into(),
        Code::Int32 | Code::Int64 | Code::Double | Code::IntOrString => 0.into(),
        Code::Quantity => "0".into(),
        Code::Struct => {
            let mut map = Map::new();
            fields(ty, &mut map, nulls);
            map.into()
        }
        _ => Value::Null,
    }
}

/// Finds which fields of which structs [`fill`] has to look at.
pub(crate) fn index(table: &mut Table) {
    let mut needs = vec![false; table.structs.len()];
    loop {
        let more: Vec<usize> = (0..needs.len())
            .filter(|at| !needs[*at] && of(table, *at).any(|(_, f, _)| looks(table, f, &needs)))
            .collect();
        if more.is_empty() {
            break;
        }
        more.into_iter().for_each(|at| needs[at] = true);
    }
    for at in 0..needs.len() {
        let found: Vec<(Text, u32)> =
            of(table, at).filter(|(_, f, _)| looks(table, f, &needs)).map(|(name, _, at)| (name, at)).collect();
        let start = u32::try_from(table.fills.len()).unwrap_or(u32::MAX);
        table.fills.extend(found);
        table.structs[at].fills = (start, u32::try_from(table.fills.len()).unwrap_or(u32::MAX));
    }
    table.fills.shrink_to_fit();
}

/// The JSON fields of a struct: name, field, and its place.
fn of(table: &Table, at: usize) -> impl Iterator<Item = (Text, &Field, u32)> {
    let range = table.structs[at].names;
    let names = table.names.get(range.0 as usize..range.1 as usize).unwrap_or_default();
    names.iter().filter_map(|(name, at)| Some((*name, table.fields.get(*at as usize)?, *at)))
}

/// True for a field that is always there, or whose value has such fields somewhere.
fn looks(table: &Table, field: &Field, needs: &[bool]) -> bool {
    let mut ty = TypeRef { table, node: field.node };
    while matches!(ty.code(), Code::List | Code::Map) {
        ty = ty.inner();
    }
    let inside = ty.code() == Code::Struct && needs.get(ty.record().of as usize).copied().unwrap_or(false);
    field.is(ALWAYS) || inside
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lookup;

    fn filled(version: &str, kind: &str, mut object: Value) -> Value {
        complete(lookup(version, kind).unwrap(), &mut object);
        object
    }

    #[test]
    fn what_is_no_pointer_is_there_and_what_is_one_is_not() {
        let pod = filled("v1", "Pod", json!({"spec": {"containers": [{"name": "a", "livenessProbe": {}}]}}));
        let container = json!({"name": "a", "resources": {}, "livenessProbe": {}});
        assert_eq!(pod, json!({"metadata": {}, "spec": {"containers": [container]}, "status": {}}));
    }

    #[test]
    fn lists_and_times_that_are_always_written_are_null_and_numbers_zero() {
        assert_eq!(
            filled("rbac.authorization.k8s.io/v1", "Role", json!({"metadata": {"name": "a"}})),
            json!({"metadata": {"name": "a"}, "rules": null})
        );
        let event = filled("v1", "Event", json!({"involvedObject": {"name": "a"}, "reportingComponent": "me"}));
        assert_eq!(event["firstTimestamp"], Value::Null);
        assert_eq!((&event["reportingComponent"], &event["reportingInstance"]), (&json!("me"), &json!("")));
        assert_eq!(event["source"], json!({}));
        let set = filled("apps/v1", "DaemonSet", json!({}));
        assert_eq!(set["status"]["numberReady"], json!(0));
        assert_eq!(set["spec"]["template"]["spec"], json!({"containers": null}));
    }

    #[test]
    fn what_is_null_is_left_out_of_objects_that_are_worked_on() {
        let mut set = json!({});
        fill(lookup("apps/v1", "DaemonSet").unwrap(), &mut set);
        assert_eq!(set["spec"], json!({"template": {"metadata": {}, "spec": {}}, "updateStrategy": {}}));
    }

    #[test]
    fn empty_lists_are_none_and_pointers_that_are_always_written_null() {
        let role = filled("rbac.authorization.k8s.io/v1", "Role", json!({"rules": []}));
        assert_eq!(role["rules"], Value::Null);
        let claim = json!({"spec": {"dataSource": {"kind": "A", "name": "b"}}});
        let claim = filled("v1", "PersistentVolumeClaim", claim);
        assert_eq!(claim["spec"]["dataSource"], json!({"apiGroup": null, "kind": "A", "name": "b"}));
    }

    #[test]
    fn a_second_time_changes_nothing() {
        let once = filled("v1", "Service", json!({"spec": {"ports": [{"port": 1}]}}));
        assert_eq!(once["status"], json!({"loadBalancer": {}}));
        assert_eq!(filled("v1", "Service", once.clone()), once);
    }
}
