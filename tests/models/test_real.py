"""Models that people use, from the file to what is found on photos."""

import json
import os
import subprocess

import onnx
import pytest
from efficientnet import REPOSITORY
from real import FOLDER, nanodet

BINARY = os.environ.get("CLOUDPOSE_BIN", REPOSITORY / "target/debug/cloudpose")
SAMPLE = REPOSITORY / "ingest/web/sample.jpg"


def cloudpose(*arguments):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with both models, and NanoDet before Thunder."""
    folder = tmp_path_factory.mktemp("models")
    onnx.save(nanodet(), folder / "nanodet.onnx")
    served = folder / "served"
    assert "kind     nanodet" in cloudpose("models", "add", folder / "nanodet.onnx", "--model-dir", served)
    assert "kind     centerface" in cloudpose("models", "add", FOLDER / "centerface.onnx", "--model-dir", served)
    cloudpose("models", "pair", "nanodet", "thunder", "--model-dir", served)
    return served


def found(folder, model, *options):
    lines = cloudpose("detect", SAMPLE, "--json", "--model", model, "--model-dir", folder, *options).splitlines()
    return json.loads(lines[-1])["persons"]


def test_nanodet_finds_the_people_whom_thunder_looks_at(folder):
    persons = found(folder, "nanodet-thunder", "--min-score", "0.3")
    known = found(folder, "accurate", "--min-score", "0.3")
    assert len(persons) == len(known) == 3
    for person in persons:
        # Somebody whom the built-in models find too, with the same joints where both are sure.
        joints = {joint["name"]: joint for joint in person["keypoints"] if joint["score"] > 0.5}
        nearest = min(known, key=lambda other: distance(joints, other))
        assert len(joints) >= 8 and distance(joints, nearest) < 15, (joints, nearest)


def distance(joints, other):
    """Mean distance in pixels of those joints."""
    there = {joint["name"]: joint for joint in other["keypoints"]}
    offs = [((a["x"] - there[name]["x"]) ** 2 + (a["y"] - there[name]["y"]) ** 2) ** 0.5 for name, a in joints.items()]
    return sum(offs) / len(offs)


def test_centerface_finds_the_faces_of_people(folder):
    surest = found(folder, "centerface")[:2]
    people = [person["keypoints"] for person in found(folder, "accurate", "--min-score", "0.3")]
    noses = [joint for person in people for joint in person if joint["name"] == "nose"]
    for face in surest:
        (nose,) = (joint for joint in face["keypoints"] if joint["name"] == "nose")
        assert min(((nose["x"] - n["x"]) ** 2 + (nose["y"] - n["y"]) ** 2) ** 0.5 for n in noses) < 15
    assert "5 faces in 804×1072" in cloudpose("detect", SAMPLE, "--model", "centerface", "--model-dir", folder)
