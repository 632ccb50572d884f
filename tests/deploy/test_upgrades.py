"""What the chart makes of a release that is there: it looks at the cluster, here at one of ours that knows a few objects."""

import base64
import re
import subprocess

import pytest
import yaml
from cluster import Cluster
from conftest import CHART, HELM, NAMESPACE, RELEASE, named, objects, of_kind, pod_specs

NAME = f"{RELEASE}-cloudpose"
GATEWAY = f"{NAME}-gateway"


def upgrade(there, *options):
    """Helm's answer to an upgrade of the release in a cluster with the objects `there`."""
    with Cluster(there) as cluster:
        return subprocess.run(
            [str(HELM), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--is-upgrade", "--dry-run=server",
             "--kube-apiserver", cluster.url, "--disable-openapi-validation", *options],
            capture_output=True, text=True, timeout=120,
        )


def made(there, *options):
    done = upgrade(there, *options)
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def deployment(replicas, *holders, name=GATEWAY):
    """A Deployment that is there; `holders` are `(manager, operation)` of whoever has said how many replicas there are."""
    fields = [{"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
               "fieldsV1": {"f:spec": {"f:replicas": {}}}} for manager, operation in holders]
    ours = {"manager": "helm", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:template": {}}}}
    if not any(manager == "helm" for manager, _ in holders):
        fields.append(ours)
    # What the controller writes to the status is no word on replicas.
    status = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "status",
              "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:replicas": {}}}}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE, "managedFields": [*fields, status]},
            "spec": {"replicas": replicas}}


def autoscaler(name):
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": NAMESPACE}}


def replicas(documents, name=GATEWAY):
    return named(documents, "Deployment", name)["spec"].get("replicas")


HELM_HOLDS = ("helm", "Apply")
HPA_HOLDS = ("kube-controller-manager", "Update")
HAND_HOLDS = ("kubectl", "Update")
SCALES = ("--set", "autoscaling.mode=hpa")


def test_switching_autoscaling_on_resets_nothing():
    """What Helm alone holds the API server would set to 1, were it not said again."""
    documents = made([deployment(4, HELM_HOLDS), deployment(5, HELM_HOLDS, name=f"{NAME}-infer-cpu")], *SCALES)
    assert replicas(documents) == 4
    assert replicas(documents, f"{NAME}-infer-cpu") == 5
    # Not there yet: the autoscaler's to say.
    assert replicas(documents, f"{NAME}-annotate") is None


def test_what_the_autoscaler_holds_is_its_own():
    assert replicas(made([deployment(7, HPA_HOLDS), autoscaler(GATEWAY)], *SCALES)) is None
    assert replicas(made([deployment(7, HELM_HOLDS, HPA_HOLDS), autoscaler(GATEWAY)], *SCALES)) is None


def test_helms_that_patch_from_the_client_keep_the_number_too():
    """Taken out of the manifest it would be taken out of the object, whoever else holds it."""
    assert replicas(made([deployment(6, ("helm", "Update"), HPA_HOLDS), autoscaler(GATEWAY)], *SCALES)) == 6


def test_switching_autoscaling_off_keeps_the_number():
    assert replicas(made([deployment(7, HPA_HOLDS), autoscaler(GATEWAY)])) == 7
    assert replicas(made([deployment(7, ("keda", "Update")), autoscaler(f"keda-hpa-{GATEWAY}")])) == 7


def test_what_was_scaled_by_hand_is_refused_before_anything_changes():
    done = upgrade([deployment(5, HELM_HOLDS, HAND_HOLDS)])
    assert done.returncode != 0
    assert "--set gateway.replicas=5" in done.stderr
    assert f"kubectl -n {NAMESPACE} scale deployment/{GATEWAY} --replicas=2" in done.stderr
    # Both ways that it names.
    assert replicas(made([deployment(5, HELM_HOLDS, HAND_HOLDS)], "--set", "gateway.replicas=5")) == 5
    assert replicas(made([deployment(2, HELM_HOLDS, HAND_HOLDS)])) == 2
    # A Helm that patches from the client knows no conflicts.
    assert replicas(made([deployment(5, ("helm", "Update"), HAND_HOLDS)])) == 2


def test_nobody_else_means_the_values_count():
    assert replicas(made([deployment(5, HELM_HOLDS)])) == 2
    assert replicas(made([])) == 2


def test_from_hpa_to_keda_goes_through_none():
    worker = f"{NAME}-infer-cpu"
    there = [deployment(3, HPA_HOLDS, name=worker), autoscaler(worker)]
    done = upgrade(there, "--set", "autoscaling.mode=keda")
    assert done.returncode != 0 and "autoscaling.mode=none first" in done.stderr
    assert replicas(made(there), worker) == 3
    # Then Helm holds it beside the autoscaler that is gone, and KEDA may have it.
    documents = made([deployment(3, HELM_HOLDS, HPA_HOLDS, name=worker)], "--set", "autoscaling.mode=keda")
    assert replicas(documents, worker) is None and of_kind(documents, "ScaledObject")


