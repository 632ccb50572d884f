"""/docs/messages tells of all that docs/asyncapi.yaml describes."""

import re

import yaml
from exchange import send
from messages_page import DESCRIPTION, PAGE, name_of, page

DOCUMENT = yaml.safe_load(DESCRIPTION.read_text())


def test_the_page_is_made_of_the_document():
    assert PAGE.read_text() == page(), "tests/.venv/bin/python tests/contract/messages_page.py writes it anew"


def test_every_message_and_type_is_told_of(alone):
    html = send(alone, "GET", "/docs/messages")[2].decode()
    sections = dict(re.findall(r'<section [^>]*id="([^"]+)">(.*?)</section>', html, re.S))
    told = set()
    for key, channel in DOCUMENT["channels"].items():
        for name, reference in channel["messages"].items():
            title = DOCUMENT["components"]["messages"][name_of(reference)]["title"]
            assert f"<summary><code>{name}</code>{title}</summary>" in sections[key], (key, name)
            told.add(name_of(reference))
    assert told == set(DOCUMENT["components"]["messages"])
    ids = re.findall(r' id="([^"]+)"', html)
    assert {f"schema-{name}" for name in DOCUMENT["components"]["schemas"]} <= set(ids)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(ids), "no link leads nowhere"


def test_the_document_is_served_beside_it(alone):
    assert send(alone, "GET", "/docs/asyncapi.yaml")[2] == DESCRIPTION.read_bytes()
