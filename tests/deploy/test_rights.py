"""Who is let deploy can: for each object of the chart, what Helm does with it is allowed to the deployer's role."""

import pytest
from cluster import PLURAL
from conftest import HELM, CHART, NAMESPACE, RELEASE, VALUE_SETS, objects, of_kind, run

# What an admin makes once, by the first install; the deployer keeps it up to date.
FIRST = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "PriorityClass"}


def rights(documents):
    return [rule for d in of_kind(documents, "Role", "ClusterRole") for rule in d["rules"]]


def may(rules, verb, group, resource, name=None):
    """As Kubernetes decides: a rule that names objects lets nobody create or list."""
    return any(
        verb in rule["verbs"] and group in rule["apiGroups"] and resource in rule["resources"]
        and ("resourceNames" not in rule or (verb in ("get", "update", "patch", "delete") and name in rule["resourceNames"]))
        for rule in rules)


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_the_deployer_may_deploy(value_set):
    options = ["--values", VALUE_SETS[value_set]] if VALUE_SETS[value_set] else []
    deployer = {"rbac.deployer.create": "true", "rbac.deployer.subjects[0].kind": "User", "rbac.deployer.subjects[0].name": "ci",
                "priorityClass.create": "true", "monitoring.rules.enabled": "true"}
    documents = objects(run(HELM, "template", RELEASE, CHART, "--namespace", NAMESPACE, "--is-upgrade", *options,
                            *(part for key, value in deployer.items() for part in ("--set", f"{key}={value}"))))
    rules = rights(documents)
    for document in documents:
        version, kind, name = document["apiVersion"], document["kind"], document["metadata"]["name"]
        group = version.split("/")[0] if "/" in version else ""
        # Helm 4 applies on the server, which is a patch; `--wait` lists and watches.
        verbs = {"get", "list", "watch", "patch", "delete"}
        if kind not in FIRST:
            verbs |= {"create"}
        if kind != "Pod":
            verbs |= {"update"}
        for verb in verbs:
            assert may(rules, verb, group, PLURAL[version, kind], name), (verb, kind, name)
    # Helm's record of releases, and what `helm test` and `--wait` read.
    for verb, group, resource in [("create", "", "secrets"), ("list", "", "secrets"), ("get", "", "pods/log"),
                                  ("list", "apps", "replicasets"), ("watch", "", "pods"), ("list", "", "events")]:
        assert may(rules, verb, group, resource), (verb, resource)


def test_the_deployer_may_nothing_else():
    documents = objects(run(HELM, "template", RELEASE, CHART, "--values", VALUE_SETS["autoscaled-hpa"]))
    rules = rights(documents)
    for rule in rules:
        assert not {"*", "escalate", "bind", "impersonate"} & {*rule["verbs"], *rule["apiGroups"], *rule["resources"]}
    other = "somebody-elses"
    for group, resource in [("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "clusterroles"),
                            ("rbac.authorization.k8s.io", "clusterrolebindings"), ("scheduling.k8s.io", "priorityclasses")]:
        for verb in ("create", "update", "patch", "delete"):
            assert not may(rules, verb, group, resource, other), (verb, resource)
    assert not may(rules, "create", "", "pods/exec") and not may(rules, "get", "", "nodes")
    # In the cluster at large he changes the two things that are the release's.
    (cluster,) = of_kind(documents, "ClusterRole")
    assert all("resourceNames" in rule or set(rule["verbs"]) == {"get", "list", "watch"} for rule in cluster["rules"])


def test_the_binding_meets_the_role():
    documents = objects(run(HELM, "template", RELEASE, CHART, "--values", VALUE_SETS["autoscaled-hpa"]))
    for role, binding in (("Role", "RoleBinding"), ("ClusterRole", "ClusterRoleBinding")):
        ((role,), (binding,)) = of_kind(documents, role), of_kind(documents, binding)
        assert binding["roleRef"]["kind"] == role["kind"] and binding["roleRef"]["name"] == role["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "deployer", "namespace": "ci"}]
