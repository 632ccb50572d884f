"""NATS, alone and as three; clusters with rules of their own; a release beside another."""

import pytest
import yaml
from conftest import RELEASE, VALUE_SETS, helm_template, named, objects, of_kind, pod_specs, rendered

NAME = f"{RELEASE}-cloudpose"
NATS = f"{NAME}-nats"


def test_one_server_is_replaced_when_its_node_is_lost():
    """A StatefulSet's pod would stay `Terminating` until a person acts."""
    documents = rendered("defaults")
    assert not of_kind(documents, "StatefulSet")
    spec = named(documents, "Deployment", NATS)["spec"]
    assert spec["replicas"] == 1 and spec["strategy"] == {"type": "Recreate"}
    patience = {t["key"]: t["tolerationSeconds"] for t in spec["template"]["spec"]["tolerations"]}
    assert patience == {"node.kubernetes.io/not-ready": 30, "node.kubernetes.io/unreachable": 30}
    # One that may not be evicted would hold every drain up.
    assert not [d for d in of_kind(documents, "PodDisruptionBudget") if d["metadata"]["name"] == NATS]


def test_tolerations_of_ones_own_come_besides():
    done = helm_template("--set-json", 'nats.bundled.tolerations=[{"key":"edge","operator":"Exists"}]')
    spec = named(objects(done.stdout), "Deployment", NATS)["spec"]["template"]["spec"]
    assert [t["key"] for t in spec["tolerations"]][2:] == ["edge"]


