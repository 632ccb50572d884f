"""The Chinese documents give the commands, the sections, the links and the code within text that the English ones give."""

import os
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAIRS = {"README.md": "README.zh-CN.md", "docs/install.md": "docs/zh-CN/install.md"}
FENCED = re.compile(r"^```.*?^```", flags=re.M | re.S)


def code(text):
    """Lines of code, without what comments say."""
    fenced = FENCED.findall(text)
    indented = re.findall(r"^ {4,}\S.*$", FENCED.sub("", text), flags=re.M)
    # What continues a point of a list is no code.
    commands = [line for line in indented if not re.match(r" {5,}[^ ]", line) or re.match(r" +(kubectl|helm|--)", line)]
    lines = [line for block in fenced for line in block.splitlines()] + commands
    return [re.sub(r"\s+#\s.*$", "", line).rstrip() for line in lines]


@pytest.mark.parametrize("english, chinese", PAIRS.items())
def test_commands_and_sections_are_the_same(english, chinese):
    english, chinese = (REPOSITORY / name for name in (english, chinese))
    assert code(chinese.read_text()) == code(english.read_text())
    sections = [re.findall(r"^#+", text.read_text(), flags=re.M) for text in (english, chinese)]
    assert sections[0] == sections[1]


def spans(text):
    """Code within text, however its lines are broken."""
    return {" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCED.sub("", text))}


def targets(name):
    """Where a document's links to other documents lead; to those that are translated, as to the English ones."""
    links = re.findall(r"\]\(([^)#][^)]*)\)", FENCED.sub("", (REPOSITORY / name).read_text()))
    folder = (REPOSITORY / name).parent
    found = {link if "://" in link else os.path.relpath(folder / link, REPOSITORY) for link in links}
    english = {chinese: english for english, chinese in PAIRS.items()}
    return {english.get(target, target) for target in found}


@pytest.mark.parametrize("english, chinese", PAIRS.items())
def test_code_within_text_and_links_are_all_there(english, chinese):
    in_english, in_chinese = (spans((REPOSITORY / name).read_text()) for name in (english, chinese))
    assert len(in_english) > 20
    assert in_english - in_chinese == set()
    # The English one's link to the Chinese one is answered by that one's link back.
    assert targets(english) - targets(chinese) == set()


@pytest.mark.parametrize("name", PAIRS.values())
def test_links_lead_somewhere(name):
    document = REPOSITORY / name
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert len(links) > 5
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("name", PAIRS.values())
def test_links_within_lead_to_a_section(name):
    text = (REPOSITORY / name).read_text()
    slug = lambda title: re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    sections = {slug(title) for title in re.findall(r"^#+ (.*)$", text, flags=re.M)}
    assert {link for link in re.findall(r"\]\(#([^)]+)\)", text)} <= sections
