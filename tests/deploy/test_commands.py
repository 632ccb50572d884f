"""Every kubectl and helm command of the manual is one: it runs, dry, against an API that knows what the chart makes."""

import copy
import re
import shlex
import subprocess

import pytest
import yaml
from cluster import Cluster
from conftest import DEPLOY, HELM, KUBECTL, REPOSITORY, VALUE_SETS, objects, run

DOCS = [REPOSITORY / "docs" / "runbook.md", REPOSITORY / "docs" / "install.md"]
# What says at its top how it is used.
HEADED = [*sorted((DEPLOY / "kustomize" / "overlays").glob("*/kustomization.yaml")), DEPLOY / "argocd" / "application.yaml"]
# Which kubectl commands can be run dry, and say that they were.
DRY = {"create", "apply", "delete", "scale", "taint", "drain", "cordon", "annotate", "label"}
# The command is sound, and there is no cluster.
NO_CLUSTER = re.compile(
    r"release: not found|repo prometheus-community not found|error upgrading connection|Metrics API not available|unable to upgrade connection"
    r"|external.metrics.k8s.io/\S+ not found|no running pods|timed out waiting|has no deployed releases|no objects passed to apply")


def blocks(text):
    """Indented commands as shells read them: continued ones together."""
    joined = re.sub(r"\\\n\s*(?:#\s+)?", " ", text)
    return re.findall(r"^(?:    +|#   )((?:kubectl|helm) .*)$", joined, re.M)


def commands(path):
    """Every command of a file that is for kubectl or helm, of pipes each part."""
    text = path.read_text()
    lines = blocks(text)
    if path.suffix == ".md":
        # Those within a sentence, which may go on in its next line.
        lines += [" ".join(inline.split()) for inline in re.findall(r"`((?:kubectl|helm)\s[^`]*)`", text)]
    found = []
    for line in lines:
        words = shlex.split(line, comments=True)
        part = []
        for word in [*words, "|"]:
            if word in ("|", "&&", ";"):
                # `helm rollback` alone is a name, not something to type.
                if len(part) > 2 and part[0] in ("kubectl", "helm"):
                    found.append(part)
                part = []
            else:
                part.append(word)
    return found


ALL = [(path, command) for path in [*DOCS, *HEADED] for command in commands(path)]


def pod(name, component):
    ports = [{"name": "http", "containerPort": 60000}, {"name": "ops", "containerPort": 60001}]
    return {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": component, "image": "x", "ports": ports}], "nodeName": "NODE"},
            "status": {"phase": "Running"},
            "metadata": {"name": name, "namespace": "cloudpose",
                         "labels": {"app.kubernetes.io/component": component, "app.kubernetes.io/instance": "cloudpose"}}}


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory):
    """A kubeconfig for an API that has every object that the chart makes of any values, as release and namespace
    `cloudpose`, and a pod of each kind."""
    there = {}
    for path in VALUE_SETS.values():
        values = ["--values", path] if path else []
        for document in objects(run(HELM, "template", "cloudpose", DEPLOY / "helm" / "cloudpose", *values)):
            document = copy.deepcopy(document)
            document["metadata"]["namespace"] = "cloudpose"
            if document["kind"] in ("ClusterRole", "ClusterRoleBinding", "PriorityClass"):
                del document["metadata"]["namespace"]
            if document["kind"] in ("Deployment", "StatefulSet"):
                document["metadata"] |= {"generation": 1}
                wanted = document["spec"].setdefault("replicas", 1)
                document["status"] = {"observedGeneration": 1} | dict.fromkeys(
                    ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted)
            there[document["kind"], document["metadata"]["name"]] = document
    pods = [pod(f"cloudpose-{component}-x", component) for component in ("gateway", "infer", "annotate", "nats")]
    pods += [pod("POD", "infer"), pod("cloudpose-nats-cluster-0", "nats")]
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    nodes = [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "NODE"}, "spec": {"taints": taints}}]
    file = tmp_path_factory.mktemp("kube") / "config"
    with Cluster([*there.values(), *pods, *nodes]) as cluster:
        file.write_text(yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": cluster.url}}], "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}))
        yield file


