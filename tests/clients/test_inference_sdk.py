"""Roboflow's inference-sdk, unchanged, and what supervision reads of its results."""

import json
import subprocess
from pathlib import Path

import httpx
import numpy as np
from cloudpose import Client
from conftest import OTHERS


def told(*arguments):
    program = Path(__file__).with_name("inference_sdk_client.py")
    done = subprocess.run([OTHERS, program, *arguments], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_results_are_those_of_the_native_call(server, sample):
    said = told(server.http, sample)
    assert said["server"] == "cloudpose" and said["added"] == len(said["models"])
    assert said["models"]["fast"] == "keypoint-detection"
    assert said["models"]["efficientnet-lite0"] == "classification"
    # The SDK packs pictures anew as JPEG, so poses are near, not the same.
    persons = Client(server.http).pose(sample, model="fast").persons
    expected = np.array([[(k.x, k.y) for k in person.keypoints] for person in persons])
    assert np.median(np.abs(np.array(said["points"]) - expected)) < 3
    corners = [(p.box.x, p.box.y, p.box.x + p.box.width, p.box.y + p.box.height) for p in persons]
    assert np.median(np.abs(np.array(said["boxes"]) - corners)) < 6
    assert said["nobody"] == [0, 0] and said["top"] == "balance beam, beam"
    assert said["sure"] == 1 and said["unsure"] == [0, ""]
    unknown, missing = said["refused"]
    assert "yolo" in unknown and "fast" in unknown
    assert "image 1 is no base64" in missing and "a path of which there is no file" in missing


def test_key_in_the_header(locked, sample):
    assert len(told(locked.http, sample, locked.keys["photo"])["points"]) == 3


def test_key_where_the_sdk_puts_it_unless_told_otherwise(locked):
    response = httpx.post(f"{locked.http}/infer/keypoints_detection?api_key={locked.keys['photo']}", json={})
    assert response.status_code == 401 and 'api_key_transport="header"' in response.json()["message"]
    # Otherwise the SDK reads no words.
    assert response.headers["content-type"] == "application/json"
    unknown = {"Authorization": "Bearer cpk_of_nobody"}
    said = httpx.post(f"{locked.http}/infer/keypoints_detection", json={}, headers=unknown).json()["message"]
    assert said.startswith("no such key") and "api_key_transport" not in said
    key = {"Authorization": f"Bearer {locked.keys['photo']}"}
    said = httpx.post(f"{locked.http}/infer/instance_segmentation", json={}, headers=key).json()["message"]
    assert said == "There is nothing here: see /docs for what there is"