def test_three_servers_keep_what_one_of_them_had():
    documents = rendered("cluster")
    assert not [d for d in of_kind(documents, "Deployment") if d["metadata"]["name"] == NATS]
    nats = named(documents, "StatefulSet", f"{NATS}-cluster")["spec"]
    pod = nats["template"]["spec"]
    assert nats["replicas"] == 3 and nats["podManagementPolicy"] == "Parallel"
    (claim,) = nats["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast" and claim["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert "emptyDir" not in yaml.safe_dump(pod["volumes"]), "the claim is the data"
    # Never two on one node.
    (by_node,) = [s for s in pod["topologySpreadConstraints"] if s["topologyKey"] == "kubernetes.io/hostname"]
    assert by_node["whenUnsatisfiable"] == "DoNotSchedule" and by_node["maxSkew"] == 1
    assert named(documents, "PodDisruptionBudget", NATS)["spec"]["maxUnavailable"] == 1
    # Each is told of all, by the names that the headless service gives them.
    args = pod["containers"][0]["args"]
    routes = args[args.index("--routes") + 1].split(",")
    service = named(documents, "Service", nats["serviceName"])["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"]
    assert [route.split("@")[1] for route in routes] == [f"{NATS}-cluster-{n}.{nats['serviceName']}:6222" for n in range(3)]
    # Every role asks for as many copies as there are servers.
    assert named(documents, "ConfigMap", NAME)["data"]["CLOUDPOSE_NATS_REPLICAS"] == "3"
    assert "CLOUDPOSE_NATS_REPLICAS" not in named(rendered("defaults"), "ConfigMap", NAME)["data"]
    # KEDA asks each server by its name before the service's.
    endpoints = {t["metadata"]["natsServerMonitoringEndpoint"] for d in of_kind(documents, "ScaledObject")
                 for t in d["spec"]["triggers"] if t["type"] == "nats-jetstream"}
    assert endpoints == {f"{nats['serviceName']}.video.svc:8222"}


def test_three_servers_may_talk_to_each_other_and_find_each_other():
    policy = named(rendered("cluster"), "NetworkPolicy", NATS)["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    for way, peer in (("ingress", "from"), ("egress", "to")):
        (rule,) = [r for r in policy[way] if r["ports"] == [{"port": "route", "protocol": "TCP"}]]
        assert rule[peer][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "nats"
    assert any(port["port"] == 53 for rule in policy["egress"] for port in rule["ports"])


def test_an_even_number_of_servers_is_refused():
    assert "nats/bundled/servers" in helm_template("--set", "nats.bundled.servers=2").stderr


def egress(value_set):
    return named(rendered(value_set), "NetworkPolicy", f"{NAME}-roles")["spec"]["egress"]


def peers(rules, *ports):
    (rule,) = [r for r in rules if {p["port"] for p in r["ports"]} == set(ports)]
    return rule.get("to")


def namespace(name):
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def test_names_are_asked_for_where_the_cluster_answers():
    assert peers(egress("defaults"), 53) == [namespace("kube-system")]
    assert peers(egress("cluster"), 53) == [namespace("kube-system"), {"ipBlock": {"cidr": "169.254.20.10/32"}}]
    assert peers(egress("openshift"), 5353) == [namespace("openshift-dns")]


def test_telemetry_goes_out_where_it_is_asked_for_and_nowhere_else():
    assert peers(egress("cluster"), 4317, 4318) == [namespace("telemetry")]
    assert not [rule for rule in egress("defaults") for port in rule["ports"] if port["port"] == 4317]


def test_an_ingress_controller_in_the_cluster_is_a_client_like_others():
    """Clients limited to addresses would shut the controller's pods out."""
    rule = named(rendered("external-nats"), "NetworkPolicy", f"{NAME}-gateway")["spec"]["ingress"][0]
    assert namespace("traefik") in rule["from"]


def test_openshift_says_which_user():
    documents = rendered("openshift")
    for name, spec in pod_specs(documents):
        assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}, name
        assert not any("runAsUser" in box["securityContext"] for box in spec["containers"])
    ingress = named(documents, "Ingress", f"{NAME}-gateway")
    annotations = ingress["metadata"]["annotations"]
    assert annotations["haproxy.router.openshift.io/timeout-tunnel"] == "1h"
    assert ingress["spec"]["tls"] == [{}] and annotations["route.openshift.io/termination"] == "edge"


def test_large_user_ids_stay_numbers():
    done = helm_template("--set", "podSecurity.userId=1000700000")
    assert {spec["securityContext"]["runAsUser"] for _, spec in pod_specs(objects(done.stdout))} == {1000700000}


def test_a_canary_takes_a_share_of_the_others_streams():
    documents = rendered("canary")
    ingress = named(documents, "Ingress", f"{NAME}-gateway")
    asked = {key.rsplit("/", 1)[1]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert asked["canary"] == "true" and asked["canary-weight"] == "10"
    assert asked["canary-by-header"] == "X-CloudPose-Canary"
    # Beside the release whose hosts it shares, long streams pass it as they pass that one.
    stable = named(rendered("autoscaled-hpa"), "Ingress", f"{NAME}-gateway")
    assert [rule["host"] for rule in ingress["spec"]["rules"]] == [rule["host"] for rule in stable["spec"]["rules"]]
    assert asked["proxy-read-timeout"] == "3600"
    assert "--model" in named(documents, "Deployment", f"{NAME}-infer-cpu")["spec"]["template"]["spec"]["containers"][0]["args"]
    refused = helm_template("--values", VALUE_SETS["canary"], "--set", "gateway.ingress.controller=traefik")
    assert "only nginx" in refused.stderr


@pytest.mark.parametrize("mode", ["hpa", "keda"])
def test_gateways_follow_sessions_and_bytes_besides_the_processor(mode):
    prometheus = "http://prometheus-operated.monitoring.svc:9090"
    done = helm_template("--set", f"autoscaling.mode={mode},autoscaling.keda.prometheus={prometheus}")
    documents = objects(done.stdout)
    if mode == "hpa":
        metrics = named(documents, "HorizontalPodAutoscaler", f"{NAME}-gateway")["spec"]["metrics"]
        assert metrics[0]["resource"]["name"] == "cpu"
        asked = {m["external"]["metric"]["name"]: m["external"]["target"]["averageValue"] for m in metrics[1:]}
        assert asked == {"cloudpose_gateway_sessions": "500", "cloudpose_gateway_megabytes": "50"}
    else:
        triggers = named(documents, "ScaledObject", f"{NAME}-gateway")["spec"]["triggers"]
        assert [t["type"] for t in triggers] == ["cpu", "prometheus", "prometheus"]
        assert {t["metadata"]["serverAddress"] for t in triggers[1:]} == {prometheus}
        assert {t["metadata"]["threshold"] for t in triggers[1:]} == {"500", "50"}
        assert not [d for d in of_kind(documents, "HorizontalPodAutoscaler") if d["metadata"]["name"] == f"{NAME}-gateway"]
