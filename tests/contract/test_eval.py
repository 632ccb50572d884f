"""`cloudpose eval` against COCO's own program, on people whom nobody labelled: what a model found, moved about."""

import contextlib
import io
import json
import os
import pathlib
import random
import subprocess

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

BINARY = os.environ["CLOUDPOSE_BIN"]
PHOTOS = pathlib.Path(__file__).resolve().parents[2] / "infer/tests/golden/images"
# In the order of COCOeval's numbers.
NUMBERS = ["ap", "ap_50", "ap_75", "ap_medium", "ap_large", "ar", "ar_50", "ar_75", "ar_medium", "ar_large"]


def evaluate(annotations, *options):
    command = [BINARY, "eval", annotations, PHOTOS, "--model", "multipose", "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def skeleton():
    done = subprocess.run([BINARY, "detect", "--json", next(PHOTOS.glob("*.jpg"))], capture_output=True, text=True, check=True)
    return [keypoint["name"] for keypoint in json.loads(done.stdout)["persons"][0]["keypoints"]]


def write(path, photos, people, names):
    category = {"id": 1, "name": "person", "keypoints": names}
    path.write_text(json.dumps({"images": photos, "annotations": people, "categories": [category]}))
    return path


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The photos, and what the model finds in them."""
    folder, names = tmp_path_factory.mktemp("eval"), skeleton()
    # In another order than their numbers'.
    files = sorted(PHOTOS.glob("*.jpg"))
    photos = [{"id": 7 * (len(files) - i), "file_name": file.name} for i, file in enumerate(files)]
    results = folder / "results.json"
    evaluate(write(folder / "nobody.json", photos, [], names), "--min-score", "0.01", "--out", results)
    return photos, json.loads(results.read_text()), names


@pytest.mark.parametrize("seed", range(12))
def test_numbers_are_those_of_cocos_own_program(found, tmp_path, seed):
    photos, persons, names = found
    dice = random.Random(seed)
    people = []
    for person in persons:
        if dice.random() < 0.2:
            continue
        x, y = person["keypoints"][0::3], person["keypoints"][1::3]
        width, height = max(x) - min(x), max(y) - min(y)
        # From nearly right to far off; of all sizes.
        off = dice.choice([0.0, 0.01, 0.03, 0.1]) * max(width, height)
        keypoints, labelled = [], 0
        for px, py in zip(x, y):
            visibility = dice.choice([0, 1, 2, 2]) if dice.random() < 0.9 else 0
            labelled += visibility > 0
            place = [round(px + dice.gauss(0, off)), round(py + dice.gauss(0, off))] if visibility else [0, 0]
            keypoints += [*place, visibility]
        if dice.random() < 0.15:
            keypoints, labelled = [0] * len(keypoints), 0
        people.append({
            "id": len(people) + 1, "image_id": person["image_id"], "category_id": 1, "keypoints": keypoints,
            "num_keypoints": labelled, "bbox": [min(x), min(y), width, height],
            "area": dice.choice([500.0, 4000.0, 0.6 * width * height, 20000.0]), "iscrowd": int(dice.random() < 0.1),
        })  # fmt: skip
    annotations, results = write(tmp_path / "people.json", photos, people, names), tmp_path / "results.json"
    ours = evaluate(annotations, "--min-score", "0.01", "--out", results)

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(annotations)
        theirs = COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    for name, expected in zip(NUMBERS, theirs.stats, strict=True):
        # COCO says -1 where nobody is there to be found.
        got = -1 if ours[name] is None else ours[name]
        assert got == pytest.approx(expected, abs=1e-6), name
    assert 0 < ours["ap"] < 1 and ours["ap_interval"][0] <= ours["ap"] <= ours["ap_interval"][1]


def test_what_does_not_fit_is_told(found, tmp_path):
    photos, _, names = found

    def complaint(annotations):
        command = [BINARY, "eval", annotations, PHOTOS, "--model", "multipose"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        return done.stderr

    other = write(tmp_path / "other.json", photos, [], ["tip", "root"])
    assert "no category has the keypoints of coco-17" in complaint(other)
    missing = write(tmp_path / "missing.json", [{"id": 1, "file_name": "gone.jpg"}], [], names)
    assert "gone.jpg" in complaint(missing)
    broken = tmp_path / "broken.json"
    broken.write_text("[]")
    assert "COCO's format" in complaint(broken)
