"""Foreign graphs give what ONNX Runtime gives, within 1e-4 of an output's largest value."""

import json
import os
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
from efficientnet import REPOSITORY
from networks import NETWORKS
from real import REAL

GRAPH = os.environ.get("CLOUDPOSE_GRAPH", REPOSITORY / "target/debug/examples/graph")
TOLERANCE = 1e-4
# Those that answer objects by falling score.
SORTED = {"rtmdet-nano", "yolo26n-pose"}


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def both(path, model, size):
    """The outputs here and there, on the same noise."""
    width, height = size
    pixels = np.random.default_rng(8).normal(0, 1, (1, 3, height, width)).astype(np.float32)
    asked = [GRAPH, str(path), str(width), str(height)]
    done = subprocess.run(asked, input=pixels.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    ours = {}
    for line in done.stdout.splitlines():
        output = json.loads(line)
        ours[output["name"]] = np.array(output["values"], np.float64).reshape(output["shape"])
    there = session(model)
    names = [output.name for output in there.get_outputs()]
    theirs = dict(zip(names, there.run(None, {there.get_inputs()[0].name: pixels}), strict=True))
    return ours, theirs


def hold_near(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].shape == expected.shape, name
        largest = np.abs(expected).max(initial=1e-12)
        assert np.abs(ours[name] - expected).max(initial=0) <= TOLERANCE * largest, name


def rows(outputs):
    """A row for each object, of all that is said of it."""
    return np.concatenate([output.reshape(output.shape[1], -1) for _, output in sorted(outputs.items())], axis=1)


def hold_near_in_any_order(ours, theirs):
    """Objects are sorted by scores: those that are equally sure, within what is allowed, change places."""
    ours, theirs = rows(ours), rows(theirs)
    assert ours.shape == theirs.shape
    apart = np.abs(ours[:, None] - theirs[None]).max(axis=2)
    assert apart.min(axis=0).max() <= TOLERANCE * np.abs(theirs).max()
    assert apart.min(axis=1).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("name", NETWORKS | REAL)
def test_outputs_are_onnx_runtimes(tmp_path, name):
    model = (NETWORKS | REAL)[name]()
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    *_, height, width = (size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim)
    hold = hold_near_in_any_order if name in SORTED else hold_near
    hold(*both(path, model, (width, height)))
