"""Every object is of a kind that we know, and has no field that this kind does not."""

import cloudcoil.models.keda.v1alpha1 as keda
import cloudcoil.models.prometheus_operator.v1 as operator
import kubernetes_validate
import pydantic
import pytest
from conftest import named, rendered

# The oldest that the chart takes, and the newest that the schemas know.
KUBERNETES = ["1.30", "1.37"]

# Kinds that no schema of Kubernetes has, and what checks them instead.
TYPED = {
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PodMonitor"): operator.PodMonitor,
    ("monitoring.coreos.com/v1", "PrometheusRule"): operator.PrometheusRule,
}


def check(document, version):
    """Raises if `document` is not one of its kind."""
    kind = (document["apiVersion"], document["kind"])
    if kind in TYPED:
        typed = TYPED[kind].model_validate(document)
        # The models let unknown fields pass; they must survive the round trip.
        unknown = lost(document, typed.model_dump(by_alias=True, exclude_unset=True))
        assert not unknown, f"{kind}: unknown {unknown}"
    elif kind == ("traefik.io/v1alpha1", "ServersTransport"):
        # https://doc.traefik.io/traefik/reference/routing-configuration/kubernetes/crd/http/serverstransport/
        assert set(document["spec"]) == {"forwardingTimeouts"}
        assert set(document["spec"]["forwardingTimeouts"]) <= {"dialTimeout", "responseHeaderTimeout", "idleConnTimeout"}
    else:
        # Raises on an unknown kind too.
        kubernetes_validate.validate(document, version, strict=True)


def lost(given, kept, path=""):
    """Paths of what is in `given` and not in `kept`."""
    if isinstance(given, dict):
        if not isinstance(kept, dict):
            return [path]
        return [p for key, value in given.items()
                for p in (lost(value, kept[key], f"{path}.{key}") if key in kept else [f"{path}.{key}"])]
    if isinstance(given, list) and isinstance(kept, list):
        return [p for i, (a, b) in enumerate(zip(given, kept, strict=True)) for p in lost(a, b, f"{path}[{i}]")]
    return []


@pytest.mark.parametrize("version", KUBERNETES)
def test_objects_are_valid(manifests, version):
    for document in manifests:
        try:
            check(document, version)
        except Exception as error:
            raise AssertionError(f"{document['kind']} {document['metadata']['name']}: {error}") from error


def test_the_checks_see_mistakes():
    """Each kind of check refuses what it should."""
    deployment = named(rendered("defaults"), "Deployment", "pose-cloudpose-gateway")
    with pytest.raises(kubernetes_validate.ValidationError):
        check(deployment | {"spec": deployment["spec"] | {"replica": 1}}, "1.37")
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check(deployment | {"kind": "Deploymint"}, "1.37")
    scaled = named(rendered("autoscaled-keda"), "ScaledObject", "pose-cloudpose-infer-cpu")
    with pytest.raises(pydantic.ValidationError):
        check(scaled | {"spec": scaled["spec"] | {"maxReplicaCount": "many"}}, "1.37")
    with pytest.raises((AssertionError, pydantic.ValidationError)):
        check(scaled | {"spec": scaled["spec"] | {"maxReplicas": 3}}, "1.37")


def test_names_are_unique(manifests):
    names = [(d["kind"], d["metadata"]["name"]) for d in manifests]
    assert len(names) == len(set(names))
