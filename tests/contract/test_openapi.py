"""/openapi.json is OpenAPI 3.1, whole, and its examples are what a server says."""

import json
import os
import subprocess

import pytest
from examples import ANY, FILE, kind_of, record
from exchange import send
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from processes import REPOSITORY, Processes
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from snapshot import pretty

METHODS = ("get", "post", "patch", "delete")
READABLE = ("application/json", "application/problem+json", "application/jsonl", "text/plain")
# What no client makes a server say: its worker lacks what ours has, or is not there.
UNSEEN = {("POST /predict", "404"), ("GET /ready", "503")}


@pytest.fixture(scope="module")
def keyed(tmp_path_factory):
    """The description of a gateway that asks for keys."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    with Processes() as processes:
        processes.key("photo", keys)
        gateway = processes.gateway("serve", "--device", "cpu", "--model", "lightning", "--keys", keys)
        yield json.loads(send(gateway, "GET", "/openapi.json")[2])


@pytest.fixture
def described(alone):
    return json.loads(send(alone, "GET", "/openapi.json")[2])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(tmp_path_factory.mktemp("examples"))


def contents(api):
    """Each content of each call: the call, where in it, the status of an answer, the content type, the content."""
    for path, item in api["paths"].items():
        for method in METHODS:
            call, operation = f"{method.upper()} {path}", item.get(method, {})
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield call, "request", kind, content
            for status, response in operation.get("responses", {}).items():
                for kind, content in response.get("content", {}).items():
                    yield call, status, kind, content


def test_the_document_is_openapi_3_1(described, keyed):
    for api in (described, keyed):
        assert api["openapi"].startswith("3.1")
        assert [error.message for error in OpenAPIV31SpecValidator(api).iter_errors()] == []
    assert described["paths"]["/v1/pose"]["post"]["security"] == [{}, {"key": ["photo"]}]
    assert described["components"]["securitySchemes"] == keyed["components"]["securitySchemes"]


def test_a_linter_has_nothing_against_it(described, keyed, tmp_path):
    files = [tmp_path / "described.json", tmp_path / "keyed.json"]
    for file, api in zip(files, [described, keyed]):
        file.write_text(json.dumps(api))
    redocly = REPOSITORY / "tests/contract/node_modules/.bin/redocly"
    quiet = os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    # WebSockets switch protocols (101), and some calls of other people's clients are always refused.
    command = [redocly, "lint", "--extends", "recommended-strict", "--skip-rule", "operation-2xx-response", *files]
    done = subprocess.run(command, env=quiet, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_keys_are_asked_for_where_they_are_needed(keyed):
    schemes = keyed["components"]["securitySchemes"]
    assert (schemes["key"]["type"], schemes["key"]["scheme"]) == ("http", "bearer")
    assert (schemes["ticket"]["in"], schemes["ticket"]["name"]) == ("query", "ticket")
    paths = keyed["paths"]
    assert paths["/v1/pose"]["post"]["security"] == [{"key": ["photo"]}]
    assert paths["/v1/stream"]["get"]["security"] == [{"key": ["stream"]}, {"ticket": ["stream"]}]
    assert "security" not in paths["/health"]["get"]
    for item in paths.values():
        for operation in (item[method] for method in METHODS if method in item):
            assert ("security" in operation) == ("401" in operation["responses"])


def test_every_body_that_can_be_read_has_an_example(keyed):
    missing = [
        (call, where, kind)
        for call, where, kind, content in contents(keyed)
        if kind in READABLE and "example" not in content and (call, where) not in UNSEEN
    ]
    assert missing == []


def test_examples_are_what_the_description_says(keyed):
    registry = Registry().with_resource("urn:api", Resource(keyed, DRAFT202012))
    seen = 0
    for call, where, kind, content in contents(keyed):
        if "example" in content:
            pointer = content.get("schema", {})
            schema = json.loads(json.dumps(pointer).replace('"#/', '"urn:api#/'))
            faults = [error.message for error in Draft202012Validator(schema, registry=registry).iter_errors(content["example"])]
            assert faults == [], (call, where, kind)
            seen += 1
    assert seen > 100


def test_examples_have_their_places(keyed):
    places = {(call, where, kind) for call, where, kind, _ in contents(keyed)}
    for call, said in json.loads(FILE.read_text()).items():
        bodies = [("request", kind) for kind in said.get("request", {})]
        bodies += [(status, kind) for status, kinds in said["responses"].items() for kind in kinds]
        for where, kind in bodies:
            assert any(call in (ANY, place[0]) and place[1:] == (where, kind) for place in places), (call, where, kind)


def test_examples_are_what_a_server_says_now(recorded):
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        FILE.write_text(pretty(recorded) + "\n")
    written = json.loads(FILE.read_text())
    assert kind_of(recorded) == kind_of(written), "UPDATE_SNAPSHOTS=1 make contract writes them anew"
