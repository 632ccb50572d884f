"""The golden logits are what ONNX Runtime answers; the Rust tests hold the engines to them."""

import json

import numpy as np
from golden import FOLDER, inputs, logits


def test_golden_logits_are_onnx_runtimes():
    recorded = json.loads((FOLDER / "efficientnet-lite0.json").read_text())
    given = list(inputs())
    assert [row["file"] for row in recorded] == [row["file"] for row in given]
    for row, expected in zip(given, recorded, strict=True):
        now, then = logits(row), np.array(expected["output_f32"][0])
        assert np.abs(now - then).max() <= 1e-5 * np.abs(then).max()
