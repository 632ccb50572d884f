"""The poses in the sample photo: near the recorded ones on every processor.

Instruction sets differ in the last bits, so that the snapshots of messages hold no measured values; these do.
"""

import json

import pytest
from exchange import JPEG, JSON, SAMPLE, base64_of, json_of, send

PIXELS = 2
SCORE = 0.05


def poses(gateway, model):
    status, _, body = send(gateway, "POST", f"/v1/pose?model={model}", JPEG, SAMPLE)
    assert status == 200, body
    return json.loads(body)


def brief(event):
    """Boxes as left, top, right, bottom; keypoints as x, y, score."""
    persons = []
    for person in event["persons"]:
        box = person["box"]
        edges = [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]]
        joints = [
            [round(joint["x"], 1), round(joint["y"], 1), round(joint["score"], 2)] for joint in person["keypoints"]
        ]
        persons.append(
            {"score": round(person["score"], 2), "box": [round(edge, 1) for edge in edges], "keypoints": joints}
        )
    return persons


def hold_near(persons, recorded):
    assert len(persons) == len(recorded)
    for now, then in zip(persons, recorded, strict=True):
        assert now["score"] == pytest.approx(then["score"], abs=SCORE)
        assert now["box"] == pytest.approx(then["box"], abs=PIXELS)
        for joint, before in zip(now["keypoints"], then["keypoints"], strict=True):
            assert joint[:2] == pytest.approx(before[:2], abs=PIXELS)
            assert joint[2] == pytest.approx(before[2], abs=SCORE)


@pytest.mark.parametrize("model", ["lightning", "thunder", "multipose"])
def test_poses_are_where_they_were(gateway, snapshots, model):
    persons = brief(poses(gateway, model))
    if snapshots.update:
        snapshots.check(f"sample-{model}", persons)
    hold_near(persons, snapshots.read(f"sample-{model}"))


def test_existing_api_says_the_same(gateway, snapshots):
    body = json_of(id="a", image=base64_of(SAMPLE))
    status, _, answer = send(gateway, "POST", "/api/pose_detection", JSON, body)
    assert status == 200, answer
    answer = json.loads(answer)
    width, height = 804, 1072
    persons = [
        {
            "score": box["probability"],
            "box": [box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]],
            "keypoints": [[x * width, y * height, score] for x, y, score in joints],
        }
        for box, joints in zip(answer["boxes"], answer["keypoints"], strict=True)
    ]
    hold_near(persons, snapshots.read("sample-multipose"))
