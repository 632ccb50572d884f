"""`cloudpose detect` on videos: what it prints, and the annotated video that it writes."""

import json
import os
import subprocess
from pathlib import Path

from test_eval import BINARY

REPOSITORY = Path(__file__).parents[2]
CLIP = REPOSITORY / "video/tests/clips/high_b_frames.mp4"


def detect(*arguments, path=os.environ["PATH"]):
    command = [BINARY, "detect", *map(str, arguments), "--json", "--model", "fast"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})


def frames(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_video_is_annotated_frame_by_frame(tmp_path):
    # Without ffmpeg.
    seen = frames(detect(CLIP, "-o", tmp_path, path=""))
    assert [frame["frame"] for frame in seen] == list(range(1, 25))
    assert {(frame["width"], frame["height"]) for frame in seen} == {(272, 480)}
    ids = [{person["track_id"] for person in frame["persons"]} - {None} for frame in seen]
    assert all(ids[10:]) and set.intersection(*ids[10:]), "somebody is followed"
    lines = (tmp_path / "high_b_frames.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == seen

    again = frames(detect(tmp_path / "high_b_frames.mp4", path=""))
    assert len(again) == 24
    # The people are still there, under their skeletons.
    assert len(again[20]["persons"]) >= 1


def test_of_a_damaged_video_what_came_before_is_written(tmp_path):
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(CLIP.read_bytes()[:-4000] + b"\xff" * 4000)
    done = detect(damaged, "-o", tmp_path / "out", path="")
    assert done.returncode == 1 and "a part of its picture is missing" in done.stderr, done.stderr
    seen = len(done.stdout.splitlines())
    assert 0 < seen < 24
    assert len(frames(detect(tmp_path / "out/damaged.mp4", path=""))) == seen


def test_what_is_no_video_says_what_to_do(tmp_path):
    file = tmp_path / "clip.webm"
    file.write_bytes(b"no video at all")
    done = detect(file, path="")
    assert done.returncode == 1
    assert "install ffmpeg" in done.stderr, done.stderr
    assert done.stdout == ""
