"""Who may do what: roles and bindings, `auth` in all its verbs, acting as others, and certificates."""

import base64
import json

from commands import Fails, Has, Like, Warns, namespace, table

# Requests of nobody in particular, made for this test.
REQUEST = """-----BEGIN CERTIFICATE REQUEST-----
MIGdMFECAQAwHjENMAsGA1UECgwEc2hvcDENMAsGA1UEAwwEYW5uYTAqMAUGAytl
cAMhAGfyn/Fcyj9b1X2YszmlN7iEuLTOxEhps9GKnTSlIg0CoAAwBQYDK2VwA0EA
wVC4r3EyOs6kOeaAqSqOxFqPP8kP5EjWddeBKdwZYfHeRtOAUKc6WEPTTNnAvoVf
o8wZkygoQ0DCyv3zZ+tiCA==
-----END CERTIFICATE REQUEST-----
"""
ROLES = """
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: keeper
  namespace: rights
rules:
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: keepers
  namespace: rights
subjects:
- {kind: User, name: anna, apiGroup: rbac.authorization.k8s.io}
roleRef: {kind: Role, name: keeper, apiGroup: rbac.authorization.k8s.io}
"""


def roles_give_what_they_say_and_no_more():
    anna, robot = "--as=anna", "--as=system:serviceaccount:rights:robot"
    table(
        namespace("rights"),
        ("create serviceaccount robot", "serviceaccount/robot created\n"),
        (
            "create role reader --verb=get,list --resource=pods,configmaps --resource-name=",
            "role.rbac.authorization.k8s.io/reader created\n",
        ),
        ("get role reader -o jsonpath='{.rules}'", Has('"verbs":["get","list"]')),
        (
            "create rolebinding readers --role=reader --serviceaccount=rights:robot --user=anna",
            "rolebinding.rbac.authorization.k8s.io/readers created\n",
        ),
        (
            "create clusterrole metrics --verb=get --non-resource-url=/metrics",
            "clusterrole.rbac.authorization.k8s.io/metrics created\n",
        ),
        (
            "create clusterrolebinding metrics --clusterrole=metrics --group=shop",
            "clusterrolebinding.rbac.authorization.k8s.io/metrics created\n",
        ),
        (
            "create clusterrole all-metrics --aggregation-rule=m=yes",
            "clusterrole.rbac.authorization.k8s.io/all-metrics created\n",
        ),
        ("label clusterrole metrics m=yes", "clusterrole.rbac.authorization.k8s.io/metrics labeled\n"),
        (
            "wait clusterrole all-metrics --for=jsonpath='{.rules[0].nonResourceURLs[0]}'=/metrics --timeout=30s",
            "clusterrole.rbac.authorization.k8s.io/all-metrics condition met\n",
        ),
        (f"auth can-i list pods {robot}", "yes\n"),
        (f"auth can-i delete pods {robot}", Fails("", 1)),
        ("auth can-i get /metrics --as=ben --as-group=shop", "yes\n"),
        (f"auth can-i get /metrics {anna} -q", Fails("", 1)),
        ("auth can-i '*' '*'", "yes\n"),
        (f"auth can-i list pods --subresource=log {anna}", Fails("", 1)),
        (f"auth can-i get widgets {anna}", Fails("the server doesn't have a resource type 'widgets'", 1)),
        (
            f"auth can-i --list {robot}",
            Like(
                r"Resources +Non-Resource URLs +Resource Names +Verbs\n.*selfsubjectreviews\.authentication\.k8s\.io +\[\] +\[\] +\[create\]\n"
                r".*configmaps +\[\] +\[\] +\[get list\]\npods +\[\] +\[\] +\[get list\]\n.*\[/version\] +\[\] +\[get\]\n"
            ),
        ),
        (f"get configmaps {robot} -o name", "configmap/kube-root-ca.crt\n"),
        (
            f"get secrets {robot}",
            Fails(
                'Error from server (Forbidden): secrets is forbidden: User "system:serviceaccount:rights:robot" cannot list resource '
                '"secrets" in API group "" in the namespace "rights"'
            ),
        ),
        (f"get secrets -A {anna}", Fails('User "anna" cannot list resource "secrets" in API group "" at the cluster scope')),
        (
            f"create configmap x {anna}",
            Fails(
                'error: failed to create configmap: configmaps is forbidden: User "anna" cannot create resource "configmaps"'
            ),
        ),
        (
            f"delete configmap kube-root-ca.crt {anna}",
            Fails('configmaps "kube-root-ca.crt" is forbidden: User "anna" cannot delete resource "configmaps"'),
        ),
        (f"get configmaps {anna} --as-uid=7 -o name", "configmap/kube-root-ca.crt\n"),
        (
            "create rolebinding edits --clusterrole=edit --user=editor",
            "rolebinding.rbac.authorization.k8s.io/edits created\n",
        ),
        (
            "create rolebinding admins --clusterrole=admin --user=boss",
            "rolebinding.rbac.authorization.k8s.io/admins created\n",
        ),
        ("auth can-i create deployments.apps --as=editor", "yes\n"),
        ("auth can-i create rolebindings --as=editor", Fails("", 1)),
        (
            "create role taker --verb=impersonate --resource=users --as=boss",
            Fails(
                'roles.rbac.authorization.k8s.io "taker" is forbidden: user "boss" (groups=["system:authenticated"]) is attempting to '
                "grant RBAC permissions not currently held:\n"
            ),
        ),
        (
            "create rolebinding up --clusterrole=cluster-admin --user=boss --as=boss",
            Fails(
                'rolebindings.rbac.authorization.k8s.io "up" is forbidden: user "boss" (groups=["system:authenticated"]) is attempting to '
                "grant RBAC permissions not currently held:\n"
            ),
        ),
        ("patch rolebinding edits --type=merge -p '{\"roleRef\":{\"name\":\"admin\"}}'", Fails("cannot change roleRef")),
    )


