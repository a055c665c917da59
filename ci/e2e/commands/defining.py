"""Kinds that users define, and who else has a say: definitions, their objects, policies."""

from commands import Fails, Has, Like, namespace, table

CRD = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: backups.shop.example
spec:
  group: shop.example
  scope: Namespaced
  names: {plural: backups, singular: backup, kind: Backup, shortNames: [bk], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.copies, statusReplicasPath: .status.copies}
    additionalPrinterColumns:
    - {name: Every, type: string, jsonPath: .spec.every}
    - {name: Copies, type: integer, jsonPath: .spec.copies}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A backup that is made again and again.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [every]
            x-kubernetes-validations:
            - {rule: "self.copies <= 9 || self.every != 'hour'", message: too many copies for so often}
            properties:
              every: {type: string, enum: [hour, day, week], description: How often.}
              copies: {type: integer, minimum: 1, default: 3}
          status:
            type: object
            properties:
              copies: {type: integer}
"""

BACKUP = """
apiVersion: shop.example/v1
kind: Backup
metadata:
  name: %s
spec: {%s}
"""

POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: names.shop.example
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [shop.example], apiVersions: ["*"], operations: [CREATE], resources: [backups]}
  validations:
  - {expression: "!object.metadata.name.startsWith('test-')", message: no tests here}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: names.shop.example
spec: {policyName: names.shop.example, validationActions: [Deny]}
"""


def kinds_are_defined_used_explained_and_forgotten():
    here = namespace("defines")
    table(
        here,
        ("apply -f -", "customresourcedefinition.apiextensions.k8s.io/backups.shop.example created\n", CRD),
        ("wait --for=condition=Established crd/backups.shop.example --timeout=30s", Has("condition met")),
        ("get crd backups.shop.example", Like(r"NAME +CREATED AT\nbackups.shop.example +20\S+\n")),
        ("api-resources --api-group=shop.example --no-headers", Like(r"backups +bk +shop.example/v1 +true +Backup\n")),
        ("explain backups", Has("A backup that is made again and again.", "What is wanted.", "APIVersion defines")),
        ("explain bk.spec.every", Has("How often.", "<string>")),
        ("create -f -", "backup.shop.example/a created\n", BACKUP % ("a", "every: day")),
        ("apply --server-side -f -", "backup.shop.example/b serverside-applied\n", BACKUP % ("b", "every: hour, copies: 2")),
        ("get bk", Like(r"NAME +EVERY +COPIES +AGE\na +day +3 +\d+s\nb +hour +2 +\d+s\n")),
        ("get all -o name", Has("backup.shop.example/a")),
        ("create -f -", Fails('Unsupported value: "never"'), BACKUP % ("c", "every: never")),
        ("create -f -", Fails('strict decoding error: unknown field "spec.odd"'), BACKUP % ("c", "every: day, odd: 1")),
        ("create -f -", Fails("too many copies for so often"), BACKUP % ("c", "every: hour, copies: 10")),
        ("patch bk a --type=merge -p '{\"spec\":{\"copies\":5}}'", "backup.shop.example/a patched\n"),
        ("scale bk a --replicas=4", "backup.shop.example/a scaled\n"),
        ("get bk a -o jsonpath='{.spec.copies} {.metadata.generation}'", "4 3"),
        ("delete bk b", 'backup.shop.example "b" deleted\n'),
        ("delete crd backups.shop.example", 'customresourcedefinition.apiextensions.k8s.io "backups.shop.example" deleted\n'),
        ("get crd backups.shop.example", Fails('"backups.shop.example" not found')),
    )


def policies_refuse_and_namespaces_take_custom_objects_with_them():
    here = namespace("rules")
    table(
        here,
        ("apply -f -", Has("created"), CRD),
        ("wait --for=condition=Established crd/backups.shop.example --timeout=30s", Has("condition met")),
        ("apply -f -", Has("names.shop.example created"), POLICY),
        ("create -f -", Fails("denied request: no tests here"), BACKUP % ("test-a", "every: day")),
        ("create -f -", "backup.shop.example/a created\n", BACKUP % ("a", "every: day")),
        ("delete namespace rules", 'namespace "rules" deleted\n'),
        # kubectl looks for the namespace when the object is not there.
        ("get bk a", Fails('namespaces "rules" not found')),
        ("delete crd backups.shop.example", Has("deleted")),
        ("delete validatingadmissionpolicy names.shop.example", Has("deleted")),
        ("delete validatingadmissionpolicybinding names.shop.example", Has("deleted")),
    )


TESTS = [
    kinds_are_defined_used_explained_and_forgotten,
    policies_refuse_and_namespaces_take_custom_objects_with_them,
]
