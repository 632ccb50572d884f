"""What ONNX Runtime answers for EfficientNet-Lite0 on golden inputs.

    python tests/models/golden.py     writes infer/tests/golden/efficientnet-lite0.json
"""

import json

import numpy as np
import onnxruntime
from efficientnet import REPOSITORY, graph

FOLDER = REPOSITORY / "infer/tests/golden"
PHOTOS = {"demo_f000", "multi_cam01_f000"}


def inputs():
    """The golden inputs of two sizes that are taken: what the files say of them."""
    for model in ["lightning", "thunder"]:
        for row in json.loads((FOLDER / f"{model}.json").read_text()):
            if row["mode"] == "letterbox" and row["name"] in PHOTOS:
                yield row


def logits(row):
    pixels = np.load(FOLDER / row["file"]).reshape(row["shape"]).astype(np.float32).transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(graph(row["shape"][1]).SerializeToString())
    return session.run(None, {"pixels": pixels})[0][0]


def rows():
    for row in inputs():
        kept = {key: row[key] for key in ("name", "mode", "file", "shape")}
        yield kept | {"output_f32": [[float(f"{logit:.6g}") for logit in logits(row)]]}


if __name__ == "__main__":
    (FOLDER / "efficientnet-lite0.json").write_text(json.dumps(list(rows()), separators=(",", ":")))
