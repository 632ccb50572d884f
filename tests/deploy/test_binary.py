"""What the manifests tell the binary, it understands: roles, flags, environment names, ports."""

import re
import shlex
import subprocess
from functools import cache

import pytest
import yaml
from conftest import DEPLOY, REPOSITORY, named, of_kind, roles, run

COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())


@pytest.fixture
def options(cloudpose):
    """`(flags, environment names)` of a role, out of its help."""

    @cache
    def of(role):
        told = subprocess.run([cloudpose, role, "--help"], capture_output=True, text=True)
        assert told.returncode == 0, told.stderr
        return set(re.findall(r"--[a-z][a-z-]+", told.stdout)), set(re.findall(r"\[env: (\w+)", told.stdout))

    return of


def check(options, name, args, environment):
    flags, names = options(args[0])
    for arg in args[1:]:
        if arg.startswith("--"):
            assert arg.split("=")[0] in flags, f"{name}: {args[0]} knows no {arg}"
    ours = {variable for variable in environment if variable.startswith("CLOUDPOSE_")}
    assert ours <= names, f"{name}: {args[0]} reads no {ours - names}"
    return len(ours)


def test_manifests_tell_the_roles_what_they_understand(manifests, options):
    checked = 0
    for document in roles(manifests):
        box = document["spec"]["template"]["spec"]["containers"][0]
        shared = named(manifests, "ConfigMap", box["envFrom"][0]["configMapRef"]["name"])["data"]
        environment = [entry["name"] for entry in box["env"]]
        checked += check(options, document["metadata"]["name"], box["args"], [*environment, *shared])
    assert checked >= 12


def test_pods_of_the_chart_ask_what_the_binary_can_ask(chart, options):
    for document in of_kind(chart, "Pod"):
        # Is it alive; can the image be run.
        assert document["spec"]["containers"][0]["args"][0] in ("health", "--version")
        options("health")


def test_compose_tells_the_roles_what_they_understand(options):
    for name in ("gateway", "infer", "infer-gpu", "annotate", "record"):
        service = COMPOSE["services"][name]
        check(options, name, service["command"], service["environment"])


def test_ports_are_those_that_the_image_listens_on(manifests):
    recipe = (DEPLOY / "docker" / "Dockerfile").read_text()
    clients = int(re.search(r"CLOUDPOSE_LISTEN=0\.0\.0\.0:(\d+)", recipe)[1])
    metrics = int(re.search(r"CLOUDPOSE_METRICS_LISTEN=0\.0\.0\.0:(\d+)", recipe)[1])
    assert set(map(int, re.search(r"^EXPOSE (.*)$", recipe, re.M)[1].split())) == {clients, metrics}
    for document in roles(manifests):
        box = document["spec"]["template"]["spec"]["containers"][0]
        wanted = {"CLOUDPOSE_OPS_LISTEN": metrics}
        if box["args"][0] == "ingest":
            wanted["CLOUDPOSE_LISTEN"] = clients
        assert {port["containerPort"] for port in box["ports"]} == set(wanted.values())
        for listen, port in wanted.items():
            assert {"name": listen, "value": f"0.0.0.0:{port}"} in box["env"]


def test_images_set_and_start_what_the_binary_knows(options):
    for recipe in (DEPLOY / "docker").glob("Dockerfile*"):
        content = recipe.read_text()
        names = set(re.findall(r"(CLOUDPOSE_\w+)=", content))
        role = re.search(r'^CMD \["(\w+)"\]', content, re.M)[1]
        # Each role takes what is its own.
        known = options(role)[1] | options("infer")[1]
        assert names <= known, names - known
        probe = shlex.split(re.search(r'CMD \["cloudpose", (.*)\]', content)[1].replace(",", ""))
        assert probe == ["health", "http://127.0.0.1:60000/health"]


def test_manual_and_completions_are_written_as_images_and_releases_have_them(cloudpose, tmp_path):
    run(REPOSITORY / "deploy/extras.sh", tmp_path, cloudpose)
    pages = {page.name for page in (tmp_path / "man/man1").iterdir()}
    assert {"cloudpose.1", "cloudpose-serve.1", "cloudpose-doctor.1", "cloudpose-keys-new.1"} <= pages
    assert "clip.mp4" in (tmp_path / "man/man1/cloudpose-detect.1").read_text()
    bash = tmp_path / "bash-completion/completions/cloudpose"
    words = f'source {bash}; COMP_WORDS=(cloudpose do); COMP_CWORD=1; _cloudpose cloudpose do cloudpose; echo "${{COMPREPLY[@]}}"'
    assert run("bash", "-c", words).split() == ["doctor"]
    for file in ("zsh/site-functions/_cloudpose", "fish/vendor_completions.d/cloudpose.fish"):
        assert "doctor" in (tmp_path / file).read_text()
