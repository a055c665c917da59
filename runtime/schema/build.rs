//! Packs the descriptions of the API's types, which the crate `k8s-openapi` has, into one compressed file.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use schemars::SchemaGenerator;
use serde_json::Value;

/// Has the generator describe kinds, and with them whatever their fields are made of.
macro_rules! describe {
    ($generator:ident: $($module:path { $($kind:ident)* })*) => {
        $({
            use $module as module;
            $($generator.subschema_for::<module::$kind>();)*
        })*
    };
}

fn kinds(generator: &mut SchemaGenerator) {
    describe! { generator:
        k8s_openapi::api::admissionregistration::v1 {
            MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
            ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration
        }
        k8s_openapi::api::apps::v1 { ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet }
        k8s_openapi::api::authentication::v1 { SelfSubjectReview TokenRequest TokenReview }
        k8s_openapi::api::authorization::v1 {
            LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview
        }
        k8s_openapi::api::autoscaling::v1 { HorizontalPodAutoscaler Scale }
        k8s_openapi::api::autoscaling::v2 { HorizontalPodAutoscaler }
        k8s_openapi::api::batch::v1 { CronJob Job }
        k8s_openapi::api::certificates::v1 { CertificateSigningRequest }
        k8s_openapi::api::coordination::v1 { Lease }
        k8s_openapi::api::core::v1 {
            Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount
        }
        k8s_openapi::api::discovery::v1 { EndpointSlice }
        k8s_openapi::api::events::v1 { Event }
        k8s_openapi::api::flowcontrol::v1 { FlowSchema PriorityLevelConfiguration }
        k8s_openapi::api::networking::v1 { IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR }
        k8s_openapi::api::node::v1 { RuntimeClass }
        k8s_openapi::api::policy::v1 { Eviction PodDisruptionBudget }
        k8s_openapi::api::rbac::v1 { ClusterRole ClusterRoleBinding Role RoleBinding }
        k8s_openapi::api::resource::v1 { DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice }
        k8s_openapi::api::scheduling::v1 { PriorityClass }
        k8s_openapi::api::storage::v1 {
            CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass
        }
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 { CustomResourceDefinition }
        k8s_openapi::apimachinery::pkg::apis::meta::v1 {
            APIGroup APIGroupList APIResourceList APIVersions DeleteOptions Status
        }
        k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 { APIService }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    kinds(&mut generator);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("descriptions.gz");
    let mut packed = GzEncoder::new(std::fs::File::create(out)?, Compression::best());
    // In the order in which documents are written, so that both go along side by side.
    let definitions: BTreeMap<_, _> = generator.definitions().iter().collect();
    for (name, schema) in definitions {
        // The marks are those that src/openapi/descriptions.rs reads.
        write!(packed, "\u{1}{name}")?;
        let text = |schema: &Value| schema.get("description").and_then(Value::as_str).map(str::to_owned);
        if let Some(text) = text(schema) {
            write!(packed, "\u{3}{text}")?;
        }
        for (field, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            if let Some(text) = text(schema) {
                write!(packed, "\u{2}{field}\u{3}{text}")?;
            }
        }
    }
    packed.finish()?;
    Ok(())
}
