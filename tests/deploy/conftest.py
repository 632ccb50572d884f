"""What the tests of `deploy/` share: the tools that `deploy/setup.sh test` installs, and what they render."""

import os
import socket
import subprocess
import time
import urllib.request
from functools import cache
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "helm" / "cloudpose"
OVERLAYS = sorted(folder for folder in (DEPLOY / "kustomize" / "overlays").iterdir())
VENV = REPOSITORY / "tests" / ".venv"
PROMETHEUS = REPOSITORY / "tests" / ".prometheus" / "usr" / "bin"
TOOLS = Path(__file__).parent / "node_modules" / ".tools"
HELM, KUBECTL = TOOLS / "helm" / "helm", TOOLS / "kubectl" / "kubectl"

VALUE_SETS = {"defaults": None} | {path.stem: path for path in sorted((CHART / "ci").glob("*.yaml"))}
RELEASE, NAMESPACE = "pose", "video"


def run(*command, **options):
    """Output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def helm_template(*options):
    return subprocess.run(
        [str(HELM), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, *map(str, options)],
        capture_output=True, text=True, timeout=120,
    )


@cache
def rendered(value_set):
    """The objects that the chart makes of a set of values."""
    path = VALUE_SETS[value_set]
    done = helm_template(*(["--values", path] if path else []))
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


@cache
def kustomized(folder):
    return objects(run(KUBECTL, "kustomize", folder))


def objects(text):
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(documents, *kinds):
    return [document for document in documents if document["kind"] in kinds]


def roles(documents):
    """The Deployments of our binary: all but NATS."""
    return [d for d in of_kind(documents, "Deployment") if d["metadata"]["labels"]["app.kubernetes.io/component"] != "nats"]


def named(documents, kind, name):
    found = [d for d in of_kind(documents, kind) if d["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pod_specs(documents):
    """`(name, pod spec)` of everything that makes pods."""
    for document in documents:
        if document["kind"] == "Pod":
            yield document["metadata"]["name"], document["spec"]
        elif document["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet"):
            yield document["metadata"]["name"], document["spec"]["template"]["spec"]


ALL = {f"helm {name}": (lambda name=name: rendered(name)) for name in VALUE_SETS} | {
    f"kustomize {folder.name}": (lambda folder=folder: kustomized(folder)) for folder in OVERLAYS
}


@pytest.fixture(params=ALL, ids=list(ALL))
def manifests(request):
    """Everything that we hand to a cluster, way by way."""
    return ALL[request.param]()


@pytest.fixture(params=VALUE_SETS)
def chart(request):
    return rendered(request.param)


@pytest.fixture(scope="session")
def cloudpose():
    """The binary under test."""
    path = os.environ.get("CLOUDPOSE_BIN")
    assert path and Path(path).is_file(), "name the binary: CLOUDPOSE_BIN=target/debug/cloudpose"
    return path


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def get(url, timeout=5):
    """The bytes of what is there."""
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read()


def wait_for(what, *processes, seconds=60):
    """What `what` answers once that is true. Who is not there yet may be soon, but none of `processes` may end meanwhile."""
    for _ in range(seconds * 10):
        assert all(process.poll() is None for process in processes), "it ended"
        try:
            if found := what():
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("it never happens")