def reconcile_adds_what_a_role_lacks():
    table(
        "rights",
        (
            "auth reconcile -f -",
            Has(
                "role.rbac.authorization.k8s.io/keeper reconciled\n",
                "rolebinding.rbac.authorization.k8s.io/keepers reconciled\n",
            ),
            ROLES,
        ),
        ("auth can-i get secrets --as=anna", "yes\n"),
        ("auth reconcile -f -", Warns("missing rules added"), ROLES.replace("[get]", "[list]")),
        ("auth can-i get secrets --as=anna", "yes\n"),
        ("auth can-i list secrets --as=anna", "yes\n"),
        ("auth reconcile --remove-extra-permissions -f -", Warns("extra rules removed"), ROLES),
        ("auth can-i list secrets --as=anna", Fails("", 1)),
    )


def whoami_tells_the_user_and_the_groups():
    table(
        "default",
        (
            "auth whoami",
            Like(r"ATTRIBUTE +VALUE\nUsername +kubernetes-admin\nGroups +\[system:masters system:authenticated\]\n.*"),
        ),
        (
            "auth whoami --as=anna --as-group=shop -o jsonpath='{.status.userInfo}'",
            '{"groups":["shop","system:authenticated"],"username":"anna"}',
        ),
        (
            "auth whoami --as=system:serviceaccount:rights:robot -o jsonpath='{.status.userInfo.groups}'",
            '["system:serviceaccounts","system:serviceaccounts:rights","system:authenticated"]',
        ),
    )


def certificate_requests_are_approved_denied_and_signed():
    def request(name, signer="kubernetes.io/kube-apiserver-client", usages=("client auth",)):
        return json.dumps(
            {
                "apiVersion": "certificates.k8s.io/v1",
                "kind": "CertificateSigningRequest",
                "metadata": {"name": name},
                "spec": {"signerName": signer, "usages": usages, "request": base64.b64encode(REQUEST.encode()).decode()},
            }
        )

    table(
        "default",
        ("create -f -", "certificatesigningrequest.certificates.k8s.io/anna created\n", request("anna")),
        ("create -f -", "certificatesigningrequest.certificates.k8s.io/ben created\n", request("ben")),
        (
            "get csr anna",
            Like(
                r"NAME +AGE +SIGNERNAME +REQUESTOR +REQUESTEDDURATION +CONDITION\n"
                r"anna +\d+s +kubernetes\.io/kube-apiserver-client +kubernetes-admin +<none> +Pending\n"
            ),
        ),
        ("certificate approve anna", "certificatesigningrequest.certificates.k8s.io/anna approved\n"),
        (
            "wait csr/anna --for=condition=Approved --timeout=30s",
            "certificatesigningrequest.certificates.k8s.io/anna condition met\n",
        ),
        (
            "wait csr/anna --for=jsonpath='{.status.certificate}' --timeout=30s",
            "certificatesigningrequest.certificates.k8s.io/anna condition met\n",
        ),
        ("get csr anna --no-headers", Like(r".*Approved,Issued\n")),
        ("describe csr anna", Has("Requesting User:    kubernetes-admin", "Common Name:    anna", "Organization:   shop")),
        ("certificate deny ben", "certificatesigningrequest.certificates.k8s.io/ben denied\n"),
        ("get csr ben --no-headers", Like(r".*Denied\n")),
        ("certificate approve nobody", Fails('certificatesigningrequests.certificates.k8s.io "nobody" not found')),
        ("create -f -", Fails('spec.usages: Required value'), request("odd", usages=())),
        ("create -f -", Fails('spec.signerName: Invalid value: "here"'), request("odd", signer="here")),
        (
            "delete csr anna ben",
            'certificatesigningrequest.certificates.k8s.io "anna" deleted\n'
            'certificatesigningrequest.certificates.k8s.io "ben" deleted\n',
        ),
    )


TESTS = [
    roles_give_what_they_say_and_no_more,
    reconcile_adds_what_a_role_lacks,
    whoami_tells_the_user_and_the_groups,
    certificate_requests_are_approved_denied_and_signed,
]
