"""checkov finds nothing but what deploy/checkov.yaml explains."""

import json
import re
import subprocess

import pytest
import yaml
from conftest import ALL, DEPLOY, REPOSITORY

CHECKOV = REPOSITORY / "tests" / ".venv-checkov" / "bin" / "checkov"
CONFIG = DEPLOY / "checkov.yaml"


def findings(*paths):
    """What checkov finds in `paths`, and how much it looked at."""
    files = [part for path in paths for part in ("--file", str(path))]
    done = subprocess.run([CHECKOV, "--config-file", CONFIG, "--output", "json", *files], capture_output=True, text=True,
                          cwd=REPOSITORY, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    failed = [f"{c['check_id']} {c['check_name']}: {c['resource']}" for r in reports for c in r["results"]["failed_checks"]]
    return failed, sum(r["summary"]["passed"] for r in reports)


def test_manifests_hold_nothing_unexplained(tmp_path):
    paths = []
    for name, documents in ALL.items():
        path = tmp_path / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump_all(documents()))
        paths.append(path)
    openshift = tmp_path / "helm-openshift.yaml"
    failed, passed = findings(*(path for path in paths if path != openshift))
    assert not failed, "\n".join(failed)
    assert passed > 1000
    # There the cluster says which user, a high one (CKV_K8S_40), and refuses who says it himself.
    failed, _ = findings(openshift)
    assert failed and all(finding.startswith("CKV_K8S_40 ") for finding in failed), "\n".join(failed)


def test_images_and_pipelines_hold_nothing_unexplained():
    paths = [DEPLOY / "docker" / "Dockerfile", DEPLOY / "docker" / "Dockerfile.cuda",
             *sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml")), REPOSITORY / ".gitlab-ci.yml"]
    failed, passed = findings(*paths)
    assert not failed, "\n".join(failed)
    assert passed > 50


def test_a_privileged_pod_is_found(tmp_path):
    path = tmp_path / "pod.yaml"
    path.write_text("""
apiVersion: v1
kind: Pod
metadata: { name: bad }
spec: { containers: [{ name: bad, image: bad, securityContext: { privileged: true } }] }
""")
    failed, _ = findings(path)
    assert any("CKV_K8S_16" in finding for finding in failed)


@pytest.mark.parametrize("skipped", yaml.safe_load(CONFIG.read_text())["skip-check"])
def test_every_skip_is_explained(skipped):
    assert re.search(rf"#[^\n]*\n(  - CKV_\w+\n)*  - {skipped}\n", CONFIG.read_text())
