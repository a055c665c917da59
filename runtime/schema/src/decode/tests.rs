//! What clients get wrong, and what they are told.

use serde_json::json;

use super::*;
use crate::dice::{Dice, kinds};
use crate::lookup;

fn checked(version: &str, kind: &str, mut value: Value) -> Result<(Value, Vec<String>), String> {
    let findings = check(lookup(version, kind).unwrap(), &mut value)?;
    Ok((value, findings.unknown))
}

fn why(kind: &str, value: Value) -> String {
    let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    checked(version, kind, value).unwrap_err()
}

#[test]
fn a_wrong_type_is_told_in_the_words_of_go() {
    let of = |found: &str, field: &str, go: &str| {
        format!("json: cannot unmarshal {found} into Go struct field {field} of type {go}")
    };
    assert_eq!(why("ConfigMap", json!({"data": {"a": 3}})), of("number", "ConfigMap.data", "string"));
    assert_eq!(why("ConfigMap", json!({"data": "x"})), of("string", "ConfigMap.data", "map[string]string"));
    assert_eq!(why("ConfigMap", json!({"immutable": "yes"})), of("string", "ConfigMap.immutable", "bool"));
    assert_eq!(
        why("Deployment", json!({"spec": {"replicas": "3"}})),
        of("string", "DeploymentSpec.spec.replicas", "int32")
    );
    assert_eq!(
        why("Deployment", json!({"spec": {"replicas": 5_000_000_000_i64}})),
        of("number 5000000000", "DeploymentSpec.spec.replicas", "int32")
    );
    assert_eq!(why("Pod", json!({"spec": []})), of("array", "Pod.spec", "v1.PodSpec"));
    let pod = |container: Value| json!({"spec": {"containers": [container]}});
    assert_eq!(why("Pod", pod(json!("x"))), of("string", "PodSpec.spec.containers", "v1.Container"));
    assert_eq!(
        why("Pod", pod(json!({"env": [{"name": "a", "value": 1}]}))),
        of("number", "EnvVar.spec.containers.env.value", "string")
    );
    assert_eq!(
        why("Pod", pod(json!({"ports": [{"protocol": 6}]}))),
        of("number", "ContainerPort.spec.containers.ports.protocol", "v1.Protocol")
    );
    assert_eq!(
        why("Pod", pod(json!({"resources": {"limits": []}}))),
        of("array", "ResourceRequirements.spec.containers.resources.limits", "v1.ResourceList")
    );
    assert_eq!(why("Pod", json!({"kind": 3})), of("number", "Pod.TypeMeta.kind", "string"));
    assert_eq!(
        why("Pod", json!({"spec": {"volumes": [{"hostPath": 3}]}})),
        of("number", "Volume.spec.volumes.VolumeSource.hostPath", "v1.HostPathVolumeSource")
    );
    assert_eq!(why("Pod", json!([])), "json: cannot unmarshal array into Go value of type v1.Pod");
}

#[test]
fn what_go_takes_for_nothing_is_not_kept() {
    let empty = json!({"metadata": {"name": "a", "namespace": "", "labels": {}, "ownerReferences": [], "generation": 0}, "data": {}});
    assert_eq!(checked("v1", "ConfigMap", empty).unwrap().0, json!({"metadata": {"name": "a"}}));
    let pod = json!({"spec": {
        "hostNetwork": false,
        "enableServiceLinks": false,
        "priority": 0,
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "env": [{"name": "A", "value": ""}], "args": [""], "securityContext": {}}],
    }});
    let kept = json!({"spec": {
        "enableServiceLinks": false,
        "priority": 0,
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "env": [{"name": "A"}], "args": [""], "securityContext": {}}],
    }});
    assert_eq!(checked("v1", "Pod", pod).unwrap().0, kept);
    // A role without rules says so.
    let role = json!({"rules": []});
    assert_eq!(checked("rbac.authorization.k8s.io/v1", "Role", role.clone()).unwrap().0, role);
}

#[test]
fn types_with_decoders_of_their_own_have_words_of_their_own() {
    assert_eq!(why("Secret", json!({"data": {"a": "a*=="}})), "illegal base64 data at input byte 1");
    assert!(why("Pod", json!({"metadata": {"creationTimestamp": "noon"}})).starts_with("parsing time \"noon\" as"));
    assert_eq!(
        why("Pod", json!({"metadata": {"creationTimestamp": 3}})),
        "json: cannot unmarshal number into Go value of type string"
    );
    let limits = |amount: Value| json!({"spec": {"containers": [{"resources": {"limits": {"cpu": amount}}}]}});
    assert!(why("Pod", limits(json!("lots"))).starts_with("quantities must match the regular expression"));
    assert!(why("Pod", limits(json!(true))).starts_with("quantities must match the regular expression"));
    let port = |target: Value| json!({"spec": {"ports": [{"targetPort": target}]}});
    assert_eq!(why("Service", port(json!(true))), "json: cannot unmarshal bool into Go value of type int32");
    assert_eq!(why("Service", port(json!(1.5))), "json: cannot unmarshal number 1.5 into Go value of type int32");
}