def secret(annotations=None, **passwords):
    data = {f"{user}-password": base64.b64encode(value.encode()).decode() for user, value in passwords.items()}
    return {"apiVersion": "v1", "kind": "Secret", "data": data,
            "metadata": {"name": f"{NAME}-nats", "namespace": NAMESPACE, "annotations": annotations or {}}}


KEPT = {"helm.sh/resource-policy": "keep"}
PASSWORDS = dict(gateway="gone", worker="with", listener="wind")


def test_passwords_are_no_part_of_the_release():
    """A hook before the first install, and what is there already is neither read back nor written again."""
    (first,) = of_kind(made([]), "Secret")
    assert first["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert first["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert not of_kind(made([secret(KEPT, **PASSWORDS)]), "Secret")
    # Changed since: a rollback has nothing to bring back.
    assert not of_kind(made([secret(KEPT, **PASSWORDS | {"gateway": "changed"})]), "Secret")


def test_passwords_of_an_earlier_release_leave_it_as_they_are():
    """There they were among the release's objects, which Helm would delete now. The hook keeps them, word for word."""
    before = secret(**PASSWORDS)
    (after,) = of_kind(made([before]), "Secret")
    assert after["data"] == before["data"]
    assert after["metadata"]["annotations"] == {
        "helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-delete-policy": "before-hook-creation"} | KEPT


def test_three_servers_get_the_password_that_one_needs_not():
    before = secret(KEPT, **PASSWORDS)
    (after,) = of_kind(made([before], "--set", "nats.bundled.servers=3"), "Secret")
    assert before["data"].items() <= after["data"].items()
    assert set(after["data"]) - set(before["data"]) == {"route-password"}
    assert not of_kind(made([secret(KEPT, **PASSWORDS, route="p")], "--set", "nats.bundled.servers=3"), "Secret")


@pytest.fixture(scope="module")
def next_version(tmp_path_factory):
    """The same chart, of a later version."""
    folder = tmp_path_factory.mktemp("chart")
    subprocess.run(["cp", "-rL", CHART, folder], check=True)
    chart = folder / "cloudpose" / "Chart.yaml"
    chart.write_text(re.sub(r"^version: .*$", "version: 9.9.9", chart.read_text(), flags=re.M))
    return folder / "cloudpose"


@pytest.mark.parametrize("values", ["defaults", "cluster", "autoscaled-keda"])
def test_a_new_version_of_the_chart_restarts_nobody(next_version, values):
    """Nothing of a pod says which chart made it: NATS would go, and with it what waits, for a label."""
    options = [] if values == "defaults" else ["--values", CHART / "ci" / f"{values}.yaml"]
    pods = []
    for chart in (CHART, next_version):
        done = subprocess.run([HELM, "template", RELEASE, chart, "--namespace", NAMESPACE, *options],
                              capture_output=True, text=True, check=True)
        documents = objects(done.stdout)
        assert any("9.9.9" in label for label in labels(documents)) == (chart == next_version)
        pods.append({d["metadata"]["name"]: d["spec"]["template"] for d in of_kind(documents, "Deployment", "StatefulSet")})
    assert pods[0] == pods[1] and len(pods[0]) >= 4


def labels(documents):
    return {label for document in documents for label in document["metadata"]["labels"].values()}


def test_a_new_image_is_tried_before_a_pool_gives_up_its_replicas():
    """A tag that does not exist fails the upgrade while everything is as it was."""
    gpu = ["--set", "infer.pools.gpu.enabled=true,image.tag=new"]
    checks = [d for d in of_kind(made([], *gpu), "Pod") if d["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"]
    assert [d["metadata"]["name"] for d in checks] == [f"{NAME}-image-gpu"]
    (box,) = checks[0]["spec"]["containers"]
    gpu_pool = dict(pod_specs(made([], *gpu)))[f"{NAME}-infer-gpu"]
    assert box["image"] == gpu_pool["containers"][0]["image"] == "cloudpose/cloudpose-cuda:new"
    assert box["args"] == ["--version"] and checks[0]["spec"]["activeDeadlineSeconds"] < 300, "Helm waits five minutes"
    # It needs no GPU.
    assert "nvidia.com/gpu" not in yaml.safe_dump(checks[0])
    # Whose replicas stay until others are ready needs none.
    spare = [*gpu, "--set", "infer.pools.gpu.maxSurge=1,infer.pools.gpu.maxUnavailable=0"]
    assert not [d for d in of_kind(made([], *spare), "Pod") if "image" in d["metadata"]["name"]]
