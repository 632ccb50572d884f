"""The chart makes what its values say, and refuses what cannot work."""

import pytest
from conftest import CHART, HELM, RELEASE, VALUE_SETS, helm_template, named, objects, of_kind, pod_specs, rendered, roles, run

NAME = f"{RELEASE}-cloudpose"


def container(document):
    return document["spec"]["template"]["spec"]["containers"][0]


def environment(document):
    return {entry["name"]: entry.get("value") for entry in container(document).get("env", [])}


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_helm_finds_nothing_to_complain_about(value_set):
    path = VALUE_SETS[value_set]
    run(HELM, "lint", "--strict", CHART, *(["--values", path] if path else []))


@pytest.mark.parametrize("wrong, told", [
    ("gateway.replica=3", "additional properties 'replica'"),
    ("gateway.service.type=Nodeport", "gateway/service/type"),
    ("gateway.service.nodePort=80", "nodePort"),
    ("autoscaling.mode=cpu", "autoscaling/mode"),
    ("config.LOG=debug", "LOG"),
    ("infer.pools.cpu.model=yolo", "model"),
    ("nats.url=nats://user:secret@host:4222", "nats/url"),
    ("nats.prefix=studio", "nats.prefix"),
    ("auth.allowOrigins={https://a.example.com/}", "auth/allowOrigins"),
    ("gateway.cameras.allow={cam.example.com}", "gateway/cameras/allow"),
    ("gateway.cameras.ports={}", "gateway/cameras/ports"),
    ("autoscaling.mode=hpa,infer.pools.cpu.autoscaling.framesPerReplica=3", "2 frames at once"),
    ("autoscaling.mode=keda,infer.pools.gpu.enabled=true,infer.pools.gpu.autoscaling.framesPerReplica=69", "68 frames at once"),
    ("autoscaling.mode=hpa,annotate.autoscaling.framesPerReplica=3", "2 frames at once"),
    ("record.enabled=true", "record.database.secret"),
    ("record.enabled=true,record.database.secret=database,record.folder.size=1Gi", "in one place"),
    ("record.enabled=true,record.replicas=2,record.folder.size=1Gi", "record.folder.accessMode=ReadWriteMany"),
    ("record.enabled=true,record.folder.size=50GB", "record/folder/size"),
    ("record.enabled=true,record.folder.size=1Gi,record.bucket.url=s3://poses", "in one place"),
    ("record.enabled=true,record.bucket.url=/data", "record/bucket/url"),
    ("gateway.store.url=/var/lib/jobs", "gateway/store/url"),
    ("gateway.callbacks.allow={app.example.com}", "gateway/callbacks/allow"),
    ("gateway.store.url=s3://photos/jobs", "nats.bundled.servers=3"),
])
def test_values_that_cannot_work_are_refused_with_a_reason(wrong, told):
    done = helm_template("--set", wrong)
    assert done.returncode != 0
    assert told in done.stderr


def test_scale_to_zero_is_for_keda():
    values = ["--set", "infer.pools.gpu.enabled=true,infer.pools.gpu.autoscaling.minReplicas=0"]
    assert "needs autoscaling.mode keda" in helm_template(*values, "--set", "autoscaling.mode=hpa").stderr
    assert helm_template(*values, "--set", "autoscaling.mode=keda").returncode == 0


def test_keda_must_be_told_where_a_nats_of_ones_own_answers():
    told = helm_template("--set", "autoscaling.mode=keda,nats.url=nats://host:4222").stderr
    assert "natsMonitoringEndpoint" in told


def test_recommended_labels_are_on_everything(chart):
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/version",
              "app.kubernetes.io/managed-by", "app.kubernetes.io/part-of", "helm.sh/chart"}
    for document in chart:
        missing = wanted - set(document["metadata"]["labels"])
        assert not missing, (document["kind"], document["metadata"]["name"], missing)