def dry(command):
    """The same command, changing nothing."""
    words = [str(KUBECTL if command[0] == "kubectl" else HELM), *command[1:]]
    words = [word.replace("…", "x") for word in words]
    if command[0] == "kubectl":
        if DRY & set(command) and not any(word.startswith("--dry-run") for word in command):
            words.append("--dry-run=client")
        if "apply" in command:
            words.append("--validate=false")
        if "port-forward" in command:
            words.append("--pod-running-timeout=1s")
        return words
    if {"install", "upgrade", "uninstall", "rollback"} & set(command):
        words.append("--dry-run=client" if {"install", "upgrade"} & set(command) else "--dry-run")
    if "upgrade" in command:
        words.append("--install")
    return words


@pytest.mark.parametrize("path, command", ALL, ids=[f"{path.name}: {' '.join(command)[:70]}" for path, command in ALL])
def test_it_is_a_command(path, command, kubeconfig, tmp_path):
    (tmp_path / "keys.json").write_text("{}")
    words = [word.replace("keys.json", str(tmp_path / "keys.json")) for word in dry(command)]
    (tmp_path / "releases").write_text("[]")
    env = {"KUBECONFIG": str(kubeconfig), "HELM_DRIVER": "memory", "HELM_MEMORY_DRIVER_DATA": str(tmp_path / "releases"),
           "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    piped = "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: cloudpose}}"
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, cwd=REPOSITORY, env=env, input=piped)
    except subprocess.TimeoutExpired:
        # It runs until somebody stops it.
        assert {"port-forward", "status"} & set(command), f"{path.name}: {' '.join(command)}"
        return
    if done.returncode != 0 and not NO_CLUSTER.search(done.stderr):
        raise AssertionError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")


def test_there_are_commands():
    for path in DOCS:
        assert sum(of == path for of, _ in ALL) > 15
    assert {command[0] for _, command in ALL} == {"kubectl", "helm"}


@pytest.mark.parametrize("wrong, told", [
    ("kubectl -n cloudpose rollout restart statefulset/cloudpose-nats deployment", "there is no need"),
    ("kubectl -n cloudpose get hpa,scaledobjet", "doesn't have a resource type"),
    ("kubectl -n cloudpose logs deployment/cloudpose-nots", "not found"),
    ("kubectl -n cloudpose get pods --sorted-by=.x", "unknown flag"),
    ("kubectl drain NODE --ignore-daemonset", "unknown flag"),
    ("helm upgrade cloudpose deploy/helm/cloudpose -n cloudpose --reuse-value", "unknown flag"),
    ("helm upgrade cloudpose deploy/helm/cloudpose -n cloudpose --set gateway.replica=1", "additional properties"),
    ("helm install cloudpose deploy/helm/cloudpos", "not found"),
])
def test_what_is_none_is_found(wrong, told, kubeconfig, tmp_path):
    with pytest.raises(AssertionError, match=told):
        test_it_is_a_command(DOCS[0], shlex.split(wrong), kubeconfig, tmp_path)


@pytest.mark.parametrize("path", [*DOCS, *HEADED], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_goes_into_a_namespace_before_it_is_there(path):
    """A secret that is wanted first needs its namespace first."""
    made = set()
    for command in commands(path):
        words = " ".join(command)
        if made_here := re.search(r"create namespace (\S+)", words):
            made.add(made_here[1])
        if "--create-namespace" in words:
            made.add(re.search(r"-n (\S+)", words)[1])
        if path in HEADED and (into := re.search(r"-n (\S+) create secret", words)):
            assert into[1] in made, words


def test_upgrades_take_in_what_is_new():
    """`--reuse-values` leaves out the values that a new version of the chart brings, and it does not render."""
    for path, command in ALL:
        assert "--reuse-values" not in command, (path, command)
