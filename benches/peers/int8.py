"""What 8-bit weights and activations would do to the poses, and to OpenVINO's time on this machine.

Quantises the published graphs with NNCF (post-training, calibrated on the golden inputs themselves, which
flatters it), runs both precisions in OpenVINO on the golden inputs, and prints a Markdown table: the largest
and the median distance that keypoints of score 0.3 or more move, in percent of the input's side.

    pip install -r benches/peers/requirements.txt nncf==3.4.0
    python benches/peers/int8.py
"""

import json
import logging
import statistics
import time
from pathlib import Path

import nncf
import numpy as np
import openvino as ov

import graphs

GOLDEN = Path(__file__).parent / "../../infer/tests/golden"
OPTIONS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": "1", "INFERENCE_PRECISION_HINT": "f32"}


def runner(graph: ov.Model):
    compiled = ov.Core().compile_model(graph, "CPU", OPTIONS)
    request, output = compiled.create_infer_request(), compiled.output(0)
    return lambda image: np.array(request.infer([image])[output])


def keypoints(row: np.ndarray) -> np.ndarray:
    """[persons, 17, (y, x, score)]"""
    return row.reshape(-1, 17, 3) if row.size == 51 else row.reshape(6, 56)[:, :51].reshape(6, 17, 3)


def moved(expected: np.ndarray, got: np.ndarray) -> list[float]:
    """How far each sure keypoint of each sure person moved; persons are matched by their nearest pose."""
    distances = []
    for person in expected:
        sure = person[:, 2] >= 0.3
        if sure.sum() < 5:
            continue
        candidates = [np.hypot(*(person[sure, :2] - other[sure, :2]).T) for other in got]
        distances += min(candidates, key=lambda d: np.median(d)).tolist()
    return distances


def median_ms(run, image: np.ndarray) -> float:
    times = []
    for _ in range(60):
        begun = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times[10:])


def main():
    nncf.set_log_level(logging.ERROR)
    print("| model | keypoints | moved most | median | beyond 1 % | float32 ms | int8 ms |")
    print("|---|---|---|---|---|---|---|")
    for model in ["lightning", "thunder", "multipose"]:
        rows = json.loads((GOLDEN / f"{model}.json").read_text())
        rows = [row for row in rows if row["shape"][1] == row["shape"][2]]
        images = [np.load(GOLDEN / row["file"]).astype(np.int32) for row in rows]
        graph = graphs.openvino_model(model, images[0].shape)
        exact = runner(graph)
        quantised = runner(nncf.quantize(graph, nncf.Dataset(images), subset_size=len(images)))
        distances = [
            100 * d for image in images for d in moved(keypoints(exact(image)), keypoints(quantised(image)))
        ]
        beyond = sum(d > 1 for d in distances) / len(distances)
        print(
            f"| {model} | {len(distances)} | {max(distances):.1f} % | {statistics.median(distances):.2f} % "
            f"| {100 * beyond:.0f} % | {median_ms(exact, images[0]):.1f} | {median_ms(quantised, images[0]):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
