"""The images' recipes."""

import re

import pytest
from conftest import DEPLOY, REPOSITORY, VENV, run

RECIPES = sorted((DEPLOY / "docker").glob("Dockerfile*"))


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.name for path in RECIPES])
def test_hadolint_finds_nothing(recipe):
    run(VENV / "bin" / "hadolint", "--config", DEPLOY / "docker" / "hadolint.yaml", recipe)


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.name for path in RECIPES])
def test_the_compiler_is_the_one_that_the_workspace_asks_for(recipe):
    wanted = re.search(r'rust-version = "([\d.]+)"', (REPOSITORY / "Cargo.toml").read_text())[1]
    assert f"ARG RUST={wanted}\n" in recipe.read_text()


@pytest.mark.parametrize("recipe", RECIPES, ids=[path.name for path in RECIPES])
def test_nobody_is_root(recipe):
    assert re.findall(r"^USER (\S+)", recipe.read_text(), re.M)[-1] == "10001:10001"


def test_the_builder_gets_every_member_of_the_workspace():
    ignored = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    members = re.search(r"members = \[(.*?)\]", (REPOSITORY / "Cargo.toml").read_text(), re.S)[1]
    for member in re.findall(r'"([^"]+)"', members):
        assert member not in ignored and f"{member}/src" not in ignored


def test_the_builder_gets_what_the_binary_includes():
    ignored = set((REPOSITORY / ".dockerignore").read_text().splitlines())
    included = set()
    for program in REPOSITORY.glob("*/src/**/*.rs"):
        for name in re.findall(r'include_(?:bytes|str)!\("([^"]+)"\)', program.read_text()):
            included.add((program.parent / name).resolve().relative_to(REPOSITORY))
    beside = {file for file in included if ignored & {file.parts[0], f"{file.parts[0]}/*"}}
    assert beside and all(f"!{file}" in ignored for file in beside), beside
