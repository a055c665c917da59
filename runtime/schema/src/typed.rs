//! The questions that patches and server-side apply ask, answered by a table.

use kiln_apimachinery::typed::{Kind, ListType, PatchRule, Scalar, Type};
use serde_json::Value;

use crate::table::{ALWAYS, Code, MapType, POINTER, TypeRef};

impl Type for TypeRef<'_> {
    fn kind(&self) -> Kind {
        match self.code() {
            Code::Struct => Kind::Struct,
            Code::List | Code::Texts => Kind::List,
            Code::Map => Kind::Map,
            Code::Raw
            | Code::Fields
            | Code::Json
            | Code::SchemaOrArray
            | Code::SchemaOrBool
            | Code::SchemaOrStrings
            | Code::Any => Kind::Any,
            _ => Kind::Scalar,
        }
    }

    fn field(&self, name: &str) -> Option<Self> {
        match self.code() {
            Code::Struct => self.json_field(name).map(|f| self.to(f.node)),
            Code::Map => Some(self.inner()),
            _ => None,
        }
    }

    fn item(&self) -> Option<Self> {
        match self.code() {
            Code::List => Some(self.inner()),
            _ => None,
        }
    }

    fn scalar(&self) -> Scalar {
        match self.code() {
            Code::Text | Code::Bytes | Code::Time | Code::MicroTime => Scalar::Text,
            Code::Int32 | Code::Int64 | Code::Double => Scalar::Number,
            Code::Bool => Scalar::Boolean,
            _ => Scalar::Any,
        }
    }

    fn declares(&self, name: &str) -> bool {
        self.json_field(name).is_some()
    }

    fn always(&self, name: &str) -> bool {
        self.json_field(name).is_some_and(|f| f.is(ALWAYS))
    }

    fn list(&self) -> ListType {
        self.facts().list.unwrap_or_default()
    }

    fn key(&self, index: usize) -> Option<&str> {
        self.facts().keys.get(index).map(|key| self.table.str(*key))
    }

    fn key_default(&self, key: &str) -> Option<Value> {
        self.item()?.default_of(key)
    }

    fn atomic(&self) -> bool {
        match self.facts().map {
            MapType::Atomic => true,
            MapType::Granular => false,
            MapType::Unsaid => self.structure().is_some_and(|s| s.atomic),
        }
    }

    fn patch(&self) -> PatchRule<'_> {
        let facts = self.facts();
        let merge_key = Some(self.table.str(facts.merge_key)).filter(|k| !k.is_empty());
        PatchRule { merge_key, strategy: facts.strategy }
    }
}

impl TypeRef<'_> {
    /// Of a struct, what a field counts as that is absent, if the schema says so.
    pub fn default_of(&self, field: &str) -> Option<Value> {
        let field = self.json_field(field)?;
        let ty = self.to(field.node);
        if let Some(said) = ty.facts().default {
            return serde_json::from_str(self.table.str(said)).ok();
        }
        if field.is(POINTER) {
            return None;
        }
        match ty.code() {
            Code::Struct => Some(Value::Object(serde_json::Map::new())),
            _ if !field.is(ALWAYS) => None,
            Code::Text => Some("".into()),
            Code::Bool => Some(false.into()),
            Code::Int32 | Code::Int64 | Code::Double => Some(0.into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_apimachinery::typed::PatchStrategy;
    use serde_json::json;

    use super::*;
    use crate::lookup;

    fn at<'t>(kind: &str, path: &[&str]) -> TypeRef<'t> {
        let mut ty = lookup("v1", kind).unwrap();
        for step in path {
            ty = if *step == "[]" { ty.item().unwrap() } else { ty.field(step).unwrap() };
        }
        ty
    }

    #[test]
    fn containers_merge_by_name_and_ports_by_two_keys_of_which_one_has_a_default() {
        let containers = at("Pod", &["spec", "containers"]);
        assert_eq!((containers.list(), containers.key(0), containers.key(1)), (ListType::Map, Some("name"), None));
        assert_eq!(containers.patch(), PatchRule { merge_key: Some("name"), strategy: PatchStrategy::Merge });
        let ports = at("Pod", &["spec", "containers", "[]", "ports"]);
        assert_eq!((ports.key(0), ports.key(1)), (Some("containerPort"), Some("protocol")));
        assert_eq!(ports.key_default("protocol"), Some(json!("TCP")));
        assert_eq!(ports.key_default("name"), None);
        assert_eq!(at("Pod", &["spec", "volumes"]).patch().strategy, PatchStrategy::MergeRetainKeys);
        assert_eq!(at("Pod", &["metadata", "finalizers"]).list(), ListType::Set);
    }

    #[test]
    fn references_and_selectors_have_one_owner() {
        assert!(at("Pod", &["spec", "nodeSelector"]).atomic());
        assert!(at("Event", &["involvedObject"]).atomic());
        // The field says otherwise than its type.
        assert!(!at("PersistentVolume", &["spec", "claimRef"]).atomic());
        assert!(at("ConfigMap", &["data"]).kind() == Kind::Map && !at("ConfigMap", &["data"]).atomic());
        assert_eq!(at("Pod", &["spec", "volumes", "[]", "hostPath", "path"]).kind(), Kind::Scalar);
    }
}
