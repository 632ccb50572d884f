"""The existing API: its clients know these bytes."""

import base64
import json

import pytest
from exchange import CUT_OFF, IMAGES, JSON, SAMPLE, base64_of, exchange, json_of
from normal import Normal, picture

DETECT = "/api/pose_detection"
ANNOTATE = "/api/pose_detection_annotation"
SMALL = (IMAGES / "small.jpg").read_bytes()
IDS = ["", " ", "7", "a.b/c?d", "\u00e9\u4e2d\U0001f9cd", '\u0000\u0001\b\t\n\f\r"\\/\u007f\u2028', "x" * 1000]


def ask(gateway, path, body, headers=JSON):
    return Normal()(exchange(gateway, "POST", path, headers, body.encode()))


def test_detection(gateway, snapshots):
    snapshots.check("existing-detection", ask(gateway, DETECT, json_of(id="any id", image=base64_of(SAMPLE))))


def test_annotation(gateway, snapshots):
    answer = ask(gateway, ANNOTATE, json_of(id="any id", image=base64_of(SAMPLE)))
    answer["body"]["image"] = picture(base64.b64decode(answer["body"]["image"], validate=True))
    snapshots.check("existing-annotation", answer)


@pytest.mark.parametrize("path", [DETECT, ANNOTATE])
def test_any_id_comes_back(alone, path):
    small = base64_of(SMALL)
    for name in IDS:
        for body in [json_of(id=name, image=small), json.dumps({"image": small, "id": name}, ensure_ascii=False)]:
            answer = ask(alone, path, body)
            assert (answer["status"], answer["body"]["id"]) == (200, name)


def test_troubles(gateway, snapshots):
    bodies = {
        "nothing": "",
        "no JSON": "{\n  bad",
        "JSON cut off": '{"id":"a"',
        "a list": "[1]",
        "null": "null",
        "a string": '"a"',
        "no fields": "{}",
        "no id": '{"image":"aGVsbG8="}',
        "no image": '{"id":"a"}',
        "no strings": '{"id":1,"image":null}',
        "id is no string": '{"id":["a"],"image":"aGVsbG8="}',
        "empty image": '{"id":"a","image":""}',
        "no base64": '{"id":"a","image":"!!!"}',
        "no image in it": '{"id":"a","image":"aGVsbG8="}',
        "image cut off": json_of(id="a", image=base64_of(CUT_OFF)),
    }
    troubles = {name: ask(gateway, DETECT, body) for name, body in bodies.items()}
    for name, body in bodies.items():
        assert ask(gateway, ANNOTATE, body) == troubles[name], f"{name}: both calls say the same"
    whole = json_of(id="a", image="aGVsbG8=")
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/vnd.api+json"]:
        troubles[f"as {kind}"] = ask(gateway, DETECT, whole, {"content-type": kind})
    troubles["as nothing"] = ask(gateway, DETECT, whole, {})
    snapshots.check("existing-troubles", troubles)


def test_forms_that_are_taken(alone, snapshots):
    encoded = base64_of(SMALL)
    bodies = {
        "more fields": json_of(id="a", image=encoded, more=1),
        "an id twice": '{"id":"a","image":"%s","id":"b"}' % encoded,
        "without padding": json_of(id="a", image=encoded.rstrip("=")),
        "in lines": json_of(id="a", image=base64.encodebytes(SMALL).decode()),
        "a data URL": json_of(id="a", image=f"data:image/jpeg;base64,{encoded}"),
        "escaped": '{"id":"\\u0061","image":"%s"}' % encoded.replace("/", "\\/"),
    }
    snapshots.check("existing-forms", {name: ask(alone, DETECT, body) for name, body in bodies.items()})
