"""Every generator of `kubectl create`, what it stores with the defaults of the reference, and what creation refuses."""

import base64

from commands import Fails, Has, Like, Warns, ask, file, namespace, table

# A certificate for nobody and its key, made for this test.
CERTIFICATE = """-----BEGIN CERTIFICATE-----
MIIBRDCB96ADAgECAhR4P1uKSdTONVrN7ghS1x1tnl9m9DAFBgMrZXAwFzEVMBMG
A1UEAwwMc2hvcC5leGFtcGxlMCAXDTI2MTEyNDIyMDk0MFoYDzIxMjYxMDMxMjIw
OTQwWjAXMRUwEwYDVQQDDAxzaG9wLmV4YW1wbGUwKjAFBgMrZXADIQBn8p/xXMo/
W9V9mLM5pTe4hLi0zsRIabPRip00pSINAqNTMFEwHQYDVR0OBBYEFN5UPZeVaMZM
EVcI6R0PxJED21sYMB8GA1UdIwQYMBaAFN5UPZeVaMZMEVcI6R0PxJED21sYMA8G
A1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EAbH3GhJd8ImVjvi1jH+1a87F5ay4bIcFG
oUFrv4XkGCxM3FGHCFucuVsqjF6+wz1MGT/Mj05J1M1num1hbl2/Cw==
-----END CERTIFICATE-----
"""
KEY = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEICQXv65rFzCBwHT0GvNbBHTrM4qfAh+SnbUpdZFTgd6K
-----END PRIVATE KEY-----
"""


def workloads_are_created_with_their_defaults():
    table(
        namespace("workloads"),
        ("create deployment web --image=nginx:1.27 --replicas=2 --port=80", "deployment.apps/web created\n"),
        (
            "get deployment web -o jsonpath='{.spec.replicas} {.spec.template.spec.containers[0].ports[0]} {.metadata.generation}'",
            '2 {"containerPort":80,"protocol":"TCP"} 1',
        ),
        (
            "get deployment web -o jsonpath='{.spec.strategy} {.spec.revisionHistoryLimit} {.spec.progressDeadlineSeconds}'",
            '{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"} 10 600',
        ),
        (
            "get deployment web -o jsonpath='{.spec.template.spec.containers[0].imagePullPolicy} {.spec.template.spec.dnsPolicy}'",
            "IfNotPresent ClusterFirst",
        ),
        ("create job once --image=busybox -- /bin/true", "job.batch/once created\n"),
        (
            "get job once -o jsonpath='{.spec.backoffLimit} {.spec.completions} {.spec.parallelism} {.spec.completionMode} "
            "{.spec.suspend} {.spec.podReplacementPolicy} {.spec.template.spec.restartPolicy}'",
            "6 1 1 NonIndexed false TerminatingOrFailed Never",
        ),
        ("get job once -o jsonpath='{.spec.template.spec.containers[0].command}'", '["/bin/true"]'),
        ("create cronjob tick --image=busybox --schedule='*/5 * * * *' -- date", "cronjob.batch/tick created\n"),
        (
            "get cronjob tick -o jsonpath='{.spec.concurrencyPolicy} {.spec.suspend} {.spec.successfulJobsHistoryLimit} "
            "{.spec.failedJobsHistoryLimit}'",
            "Allow false 3 1",
        ),
        ("create job by-hand --from=cronjob/tick", "job.batch/by-hand created\n"),
        (
            "get job by-hand -o jsonpath='{.metadata.annotations} {.metadata.ownerReferences[0].kind}'",
            '{"cronjob.kubernetes.io/instantiate":"manual"} CronJob',
        ),
        ("run shell --image=busybox --restart=Never --labels=app=shell --env=A=b -- sleep 60", "pod/shell created\n"),
        (
            "get pod shell -o jsonpath='{.status.phase} {.status.qosClass} {.spec.containers[0].env} {.spec.tolerations[*].key}'",
            'Pending BestEffort [{"name":"A","value":"b"}] node.kubernetes.io/not-ready node.kubernetes.io/unreachable',
        ),
        ("create deployment web --image=nginx", Fails('deployments.apps "web" already exists')),
        (
            "create deployment Bad_Name --image=nginx",
            Fails(
                'Deployment.apps "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must'
            ),
        ),
        (
            "create cronjob never --image=busybox --schedule='61 * * * *'",
            Fails(
                'CronJob.batch "never" is invalid: spec.schedule: Invalid value: "61 * * * *": end of range (61) above maximum (59): 61'
            ),
        ),
        (
            "run shell --image=busybox --overrides='{\"spec\":{\"restartPolicy\":\"Maybe\"}}'",
            Fails('spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"'),
        ),
    )


def config_maps_and_secrets_hold_what_they_were_given():
    tls = f"--cert={file('tls.crt', CERTIFICATE)} --key={file('tls.key', KEY)}"
    binary = file("blob", "")
    with open(binary, "wb") as out:
        out.write(b"\xff\x00")
    registry = "--docker-server=registry.example --docker-username=anna --docker-password=secret"
    table(
        namespace("settings"),
        (
            f"create configmap mixed --from-literal=a=1 --from-file=text={file('text', 'hello')} --from-file={binary}",
            "configmap/mixed created\n",
        ),
        ("get configmap mixed -o jsonpath='{.data} {.binaryData}'", '{"a":"1","text":"hello"} {"blob":"/wA="}'),
        (
            f"create configmap env --from-env-file={file('env', 'A=1' + chr(10) + 'B=2' + chr(10))}",
            "configmap/env created\n",
        ),
        ("get configmap env -o jsonpath='{.data}'", '{"A":"1","B":"2"}'),
        ("create secret generic key --from-literal=p=q --type=example.com/key", "secret/key created\n"),
        ("get secret key -o jsonpath='{.type} {.data.p}'", "example.com/key cQ=="),
        (f"create secret tls pair {tls}", "secret/pair created\n"),
        ("get secret pair -o jsonpath='{.type}'", "kubernetes.io/tls"),
        (f"create secret docker-registry pull {registry}", "secret/pull created\n"),
        (
            "get secret pull -o go-template='{{.type}} {{index .data \".dockerconfigjson\" | base64decode}}'",
            Has("kubernetes.io/dockerconfigjson", '"registry.example":{"username":"anna","password":"secret"'),
        ),
        (
            "patch secret key --type=merge -p '{\"type\":\"Opaque\"}'",
            Fails('type: Invalid value: "Opaque": field is immutable'),
        ),
        ("create secret generic empty --type=kubernetes.io/tls", Fails('data[tls.crt]: Required value')),
        (
            "create configmap bad --from-literal='a b'=1",
            Fails("a valid config key must consist of alphanumeric characters, '-', '_' or '.'"),
        ),
        ("patch configmap env -p '{\"immutable\":true}'", "configmap/env patched\n"),
        (
            "patch configmap env -p '{\"data\":{\"A\":\"2\"}}'",
            Fails('The ConfigMap "env" is invalid: data: Forbidden: field is immutable when `immutable` is set'),
        ),
    )


def services_get_addresses_and_ports():
    table(
        namespace("services"),
        ("create service clusterip inner --tcp=80:8080", "service/inner created\n"),
        (
            "get service inner -o jsonpath='{.spec.type} {.spec.ports} {.spec.sessionAffinity} {.spec.internalTrafficPolicy}'",
            'ClusterIP [{"name":"80-8080","port":80,"protocol":"TCP","targetPort":8080}] None Cluster',
        ),
        ("get service inner -o jsonpath='{.spec.clusterIP}'", Like(r"10\.43\.\d+\.\d+")),
        ("create service clusterip none --clusterip=None", "service/none created\n"),
        ("get service none -o jsonpath='{.spec.clusterIP} {.spec.clusterIPs}'", 'None ["None"]'),
        ("create service nodeport outer --tcp=80 --node-port=30100", "service/outer created\n"),
        ("get service outer -o jsonpath='{.spec.ports[0].nodePort} {.spec.externalTrafficPolicy}'", "30100 Cluster"),
        (
            "create service nodeport again --tcp=80 --node-port=30100",
            Fails('spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated'),
        ),
        (
            "create service nodeport low --tcp=80 --node-port=99",
            Fails(
                'spec.ports[0].nodePort: Invalid value: 99: provided port is not in the valid range. The range of valid ports is '
                '30000-32767'
            ),
        ),
        ("create service loadbalancer ahead --tcp=443", "service/ahead created\n"),
        (
            "get service ahead",
            Like(
                r"NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\n"
                r"ahead +LoadBalancer +10\.43\.\d+\.\d+ +<pending> +443:3\d{4}/TCP +\d+s\n"
            ),
        ),
        ("create service externalname there --external-name=example.com", "service/there created\n"),
        ("get service there -o jsonpath='{.spec.type} {.spec.externalName} {.spec.clusterIP}'", "ExternalName example.com "),
        (
            "create ingress front --class=nginx --rule='shop.example/*=inner:80,tls=pair' --rule='/status=inner:80'",
            "ingress.networking.k8s.io/front created\n",
        ),
        ("get ingress front", Like(r"NAME +CLASS +HOSTS +ADDRESS +PORTS +AGE\nfront +nginx +shop.example +80, 443 +\d+s\n")),
        (
            "get ingress front -o jsonpath='{.spec.rules[0].http.paths[0]}'",
            '{"backend":{"service":{"name":"inner","port":{"number":80}}},"path":"/","pathType":"Prefix"}',
        ),
        ("create deployment web --image=nginx --port=80", "deployment.apps/web created\n"),
        ("expose deployment web --target-port=8080 --port=81", "service/web exposed\n"),
        (
            "get service web -o jsonpath='{.spec.selector} {.spec.ports[0].port} {.spec.ports[0].targetPort}'",
            '{"app":"web"} 81 8080',
        ),
        (
            "patch service inner -p '{\"spec\":{\"clusterIP\":\"10.43.0.77\"}}'",
            Fails('spec.clusterIPs[0]: Invalid value: ["10.43.0.77"]: may not change once set'),
        ),
    )


def bounds_and_priorities_are_created():
    table(
        namespace("bounds"),
        ("create quota all --hard=pods=1,configmaps=3 --scopes=", "resourcequota/all created\n"),
        ("wait quota/all --for=jsonpath='{.status.hard.pods}'=1 --timeout=30s", "resourcequota/all condition met\n"),
        ("run one --image=busybox", "pod/one created\n"),
        (
            "run two --image=busybox",
            Fails('pods "two" is forbidden: exceeded quota: all, requested: pods=1, used: pods=1, limited: pods=1'),
        ),
        ("get quota all", Like(r"NAME +REQUEST +LIMIT +AGE\nall +configmaps: \d/3, pods: 1/1 +\d+s\n")),
        ("create pdb budget --selector=app=web --min-available=50%", "poddisruptionbudget.policy/budget created\n"),
        (
            "get pdb budget",
            Like(
                r"NAME +MIN AVAILABLE +MAX UNAVAILABLE +ALLOWED DISRUPTIONS +AGE\n"
                r"budget +50% +N/A +0 +\d+s\n"
            ),
        ),
        ("create priorityclass high --value=1000 --description=urgent", "priorityclass.scheduling.k8s.io/high created\n"),
        (
            "get priorityclass high",
            Like(r"NAME +VALUE +GLOBAL-DEFAULT +AGE +PREEMPTIONPOLICY\nhigh +1000 +false +\d+s +PreemptLowerPriority\n"),
        ),
        (
            "create priorityclass system-mine --value=1",
            Fails("metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only."),
        ),
        ("create priorityclass vast --value=1000000001", Fails("value: Forbidden: maximum allowed value of a user defined")),
        ("delete priorityclass high", 'priorityclass.scheduling.k8s.io "high" deleted\n'),
        (
            "create quota odd --hard=pods=-1",
            Fails('spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0'),
        ),
    )


def a_token_of_an_account_is_three_parts():
    here = namespace("tokens")
    table(here, ("create serviceaccount robot", "serviceaccount/robot created\n"))
    token = ask(here, "create token robot --duration=1h --audience=shop").stdout.strip()
    parts = token.split(".")
    claims = base64.urlsafe_b64decode(parts[1] + "==").decode()
    assert len(parts) == 3 and '"sub":"system:serviceaccount:tokens:robot"' in claims and '"aud":["shop"]' in claims, claims
    used = ask(here, "create token robot").stdout.strip()
    table(
        here,
        (
            f"auth whoami --token={used} --kubeconfig={file('none', '')} --insecure-skip-tls-verify -o jsonpath='{{.status.userInfo.username}}'",
            "system:serviceaccount:tokens:robot",
        ),
        ("create token nobody", Fails('error: failed to create token: serviceaccounts "nobody" not found')),
        (
            "create token robot --duration=1m",
            Fails("spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes"),
        ),
    )


def what_is_dry_or_unknown_is_told_and_not_kept():
    odd = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"odd"},"data":{"a":"1"},"colour":"red"}'
    table(
        namespace("dry"),
        ("create configmap ghost --dry-run=server", "configmap/ghost created (server dry run)\n"),
        ("create configmap ghost --dry-run=client -o name", "configmap/ghost\n"),
        ("create configmap ghost --dry-run=server -o jsonpath='{.metadata.uid}'", Like(r"[0-9a-f-]{36}")),
        ("get configmap ghost", Fails('Error from server (NotFound): configmaps "ghost" not found')),
        ("create -f - --validate=strict", Fails('strict decoding error: unknown field "colour"'), odd),
        ("create -f - --validate=warn --dry-run=server", Warns('Warning: unknown field "colour"'), odd),
        ("create -f - --validate=ignore", "configmap/odd created\n", odd),
        ("get configmap odd -o jsonpath='{.colour}'", ""),
        (
            "create --raw /api/v1/namespaces/dry/configmaps -f -",
            Has('"kind":"ConfigMap"', '"name":"raw"'),
            '{"metadata":{"name":"raw"}}',
        ),
        (
            "create -f - -o name",
            Like(r"configmap/some-[a-z0-9]{5}\n"),
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"some-"}}',
        ),
        (
            "create -f -",
            Fails('no matches for kind "Widget" in version "example.com/v1"'),
            '{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":"w"}}',
        ),
        (
            "create -f -",
            Fails("the namespace from the provided object \"other\" does not match the namespace \"dry\""),
            '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"w","namespace":"other"}}',
        ),
        ("-n nowhere create configmap lost", Fails('error: failed to create configmap: namespaces "nowhere" not found')),
        (
            "create namespace Upper",
            Fails('The Namespace "Upper" is invalid: metadata.name: Invalid value: "Upper": a lowercase RFC 1123 label'),
        ),
    )


TESTS = [
    workloads_are_created_with_their_defaults,
    config_maps_and_secrets_hold_what_they_were_given,
    services_get_addresses_and_ports,
    bounds_and_priorities_are_created,
    a_token_of_an_account_is_three_parts,
    what_is_dry_or_unknown_is_told_and_not_kept,
]
