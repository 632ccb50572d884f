"""Renders `deploy/kustomize/base` and its components from the Helm chart, so that both say the same (`make manifests`)."""

import subprocess
import sys
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
HELM = Path(__file__).parent / "node_modules" / ".tools" / "helm" / "helm"
HEADER = "# Rendered from deploy/helm/cloudpose by `make manifests`: change it there.\n"

# Where an object goes that is not part of the base.
COMPONENTS = {
    "ScaledObject": "keda",
    "HorizontalPodAutoscaler": "keda",
    "PodMonitor": "monitoring",
    "PrometheusRule": "monitoring",
}


class Dumper(yaml.SafeDumper):
    """Writes text of several lines as a block, as a person would."""


def text(dumper, value):
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, text)


def template(release, namespace, *options):
    command = [HELM, "template", release, DEPLOY / "helm" / "cloudpose", "--namespace", namespace, "--skip-tests",
               "--values", KUSTOMIZE / "values.yaml", *options]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def without_helm(value):
    """Without the labels that say who made it: that is not Helm."""
    if isinstance(value, dict):
        return {key: without_helm(inner) for key, inner in value.items()
                if key not in ("helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/config")}
    if isinstance(value, list):
        return [without_helm(inner) for inner in value]
    return value


def folder_of(document):
    kind, metadata = document["kind"], document["metadata"]
    if kind in COMPONENTS:
        return f"components/{COMPONENTS[kind]}"
    if metadata["name"].endswith(("-gateway-ops", "-keda")):
        # Where KEDA asks a gateway, and may.
        return "components/keda"
    if "grafana_dashboard" in metadata["labels"]:
        return "components/monitoring"
    return "components/gpu" if metadata["name"].endswith("-gpu") else "base"


def files():
    """`{path: content}` of everything that is rendered."""
    folders = {}
    for document in map(without_helm, template("cloudpose", "cloudpose")):
        component = document["metadata"]["labels"].get("app.kubernetes.io/component")
        name = component or {"NetworkPolicy": "network-policies", "PodMonitor": "monitors", "PrometheusRule": "rules"}.get(document["kind"], "shared")
        folders.setdefault(folder_of(document), {}).setdefault(f"{name}.yaml", []).append(document)
    made = {}
    for folder, contents in folders.items():
        for name, documents in contents.items():
            body = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=120, allow_unicode=True)
            made[f"{folder}/{name}"] = HEADER + body
        kind = "Kustomization" if folder == "base" else "Component"
        head = {"apiVersion": f"kustomize.config.k8s.io/{'v1beta1' if folder == 'base' else 'v1alpha1'}", "kind": kind,
                "resources": sorted(contents)}
        if folder == "components/keda":
            # The processors' part begins where the GPUs' ends.
            head["components"] = ["../gpu"]
        made[f"{folder}/kustomization.yaml"] = HEADER + yaml.dump(head, Dumper=Dumper, sort_keys=False)
    return made


def main():
    for path, content in files().items():
        target = KUSTOMIZE / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        print(target.relative_to(DEPLOY.parent))


if __name__ == "__main__":
    main()
