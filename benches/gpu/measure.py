"""Measures everything there is to know about CloudPose on a GPU, and prints it as Markdown.

Parity with TensorFlow's outputs; throughput and latency of batches in float32 and float16, beside ONNX Runtime with
the same network on the same GPU; where the time of a batch goes; frames per second of the whole worker, from JPEG to
pose event. docs/gpu.md says how to build what it runs.

    pip install -r benches/gpu/requirements.txt
    python benches/gpu/measure.py --binary target/release/cloudpose --tests target/gpu-tests/* > gpu.md

`--tests` are the engine's test binaries; without them parity is left out, and the report says so. Without a GPU,
`--device cpu --sizes 1,2 --peer-sizes 1 --runs 2` checks that the script itself works.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ["lightning", "thunder", "multipose"]
PIPELINES = ["fast", "balanced", "accurate"]
# What ours stands beside: ONNX Runtime's float32 is TensorFloat-32, unless told otherwise.
PRECISIONS = {"f32": ["f32", "tf32"], "f16": ["f16"]}
# Height and width of the inputs.
SHAPES = {"lightning": (192, 192), "thunder": (256, 256), "multipose": (256, 256)}


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def lines_of(command: list[str]) -> list[dict]:
    say("  " + " ".join(command))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"failed with status {done.returncode}: {' '.join(command)}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def machine() -> str:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().replace("\n", "; ")
    except (OSError, subprocess.CalledProcessError):
        gpu = "no GPU"
    processor = next(
        (line.split(": ")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    return f"{gpu}; {len(os.sched_getaffinity(0))} cores, {processor}; {datetime.date.today()}"


def parity(tests: list[str], device: str) -> str:
    if not tests:
        return "Parity: not measured (no `--tests`)."
    environment = os.environ | {"CLOUDPOSE_TEST_DEVICE": device, "CARGO_MANIFEST_DIR": str(ROOT / "infer")}
    seen = []
    for binary in tests:
        # Of the library's tests those of this engine; the kernels' suite runs on the host and needs a compiler.
        listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout
        only = ["gpu::tests", "--skip", "kernels"] if "gpu::tests" in listed else []
        command = [binary, *only, "--nocapture", "--test-threads", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            return f"Parity: FAILED.\n\n```\n{done.stdout[-4000:]}{done.stderr[-4000:]}\n```"
        seen += [line for line in done.stdout.splitlines() if "keypoints, off by" in line or "test result" in line]
    return "\n".join(["Parity: holds, in float32 within 1e-3; in float16:", "", *(f"- {line}" for line in seen)])


def peer(model: str, precision: str, batch: int, device: str, runs: int) -> tuple[float, float]:
    """Median milliseconds of a batch in ONNX Runtime, the better of its two layouts of maps: of the network alone, with
    inputs and heads on the GPU; and from inputs on the host to heads on the host, nothing decoded. `precision`: f16,
    f32, or tf32, which keeps 10 bits of each factor."""
    import numpy as np
    import onnxruntime

    import onnx_model

    height, width = SHAPES[model]
    graph = onnx_model.build(model, batch, height, width, precision.removeprefix("t"))
    pixels = np.random.default_rng(1).integers(0, 256, (batch, height, width, 3), np.uint8)

    def median(work) -> float:
        times = []
        for _ in range(min(runs, 20) + runs):
            begun = time.perf_counter()
            work()
            times.append(time.perf_counter() - begun)
        return statistics.median(times[-runs:]) * 1e3

    ways, where = [("CPUExecutionProvider", {})], ("cpu", 0)
    if device.startswith("cuda"):
        onnxruntime.preload_dlls()
        where = ("cuda", int((device + ":0").split(":")[1]))
        # In float16 too it is slower without.
        common = {"device_id": where[1], "use_tf32": str(int(precision != "f32"))}
        ways = [("CUDAExecutionProvider", common | {"prefer_nhwc": nhwc}) for nhwc in ("0", "1")]
    best = (float("inf"), float("inf"))
    for way in ways:
        session = onnxruntime.InferenceSession(graph, providers=[way])
        if session.get_providers()[0] != way[0]:
            sys.exit("ONNX Runtime does not find the GPU; see its messages above")
        binding = session.io_binding()
        binding.bind_ortvalue_input("input", onnxruntime.OrtValue.ortvalue_from_numpy(pixels, *where))
        for output in session.get_outputs():
            binding.bind_output(output.name, *where)
        alone = median(lambda: session.run_with_iobinding(binding))
        whole = median(lambda: session.run(None, {"input": pixels}))
        say(f"  ONNX Runtime {model} {precision} {batch} {way[1]}: {alone:.3f} ms, with copies {whole:.3f} ms")
        best = min(best, (alone, whole))
    return best


def batches(options: argparse.Namespace) -> list[str]:
    rows = [
        "| model | | batch | ms | p99 | frames/s | upload | compute | download | frames/s of compute | ONNX Runtime: "
        "network, with copies (ms) | network | with copies |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in options.models:
        for precision, peers in PRECISIONS.items():
            command = [options.binary, "bench", "batches", "--model", model, "--device", options.device]
            command += ["--precision", precision, "--sizes", options.sizes, "--runs", str(options.runs)]
            for line in lines_of(command):
                share = [f"{100 * line[part] / line['batch_ms']:.0f} %" for part in PARTS]
                ours = (
                    f"| {model} | {precision} | {line['batch']} | {line['batch_ms']:.2f} | {line['batch_p99_ms']:.2f} "
                    f"| {line['frames_per_second']:.0f} | {' | '.join(share)} "
                    f"| {1e3 * line['batch'] / line['compute_ms']:.0f} |"
                )
                if line["batch"] not in options.peer_sizes:
                    rows.append(f"{ours} | | |")
                    continue
                for there in peers:
                    alone, whole = peer(model, there, line["batch"], options.device, options.runs)
                    network, copies = alone / line["compute_ms"], whole / line["batch_ms"]
                    rows.append(f"{ours} {there}: {alone:.2f}, {whole:.2f} | {network:.2f}× | {copies:.2f}× |")
    return rows


PARTS = ["upload_ms", "compute_ms", "download_ms"]


def frames(options: argparse.Namespace) -> list[str]:
    rows = [
        "| model | streams | frames/s | ms | p99 | decode | resize | batch | limited by |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cores = len(os.sched_getaffinity(0))
    for model in options.models + PIPELINES:
        for streams in (16, 64):
            command = [options.binary, "bench", "frames", "--model", model, "--device", options.device]
            command += ["--streams", str(streams), "--seconds", str(options.seconds)]
            (line,) = lines_of(command)
            mean = line["mean_ms"]
            # What the cores would reach if they did nothing but decode and resize.
            most = 1e3 * cores / (mean["decode"] + mean["preprocess"])
            limit = "the cores" if line["frames_per_second"] > 0.8 * most else "the GPU, or the frames sent"
            rows.append(
                f"| {model} | {streams} | {line['frames_per_second']:.0f} | {line['latency_ms']:.1f} "
                f"| {line['latency_p99_ms']:.1f} | {mean['decode']:.2f} | {mean['preprocess']:.2f} "
                f"| {mean['inference']:.1f} | {limit} |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True, help="cloudpose")
    parser.add_argument("--tests", nargs="*", default=[], help="the engine's test binaries")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--models", type=lambda text: text.split(","), default=MODELS, metavar="MODEL,…")
    parser.add_argument("--sizes", default="1,2,4,8,16,32,64", metavar="N,…", help="frames in a batch")
    parser.add_argument("--runs", type=int, default=200, help="batches of each size")
    parser.add_argument("--seconds", type=int, default=10, help="how long each number of streams is measured")
    parser.add_argument(
        "--peer-sizes",
        type=lambda text: [int(size) for size in text.split(",") if size],
        default=[1, 8, 32],
        metavar="N,…",
        help="batches that ONNX Runtime is measured on too; an empty list leaves it out",
    )
    options = parser.parse_args()

    print(f"Measured on {machine()}, by `benches/gpu/measure.py`.\n", flush=True)
    say("parity")
    print(parity(options.tests, options.device) + "\n", flush=True)
    say("batches")
    print("A batch: uploading RGB images of the model's size; network and decoding (compute); poses back.")
    print("ONNX Runtime: the network on inputs that are on the GPU, heads left there; and with inputs from and heads")
    print("to the host, nothing decoded. Ratios are its times over ours: its network over our compute, and whole")
    print("over whole.\n")
    print("\n".join(batches(options)) + "\n", flush=True)
    say("the whole worker")
    print("The whole worker in float16, JPEG to pose event; `batch` is waiting for the GPU and its work.\n")
    print("\n".join(frames(options)))


if __name__ == "__main__":
    main()
