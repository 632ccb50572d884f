"""Compose file, pipelines and the Argo CD application, against their published schemas and against what they refer to."""

import re

import pytest
import yaml
from conftest import CHART, DEPLOY, REPOSITORY, VENV, helm_template, objects, run

COMPOSE = DEPLOY / "compose" / "compose.yaml"


@pytest.mark.parametrize("schema, path, options", [
    ("compose-spec", COMPOSE, []),
    ("github-workflows", REPOSITORY / ".github" / "workflows" / "ci.yaml", []),
    ("github-workflows", REPOSITORY / ".github" / "workflows" / "release.yaml", []),
    ("gitlab-ci", REPOSITORY / ".gitlab-ci.yml", ["--data-transform", "gitlab-ci"]),
])
def test_files_keep_their_schemas(schema, path, options):
    run(VENV / "bin" / "check-jsonschema", "--builtin-schema", f"vendor.{schema}", *options, path)


@pytest.fixture(scope="module")
def services():
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_compose_refers_to_files_that_are_there(services):
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), (name, source)
        if "build" in service:
            context = COMPOSE.parent / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file(), name


def test_compose_waits_longer_than_the_drain(services):
    for name in ("gateway", "infer", "annotate", "record"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 20


def test_compose_hardens_everything_and_shows_itself_to_this_machine_only(services):
    for name, service in services.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${CLOUDPOSE_ADDRESS:-127.0.0.1}:")), (name, port)


def test_prometheus_scrapes_every_role_where_it_listens(services):
    config = yaml.safe_load((COMPOSE.parent / "prometheus.yaml").read_text())
    ports = {job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"] for job in config["scrape_configs"]}
    assert ports == dict.fromkeys(("gateway", "infer", "infer-gpu", "annotate", "record"), 60001)
    assert set(ports) <= set(services)


@pytest.mark.parametrize("path", [".github/workflows/ci.yaml", ".gitlab-ci.yml"])
def test_pipelines_run_what_everybody_runs_and_look_before_they_push(path):
    content = (REPOSITORY / path).read_text()
    assert ".ci/run" in content and (REPOSITORY / ".ci" / "run").is_file()
    assert re.search(r"push: true|skopeo copy", content).start() > re.search(r"trivy", content).start()
    for recipe in re.findall(r"Dockerfile(?:\.\w+)?", content):
        assert (DEPLOY / "docker" / recipe).is_file()


def test_argo_cd_gets_a_chart_that_renders(tmp_path):
    application = yaml.safe_load((DEPLOY / "argocd" / "application.yaml").read_text())
    assert (application["apiVersion"], application["kind"]) == ("argoproj.io/v1alpha1", "Application")
    source = application["spec"]["source"]
    assert REPOSITORY / source["path"] == CHART
    values = tmp_path / "values.yaml"
    values.write_text(yaml.safe_dump(source["helm"]["valuesObject"]))
    once, again = (helm_template("--values", values).stdout for _ in range(2))
    # Nothing in it is made up anew each time, or Argo CD would never be in sync.
    assert objects(once) and once == again