#[test]
fn unknown_fields_are_dropped_and_told_by_path_at_any_depth() {
    let pod = json!({
        "colour": 1, "metadata": {"labels": {"a": "b"}, "age": 3},
        "spec": {"foo": {}, "containers": [{"name": "a"}, {"name": "b", "imgae": "x", "ports": [{"prot": 1}]}]},
    });
    let (value, unknown) = checked("v1", "Pod", pod).unwrap();
    assert_eq!(
        unknown,
        ["colour", "metadata.age", "spec.containers[1].imgae", "spec.containers[1].ports[0].prot", "spec.foo"]
    );
    assert_eq!(
        value,
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{}]}]}})
    );
    let schema = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {"a": {"nope": 1, "items": {"nope": 1}}}}}}]}});
    let (_, unknown) = checked("apiextensions.k8s.io/v1", "CustomResourceDefinition", schema).unwrap();
    // The decoder of `items` is one that tells nothing.
    assert_eq!(unknown, ["spec.versions[0].schema.openAPIV3Schema.properties.a.nope"]);
}

#[test]
fn nulls_are_absence_in_structs_and_zeros_in_lists_and_maps_and_stay_in_untyped_json() {
    let (value, unknown) =
        checked("v1", "ConfigMap", json!({"data": {"a": null}, "immutable": null, "metadata": {"finalizers": [null]}}))
            .unwrap();
    assert_eq!(value, json!({"data": {"a": ""}, "metadata": {"finalizers": [""]}}));
    assert!(unknown.is_empty());
    let revision = json!({"data": {"a": null}});
    assert_eq!(checked("apps/v1", "ControllerRevision", revision.clone()).unwrap().0, revision);
    let mut pod = json!({"spec": {"nodeName": null, "containers": [{"image": null}], "nodeSelector": {"a": null}}});
    prune_nulls(lookup("v1", "Pod").unwrap(), &mut pod);
    assert_eq!(pod, json!({"spec": {"containers": [{}], "nodeSelector": {}}}));
}

#[test]
fn amounts_and_times_take_the_form_that_is_stored() {
    let pod = json!({"metadata": {"creationTimestamp": "2026-01-02T03:04:05+01:00"}, "spec": {"overhead": {"cpu": "0.5", "memory": 1024, "x": "100m"}}});
    let (value, _) = checked("v1", "Pod", pod).unwrap();
    assert_eq!(value["metadata"]["creationTimestamp"], "2026-01-02T02:04:05Z");
    assert_eq!(value["spec"]["overhead"], json!({"cpu": "500m", "memory": "1024", "x": "100m"}));
}

#[test]
fn base64_is_refused_at_the_byte_where_go_refuses_it() {
    let cases: &[(&str, Option<usize>)] = &[
        ("", None),
        ("YQ==", None),
        ("YW\nI=", None),
        ("YWJj", None),
        ("YQ=", Some(3)),
        ("YQ", Some(0)),
        ("YWJjY", Some(4)),
        ("YQ==x", Some(4)),
        ("Y===", Some(1)),
        ("YQ=a", Some(3)),
        ("a b", Some(1)),
    ];
    for (text, fault) in cases {
        assert_eq!(base64_fault(text.as_bytes()), *fault, "{text:?}");
    }
}

/// Puts something else somewhere in a value.
fn disturb(dice: &mut Dice, value: &mut Value) {
    if dice.roll(4) > 0 {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let at = dice.roll(map.len() as u64) as usize;
                return map.values_mut().nth(at).into_iter().for_each(|v| disturb(dice, v));
            }
            Value::Array(list) if !list.is_empty() => {
                let at = dice.roll(list.len() as u64) as usize;
                return disturb(dice, &mut list[at]);
            }
            _ => {}
        }
    }
    let odd = [json!(null), json!(1.5), json!(-1), json!("é="), json!(true), json!([null, 1]), json!({"é": null})];
    *value = odd[dice.roll(odd.len() as u64) as usize].clone();
}

#[test]
fn whatever_is_sent_is_judged_and_what_was_found_good_once_is_good_as_it_is() {
    let mut dice = Dice(3);
    let (mut good, mut bad) = (0, 0);
    for (_, kind, ty) in kinds() {
        for _ in 0..30 {
            let mut value = Value::Object(dice.object(ty, 0));
            disturb(&mut dice, &mut value);
            match check(ty, &mut value) {
                Ok(_) => {
                    let mut again = value.clone();
                    assert_eq!(check(ty, &mut again), Ok(Findings::default()), "{kind} {value}");
                    assert_eq!(again, value, "{kind}");
                    good += 1;
                }
                Err(why) => {
                    assert!(!why.is_empty());
                    bad += 1;
                }
            }
        }
    }
    assert!(good > 500 && bad > 500, "{good} {bad}");
}
