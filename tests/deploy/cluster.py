"""A Kubernetes API that knows some objects and takes everything: what Helm and kubectl ask before they do something, they
can ask here, where there is no cluster."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What there is of each API: plural, kind, whether it is in a namespace, short names.
RESOURCES = {
    "v1": [
        ("namespaces", "Namespace", False, ["ns"]), ("nodes", "Node", False, ["no"]), ("pods", "Pod", True, ["po"]),
        ("services", "Service", True, ["svc"]), ("secrets", "Secret", True, []), ("configmaps", "ConfigMap", True, ["cm"]),
        ("serviceaccounts", "ServiceAccount", True, ["sa"]), ("events", "Event", True, ["ev"]),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True, ["pvc"]),
    ],
    "apps/v1": [("deployments", "Deployment", True, ["deploy"]), ("statefulsets", "StatefulSet", True, ["sts"]),
                ("replicasets", "ReplicaSet", True, ["rs"])],
    "autoscaling/v2": [("horizontalpodautoscalers", "HorizontalPodAutoscaler", True, ["hpa"])],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True, ["pdb"])],
    "networking.k8s.io/v1": [("ingresses", "Ingress", True, ["ing"]), ("networkpolicies", "NetworkPolicy", True, ["netpol"])],
    "rbac.authorization.k8s.io/v1": [
        ("roles", "Role", True, []), ("rolebindings", "RoleBinding", True, []),
        ("clusterroles", "ClusterRole", False, []), ("clusterrolebindings", "ClusterRoleBinding", False, [])],
    "scheduling.k8s.io/v1": [("priorityclasses", "PriorityClass", False, ["pc"])],
    "keda.sh/v1alpha1": [("scaledobjects", "ScaledObject", True, ["so"])],
    "monitoring.coreos.com/v1": [("podmonitors", "PodMonitor", True, []), ("prometheusrules", "PrometheusRule", True, [])],
    "argoproj.io/v1alpha1": [("applications", "Application", True, ["app"])],
    "traefik.io/v1alpha1": [("serverstransports", "ServersTransport", True, [])],
}
PLURAL = {(version, kind): plural for version, of in RESOURCES.items() for plural, kind, _, _ in of}


class Cluster:
    """Serves `objects` on loopback while it is entered; `url` is its address."""

    def __init__(self, objects=()):
        self.objects = {self.path_of(document): document for document in objects}
        self.versions = RESOURCES

    @staticmethod
    def path_of(document):
        version, metadata = document["apiVersion"], document["metadata"]
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        return f"{root}{inside}/{PLURAL[version, document['kind']]}/{metadata['name']}"

    def __enter__(self):
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self, *cluster.get(self.path.split("?")[0]))

            def do_PATCH(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                answer(self, *cluster.get(self.path.split("?")[0]))

            do_PUT = do_PATCH

            def do_DELETE(self):
                answer(self, 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def get(self, path):
        """`(status, body)` of what is asked for."""
        groups = sorted({version.split("/")[0] for version in self.versions if "/" in version})
        if path == "/version":
            return 200, {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self.group(name) for name in groups]}
        version = path.removeprefix("/apis/").removeprefix("/api/")
        if version in self.versions and path.startswith("/api"):
            verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
            return 200, {"kind": "APIResourceList", "groupVersion": version, "resources": [
                {"name": plural, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced, "shortNames": short,
                 "verbs": verbs} for plural, kind, namespaced, short in self.versions[version]]}
        if path.removesuffix("/scale") in self.objects and path.endswith("/scale"):
            return 200, {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {}, "spec": {"replicas": 1}}
        if path.endswith("/log"):
            return 200, "a line"
        if path in self.objects:
            return 200, self.objects[path]
        for version, of in self.versions.items():
            root = "/api/v1" if version == "v1" else f"/apis/{version}"
            for plural, kind, _, _ in of:
                if path.startswith(root) and path.endswith(f"/{plural}"):
                    there = [document for key, document in self.objects.items() if key.startswith(f"{path}/")]
                    return 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": there}
        return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                     "message": f"{path} not found"}

    def group(self, name):
        version = next(version for version in self.versions if version.startswith(f"{name}/"))
        entry = {"groupVersion": version, "version": version.split("/")[1]}
        return {"name": name, "versions": [entry], "preferredVersion": entry}


def answer(handler, status, body):
    content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