def test_pods_keep_the_restricted_standard(manifests):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a root that is read only."""
    seen = 0
    for name, spec in pod_specs(manifests):
        security = spec["securityContext"]
        # On OpenShift the cluster says which user, and never root.
        assert security["runAsNonRoot"] and security.get("runAsUser", 1) > 0, name
        assert security["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["automountServiceAccountToken"] is False, name
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}, (name, volume)
        for box in spec["containers"] + spec.get("initContainers", []):
            inner = box["securityContext"]
            assert inner["allowPrivilegeEscalation"] is False, name
            assert inner["readOnlyRootFilesystem"] is True, name
            assert inner["capabilities"] == {"drop": ["ALL"]}, name
            assert not any("hostPort" in port for port in box.get("ports", [])), name
            assert "memory" in box["resources"]["limits"] and "cpu" in box["resources"]["requests"], name
            seen += 1
    assert seen >= 4


def test_kubernetes_waits_longer_than_the_drain():
    for value_set in VALUE_SETS:
        documents = rendered(value_set)
        grace = named(documents, "ConfigMap", NAME)["data"]["CLOUDPOSE_GRACE"]
        drain = int(grace.removesuffix("s"))
        for document in roles(documents):
            hook = container(document).get("lifecycle", {}).get("preStop", {}).get("sleep", {})
            patience = document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
            # The bus takes up to 3 s to close after the drain.
            assert patience >= hook.get("seconds", 0) + drain + 3, document["metadata"]["name"]
        gateway = container(named(documents, "Deployment", f"{NAME}-gateway"))
        assert gateway["lifecycle"]["preStop"]["sleep"]["seconds"] >= 3


def test_no_gateway_goes_before_another_is_there():
    for value_set in VALUE_SETS:
        strategy = named(rendered(value_set), "Deployment", f"{NAME}-gateway")["spec"]["strategy"]["rollingUpdate"]
        assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def behind(service, documents):
    """The name of what makes the pods of `service`."""
    name = service["metadata"]["name"]
    clusters = [d["metadata"]["name"] for d in of_kind(documents, "StatefulSet")]
    if clusters and name.endswith(("-nats", "-nats-servers")):
        return clusters[0]
    return name.removesuffix("-ops")


def test_selectors_and_budgets_meet_their_pods(manifests):
    pods = [(d["metadata"]["name"], d["spec"]["template"]["metadata"]["labels"], d["spec"]["selector"]["matchLabels"])
            for d in of_kind(manifests, "Deployment", "StatefulSet")]
    for name, labels, selector in pods:
        assert selector.items() <= labels.items(), name
        others = [other for other, theirs, _ in pods if other != name and selector.items() <= theirs.items()]
        assert not others, (name, others)
    for document in of_kind(manifests, "PodDisruptionBudget"):
        wanted = document["spec"]["selector"]["matchLabels"]
        met = [name for name, labels, _ in pods if wanted.items() <= labels.items()]
        assert len(met) == 1, (document["metadata"]["name"], met)
    for document in of_kind(manifests, "Service"):
        wanted = document["spec"]["selector"]
        met = [name for name, labels, _ in pods if wanted.items() <= labels.items()]
        assert met == [behind(document, manifests)], met


def test_probes_ports_and_services_name_what_is_there(manifests):
    ports = {}
    for name, spec in pod_specs(manifests):
        for box in spec["containers"]:
            there = {port["name"] for port in box.get("ports", [])}
            ports[name] = there
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in box:
                    assert box[probe]["httpGet"]["port"] in there, (name, probe)
    for document in of_kind(manifests, "Service"):
        for port in document["spec"]["ports"]:
            assert port["targetPort"] in ports[behind(document, manifests)], document["metadata"]["name"]


def test_gpu_pool_comes_first_and_processors_take_what_is_left():
    documents = rendered("autoscaled-keda")
    gpu = named(documents, "Deployment", f"{NAME}-infer-gpu")
    cpu = named(documents, "Deployment", f"{NAME}-infer-cpu")
    assert "--overflow" not in container(gpu)["args"] and "--overflow" in container(cpu)["args"]
    assert container(gpu)["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert gpu["spec"]["template"]["spec"]["nodeSelector"] and gpu["spec"]["template"]["spec"]["tolerations"]
    assert "-cuda:" in container(gpu)["image"] and "-cuda" not in container(cpu)["image"]
    for name, formula in (("gpu", "live + still"), ("cpu", "live + still > slots ? live + still - slots : 0")):
        spec = named(documents, "ScaledObject", f"{NAME}-infer-{name}")["spec"]
        assert spec["advanced"]["scalingModifiers"]["formula"] == formula
        triggers = {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}
        assert triggers["live"]["stream"] == "cloudpose-infer-live"
        assert triggers["still"]["stream"] == "cloudpose-infer-still"
        # What the GPUs take that are there, not those that might be: gone, the processors follow everything.
        assert ("slots" in triggers) == (name == "cpu")
    service = named(documents, "Service", f"{NAME}-gateway-ops")
    assert triggers["slots"]["url"] == f"http://{NAME}-gateway-ops.video.svc:{service['spec']['ports'][0]['port']}/metrics"
    assert triggers["slots"]["valueLocation"] == 'cloudpose_announced_slots{turn="first"}'
    allowed = named(documents, "NetworkPolicy", f"{NAME}-keda")["spec"]
    assert allowed["ingress"][0]["ports"] == [{"port": "ops", "protocol": "TCP"}]
    assert named(documents, "ScaledObject", f"{NAME}-infer-gpu")["spec"]["minReplicaCount"] == 0


def test_scaled_things_exist_and_have_no_fixed_replicas():
    for value_set in ("autoscaled-keda", "autoscaled-hpa", "external-nats"):
        documents = rendered(value_set)
        scaled = [d["spec"]["scaleTargetRef"]["name"]
                  for d in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject")]
        assert len(scaled) == len(set(scaled))
        for document in roles(documents):
            assert document["metadata"]["name"] in scaled
            assert "replicas" not in document["spec"]
    for document in of_kind(rendered("autoscaled-hpa"), "HorizontalPodAutoscaler"):
        down = document["spec"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] > 0 and down["policies"]


def test_everything_is_denied_that_is_not_allowed():
    documents = of_kind(rendered("defaults"), "NetworkPolicy")
    deny = named(documents, "NetworkPolicy", f"{NAME}-default-deny")["spec"]
    assert set(deny["policyTypes"]) == {"Ingress", "Egress"} and not {"ingress", "egress"} & set(deny)
    # No policy opens everything: each rule names ports.
    for document in documents:
        if document["metadata"]["name"] == f"{NAME}-test":
            continue
        for rule in document["spec"].get("ingress", []) + document["spec"].get("egress", []):
            assert rule.get("ports"), document["metadata"]["name"]
    nats = named(documents, "NetworkPolicy", f"{NAME}-nats")["spec"]["ingress"]
    assert all(rule["from"] for rule in nats)


def test_gateways_reach_the_cameras_that_they_are_allowed_and_nobody_else_does():
    documents = rendered("external-nats")
    policy = named(documents, "NetworkPolicy", f"{NAME}-cameras")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    (rule,) = policy["egress"]
    assert [peer["ipBlock"]["cidr"] for peer in rule["to"]] == ["10.20.0.0/16", "fd12:3456::/32"]
    assert rule["ports"] == [{"port": port, "protocol": "TCP"} for port in (554, 8554)]
    for document in roles(documents):
        settings = {entry["name"]: entry for entry in container(document)["env"]}
        is_gateway = container(document)["args"][0] == "ingest"
        assert is_gateway == ("CLOUDPOSE_CAMERA_ALLOW" in settings) == ("CLOUDPOSE_CAMERA" in settings)
        if is_gateway:
            # The binary takes them so.
            assert settings["CLOUDPOSE_CAMERA_ALLOW"]["value"] == "10.20.0.0/16,fd12:3456::/32"
            secret = {"secretKeyRef": {"name": "cloudpose-cameras", "key": "cameras"}}
            assert settings["CLOUDPOSE_CAMERA"]["valueFrom"] == secret
    documents = rendered("defaults")
    assert not [d for d in of_kind(documents, "NetworkPolicy") if d["metadata"]["name"].endswith("-cameras")]
    assert not [d for d in roles(documents) if "CLOUDPOSE_CAMERA_ALLOW" in environment(d)]


def test_a_nats_of_ones_own_replaces_the_bundled_one():
    documents = rendered("external-nats")
    assert not of_kind(documents, "StatefulSet", "Secret")
    assert len(of_kind(documents, "Deployment")) == len(roles(documents))
    gateway = named(documents, "Deployment", f"{NAME}-gateway")
    env = environment(gateway)
    assert env["CLOUDPOSE_NATS"] == "tls://nats-0.example.com:4222,tls://nats-1.example.com:4222"
    mounts = {mount["name"]: mount["mountPath"] for mount in container(gateway)["volumeMounts"]}
    assert env["CLOUDPOSE_NATS_CREDENTIALS"] == mounts["nats-credentials"] + "/user.creds"
    assert env["CLOUDPOSE_NATS_CA"] == mounts["nats-ca"] + "/ca.crt"
    volumes = {volume["name"] for volume in gateway["spec"]["template"]["spec"]["volumes"]}
    assert set(mounts) == volumes


def test_gateways_ask_for_keys_or_say_that_they_do_not():
    for value_set in VALUE_SETS:
        documents = rendered(value_set)
        for document in roles(documents):
            is_gateway = container(document)["args"][0] == "ingest"
            env = environment(document)
            assert ("CLOUDPOSE_KEYS" in env) + (env.get("CLOUDPOSE_AUTH") == "none") == is_gateway, value_set
            mounts = {mount["name"] for mount in container(document).get("volumeMounts", [])}
            assert ("keys" in mounts) == ("CLOUDPOSE_KEYS" in env), "workers see no keys"
    gateway = named(rendered("external-nats"), "Deployment", f"{NAME}-gateway")
    mounts = {mount["name"]: mount["mountPath"] for mount in container(gateway)["volumeMounts"]}
    assert environment(gateway)["CLOUDPOSE_KEYS"] == mounts["keys"] + "/keys.json"
    assert environment(gateway)["CLOUDPOSE_ALLOW_ORIGIN"] == "https://app.example.com,https://studio.example.com"
    (volume,) = [v for v in gateway["spec"]["template"]["spec"]["volumes"] if v["name"] == "keys"]
    assert volume["secret"]["secretName"] == "cloudpose-keys"


def test_long_websockets_pass_the_ingress():
    nginx = named(rendered("autoscaled-hpa"), "Ingress", f"{NAME}-gateway")
    annotations = nginx["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3600
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"]) >= 3600
    # An image of 8 MiB in base64.
    assert annotations["nginx.ingress.kubernetes.io/proxy-body-size"] == "12m"
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt"
    assert nginx["spec"]["tls"] == [{"hosts": ["pose.example.com"], "secretName": "pose-tls"}]
    documents = rendered("external-nats")
    transport = named(documents, "ServersTransport", f"{NAME}-gateway")
    assert transport["spec"]["forwardingTimeouts"]["responseHeaderTimeout"] == "0s"
    service = named(documents, "Service", f"{NAME}-gateway")
    named_there = service["metadata"]["annotations"]["traefik.ingress.kubernetes.io/service.serverstransport"]
    assert named_there == f"video-{NAME}-gateway@kubernetescrd"


def test_passwords_of_the_bundled_nats_begin_with_a_letter():
    """nats-server reads a variable that looks like a number as one."""
    import base64

    secret = named(rendered("defaults"), "Secret", f"{NAME}-nats")["data"]
    passwords = {key: base64.b64decode(value).decode() for key, value in secret.items()}
    assert set(passwords) == {"gateway-password", "worker-password", "listener-password"}
    assert len(set(passwords.values())) == 3
    assert all(len(p) == 32 and p[0].isalpha() and p.isalnum() for p in passwords.values())


def test_jobs_in_a_bucket_have_its_keys_and_the_way_there():
    chart = rendered("cluster")
    for document in roles(chart):
        is_gateway = container(document)["args"][0] == "ingest"
        assert is_gateway == (environment(document).get("CLOUDPOSE_STORE") == "s3://photos/cloudpose")
        assert is_gateway == ({"secretRef": {"name": "photos"}} in container(document)["envFrom"])
    policy = named(chart, "NetworkPolicy", f"{NAME}-store")["spec"]
    assert policy["podSelector"]["matchExpressions"][0]["values"] == ["gateway"]
    assert policy["egress"] == [{"ports": [{"port": 443, "protocol": "TCP"}]}]


def test_gateways_that_call_have_the_secret_and_the_way_there():
    chart = rendered("cluster")
    for document in roles(chart):
        is_gateway = container(document)["args"][0] == "ingest"
        settings = environment(document)
        assert is_gateway == (settings.get("CLOUDPOSE_CALLBACK_ALLOW") == "10.20.0.0/16")
        mounts = {mount["name"]: mount["mountPath"] for mount in container(document).get("volumeMounts", [])}
        assert is_gateway == ("callbacks" in mounts)
        if is_gateway:
            assert settings["CLOUDPOSE_CALLBACK_SECRET_FILE"] == f"{mounts['callbacks']}/callback-secret"
            volumes = {volume["name"]: volume for volume in document["spec"]["template"]["spec"]["volumes"]}
            assert volumes["callbacks"]["secret"]["secretName"] == "callbacks"
    policy = named(chart, "NetworkPolicy", f"{NAME}-callbacks")["spec"]
    assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "gateway"
    assert policy["egress"] == [{"ports": [{"port": 443, "protocol": "TCP"}]}]
    defaults = rendered("defaults")
    assert not [d for d in of_kind(defaults, "NetworkPolicy") if d["metadata"]["name"].endswith("-callbacks")]
    assert not [d for d in roles(defaults) if "CLOUDPOSE_CALLBACK_SECRET_FILE" in environment(d)]


def test_helm_package_holds_the_files_that_are_linked(tmp_path):
    run(HELM, "package", CHART, "--destination", tmp_path)
    archive = next(tmp_path.glob("cloudpose-*.tgz"))
    packed = run(HELM, "template", RELEASE, archive, "--set", "monitoring.rules.enabled=true")
    assert "CloudPoseNoWorker" in packed and "$JS.API.STREAM.CREATE" in packed


def test_who_records_has_a_user_on_nats_and_the_way_to_its_database():
    chart = objects(helm_template("--values", VALUE_SETS["records"], "--set", "nats.bundled.servers=3").stdout)
    settings = {entry["name"]: entry for entry in container(named(chart, "Deployment", f"{NAME}-record"))["env"]}
    assert settings["CLOUDPOSE_RECORD_TO"]["valueFrom"]["secretKeyRef"] == {"name": "database", "key": "url"}
    assert settings["CLOUDPOSE_NATS"]["value"].startswith("nats://recorder:")
    [servers] = of_kind(chart, "StatefulSet")
    assert "CLOUDPOSE_RECORDER_PASSWORD" in environment(servers)
    assert "user: recorder" in named(chart, "ConfigMap", f"{NAME}-nats")["data"]["roles.conf"]
    [rule] = named(chart, "NetworkPolicy", f"{NAME}-record")["spec"]["egress"]
    assert rule == {"ports": [{"port": 5432, "protocol": "TCP"}], "to": [{"podSelector": {"matchLabels": {"app": "postgres"}}}]}


def test_files_of_events_are_on_a_volume_that_outlives_the_release():
    chart = rendered("records-folder")
    record = named(chart, "Deployment", f"{NAME}-record")
    [data] = [mount for mount in container(record)["volumeMounts"] if mount["name"] == "data"]
    assert environment(record)["CLOUDPOSE_RECORD_TO"] == data["mountPath"]
    [volume] = [volume for volume in record["spec"]["template"]["spec"]["volumes"] if volume["name"] == "data"]
    claim = named(chart, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])
    assert claim["spec"]["resources"]["requests"] == {"storage": "50Gi"}
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    # Two of them on two nodes would wait for one another.
    assert (record["spec"]["replicas"], record["spec"]["strategy"]) == (1, {"type": "Recreate"})
    assert not [d for d in of_kind(chart, "NetworkPolicy") if d["metadata"]["name"] == f"{NAME}-record"], "it talks to NATS only"
    shared = "record.folder.existingClaim=poses,record.folder.accessMode=ReadWriteMany,record.replicas=2"
    chart = objects(helm_template("--set", f"record.enabled=true,{shared}").stdout)
    record = named(chart, "Deployment", f"{NAME}-record")
    [volume] = record["spec"]["template"]["spec"]["volumes"]
    assert volume["persistentVolumeClaim"] == {"claimName": "poses"} and not of_kind(chart, "PersistentVolumeClaim")
    assert (record["spec"]["replicas"], record["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]) == (2, 0)


def test_files_of_events_in_a_bucket_have_its_keys_and_the_way_there():
    chart = rendered("records-bucket")
    for document in roles(chart):
        is_record = container(document)["args"][0] == "record"
        assert is_record == (environment(document).get("CLOUDPOSE_RECORD_TO") == "s3://poses/cloudpose")
        assert is_record == ({"secretRef": {"name": "poses"}} in container(document)["envFrom"])
    policy = named(chart, "NetworkPolicy", f"{NAME}-store")["spec"]
    assert policy["podSelector"]["matchExpressions"][0]["values"] == ["record"]
    assert policy["egress"] == [{"ports": [{"port": 443, "protocol": "TCP"}]}]
    assert not of_kind(chart, "PersistentVolumeClaim")
