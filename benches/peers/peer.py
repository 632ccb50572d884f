"""One runtime as a bench worker: peer.py RUNTIME MODEL THREADS, RUNTIME being one of RUNTIMES below.

Speaks what `cloudpose bench worker --help` describes. One inference copies the input tensor in, runs the
graph and reads the output. `openvino` computes in what OpenVINO takes by itself, which is bfloat16 where the
processor multiplies it, and says on standard error which that is; the others compute in float32. Refuses to measure
a graph that does not answer the golden output.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

import graphs

GOLDEN = Path(__file__).parent / "../../infer/tests/golden"
SIDE = {"lightning": 192, "thunder": 256, "multipose": 256}
WARM_UP = 30


def litert(model: str, image: np.ndarray, threads: int):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=graphs.tflite(model), num_threads=threads)
    input_index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(input_index, image.shape)
    interpreter.allocate_tensors()
    output_index = interpreter.get_output_details()[0]["index"]

    def run():
        interpreter.set_tensor(input_index, image)
        interpreter.invoke()
        return interpreter.get_tensor(output_index)

    return run


def openvino(model: str, image: np.ndarray, threads: int, precision: str | None = None):
    import openvino as ov

    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY"}
    if precision:
        options["INFERENCE_PRECISION_HINT"] = precision
    compiled = ov.Core().compile_model(graphs.openvino_model(model, image.shape), "CPU", options)
    if not precision:
        print("openvino computes in", compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), file=sys.stderr)
    request, output = compiled.create_infer_request(), compiled.output(0)
    return lambda: request.infer([image], share_inputs=True)[output]


def openvino_f32(model: str, image: np.ndarray, threads: int):
    return openvino(model, image, threads, "f32")


# With how far each may be off the golden output. Of bfloat16 it is half of the numbers that must be near: it moves keypoints
# that the model is unsure of anywhere.
RUNTIMES = {"litert": (litert, np.max, 1e-3), "openvino": (openvino, np.median, 0.05), "openvino-f32": (openvino_f32, np.max, 1e-3)}


def main():
    runtime, model, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    rows = json.loads((GOLDEN / f"{model}.json").read_text())
    row = next(row for row in rows if row["shape"][1] == row["shape"][2] == SIDE[model])
    image = np.load(GOLDEN / row["file"]).astype(np.int32)
    start, of, tolerance = RUNTIMES[runtime]
    run = start(model, image, threads)
    # Rows of MultiPose without a person are noise, and come in any order.
    got, want = np.array(run()).reshape(-1)[:51], np.array(row["output_f32"]).reshape(-1)[:51]
    off = of(np.abs(got - want))
    if off > tolerance:
        raise SystemExit(f"{runtime} is off the golden output of {model} by {off}")
    for _ in range(WARM_UP):
        run()
    print("ready", flush=True)
    for line in sys.stdin:
        wall, cpu = [], time.process_time_ns()
        for _ in range(int(line)):
            begun = time.perf_counter_ns()
            run()
            wall.append(time.perf_counter_ns() - begun)
        print(json.dumps({"wall": wall, "cpu": time.process_time_ns() - cpu}), flush=True)


if __name__ == "__main__":
    main()
