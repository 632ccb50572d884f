"""Kustomize says what the chart says, and each overlay what it is for."""

import manifests
from conftest import DEPLOY, HELM, KUBECTL, OVERLAYS, kustomized, named, of_kind, roles, run

OVERLAY = {folder.name: folder for folder in OVERLAYS}


def test_base_and_components_are_what_the_chart_renders():
    made = manifests.files()
    there = {str(path.relative_to(manifests.KUSTOMIZE))
             for part in ("base", "components") for path in (manifests.KUSTOMIZE / part).rglob("*.yaml")}
    assert there == set(made), "run `make manifests`"
    for path, content in made.items():
        assert (manifests.KUSTOMIZE / path).read_text() == content, f"{path} is old: run `make manifests`"


def test_manifests_come_from_the_helm_that_is_tested():
    assert manifests.HELM == HELM


def test_every_overlay_has_a_namespace_that_holds_pods_to_the_restricted_standard():
    for folder in OVERLAYS:
        documents = kustomized(folder)
        namespace = of_kind(documents, "Namespace")[0]
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for document in documents:
            if document["kind"] != "Namespace":
                assert document["metadata"]["namespace"] == namespace["metadata"]["name"]


def test_what_pods_refer_to_is_there_or_to_be_brought():
    brought = {"dev": set(), "prod": {"cloudpose-nats"}, "edge": {"cloudpose-nats"}}
    for name, folder in OVERLAY.items():
        documents = kustomized(folder)
        secrets = {d["metadata"]["name"] for d in of_kind(documents, "Secret")} | brought[name]
        maps = {d["metadata"]["name"] for d in of_kind(documents, "ConfigMap")}
        for document in of_kind(documents, "Deployment", "StatefulSet"):
            spec = document["spec"]["template"]["spec"]
            for entry in spec["containers"][0].get("env", []):
                if "secretKeyRef" in entry.get("valueFrom", {}):
                    assert entry["valueFrom"]["secretKeyRef"]["name"] in secrets, (name, entry)
            for source in spec["containers"][0].get("envFrom", []):
                assert source["configMapRef"]["name"] in maps
            for volume in spec.get("volumes", []):
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in maps


def test_production_keeps_no_secret_in_the_repository():
    assert not of_kind(kustomized(OVERLAY["prod"]), "Secret")
    assert not of_kind(kustomized(OVERLAY["edge"]), "Secret")


def test_production_scales_and_is_watched():
    documents = kustomized(OVERLAY["prod"])
    assert {d["metadata"]["name"] for d in of_kind(documents, "ScaledObject")} == {
        "cloudpose-infer-gpu", "cloudpose-infer-cpu", "cloudpose-annotate"}
    assert of_kind(documents, "PodMonitor") and of_kind(documents, "PrometheusRule")
    endpoints = {t["metadata"]["natsServerMonitoringEndpoint"] for d in of_kind(documents, "ScaledObject")
                 for t in d["spec"]["triggers"] if t["type"] == "nats-jetstream"}
    assert endpoints == {"cloudpose-nats.cloudpose.svc:8222"}


def test_the_edge_hangs_on_its_hub():
    documents = kustomized(OVERLAY["edge"])
    nats = named(documents, "Deployment", "cloudpose-nats")["spec"]["template"]["spec"]["containers"][0]
    assert nats["args"][:2] == ["--config", "/etc/nats/edge.conf"]
    assert [entry["name"] for entry in nats["env"]] == ["CLOUDPOSE_HUB", "GOMEMLIMIT"]
    config = named(documents, "ConfigMap", "cloudpose-nats")["data"]["edge.conf"]
    assert config.strip() == (DEPLOY / "nats" / "edge.conf").read_text().strip()
    for document in roles(documents):
        env = {e["name"]: e.get("value") for e in document["spec"]["template"]["spec"]["containers"][0]["env"]}
        assert env["CLOUDPOSE_NATS"] == "nats://cloudpose-nats:4222" and "NATS_PASSWORD" not in env
    assert named(documents, "ConfigMap", "cloudpose")["data"]["CLOUDPOSE_NATS_PREFIX"] == "edge"


def test_kubectl_is_one_that_people_have():
    assert "Kustomize Version: v5" in run(KUBECTL, "version", "--client")
