"""The published MoveNet graphs as TFLite files, which LiteRT and OpenVINO both read.

Their weights are the numbers of `models/*.safetensors`, so only what else is in the files is kept here:
`graphs/MODEL.tflite.zz` is the file with its weights zeroed, deflated; `graphs/MODEL.json` says which
tensor, with its dimensions in which order, goes to which byte, and the checksum of the whole.
"""

import hashlib
import json
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
WEIGHTS = {
    "lightning": "movenet-singlepose-lightning",
    "thunder": "movenet-singlepose-thunder",
    "multipose": "movenet-multipose-lightning",
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float16 tensors of a file, by name (format: huggingface.co/docs/safetensors)."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[start:end], "<f2").reshape(entry["shape"])
    return tensors


def tflite(model: str) -> bytes:
    """The graph of a model, whole."""
    tensors = read_safetensors(HERE / "../../models" / f"{WEIGHTS[model]}.safetensors")
    graph = bytearray(zlib.decompress((HERE / f"graphs/{model}.tflite.zz").read_bytes()))
    entry = json.loads((HERE / f"graphs/{model}.json").read_text())
    for offset, name, order in entry["tensors"]:
        weights = np.ascontiguousarray(tensors[name].transpose(order)).tobytes()
        graph[offset : offset + len(weights)] = weights
    if hashlib.sha256(graph).hexdigest() != entry["sha256"]:
        raise SystemExit(f"{model}: the weights in models/ are not those of the published graph")
    return bytes(graph)


def openvino_model(model: str, shape: tuple[int, ...]):
    """The graph of a model as OpenVINO reads it, for inputs of a shape, [1, height, width, 3]."""
    import openvino

    with tempfile.NamedTemporaryFile(suffix=".tflite") as file:
        file.write(tflite(model))
        file.flush()
        graph = openvino.Core().read_model(file.name)
    graph.reshape(list(shape))
    return graph
