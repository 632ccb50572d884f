"""What the layers of a network cost on a GPU, and what other ways to compute them would: prints Markdown.

1×1 convolutions: our kernels beside cuBLASLt with bias and ReLU in its epilogue (through PyTorch). 3×3 convolutions of
each channel by itself: our kernel, which sums in float32, beside the same one summing in float16. All layers of a kind
follow one another in a CUDA graph, in float16, from and to memory that the layer before has just written, as in the
network.

    pip install cupy-cuda13x torch numpy safetensors
    python benches/gpu/layers.py
"""

import gzip
import statistics
from functools import partial

import cupy
import numpy as np
import torch
from compile_kernels import KERNELS
from onnx_model import FILES, MODELS, STRIDES
from safetensors.numpy import load_file

SIDES = {"lightning": 192, "thunder": 256, "multipose": 256}
# Rows, columns and stages of the tiles, and when each is taken: infer/src/gpu/ops/pointwise.rs.
TILES = [(128, 64, 1), (128, 32, 1), (128, 64, 3), (128, 32, 3), (64, 32, 3)]
FEW_TILES = 264
THREADS, TILE, LANES = 128, 4, 8
RUNS = 200


def layers(model: str, batch: int):
    """1×1 convolutions as (rows, depth, columns, is added to another map), and depthwise ones as (images, side,
    channels, stride); the backbone's, which are nearly all."""
    weights = load_file(MODELS / FILES[model])
    products, depthwise = [], []
    side = SIDES[model] // 2
    for index, stride in enumerate(STRIDES):
        name = f"backbone.block{index}"
        depth = None
        if index:
            depth, wide = weights[f"{name}.expand.weight"].shape
            products.append((batch * side * side, depth, wide, False))
        wide, narrow = weights[f"{name}.project.weight"].shape
        depthwise.append((batch, side, wide, stride))
        side //= stride
        products.append((batch * side * side, wide, narrow, depth == narrow and stride == 1))
    return products, depthwise


def launch_of(rows: int, depth: int, columns: int, is_added: bool):
    def tiles(tile):
        return -(-rows // tile[0]) * -(-columns // tile[1])

    suits = [
        tile
        for tile in TILES
        if (tile[2] > 1 or depth <= 32) and (tile[1] <= 32 or columns > 32) and tiles(tile) >= FEW_TILES
    ]
    tile = (suits or TILES[-1:])[0]
    name = "pointwise_add" if is_added else "pointwise"
    return f"{name}_{tile[0]}x{tile[1]}x{tile[2]}_f16", tiles(tile)


class Buffers:
    """Two that layers read and write in turns."""

    def __init__(self, largest: int):
        self.pair = [torch.randn(largest, device="cuda").half() for _ in range(2)]
        self.other = torch.randn(largest, device="cuda").half()

    def turn(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.pair.reverse()
        return self.pair[0], self.pair[1]


def milliseconds(ways: dict) -> dict:
    """Median of each way, in turns. A way enqueues its work on the current stream of PyTorch."""
    graphs = {}
    for name, work in ways.items():
        work()
        torch.cuda.synchronize()
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name]):
            work()
    times = {name: [] for name in ways}
    for run in range(RUNS + 20):
        for name, graph in graphs.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            torch.cuda.synchronize()
            if run >= 20:
                times[name].append(begin.elapsed_time(end))
    return {name: statistics.median(each) for name, each in times.items()}


def on_stream(kernel, blocks: int, arguments: list) -> None:
    addresses = [argument.data_ptr() if isinstance(argument, torch.Tensor) else argument for argument in arguments]
    with cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
        kernel((blocks,), (THREADS,), tuple(addresses))


def main() -> None:
    ptx = gzip.decompress((KERNELS / "compute_80.ptx.gz").read_bytes())
    torch.zeros(1, device="cuda")
    cupy.zeros(1)
    module = cupy.cuda.function.Module()
    module.load(ptx)
    sources = [KERNELS / "common.cuh", KERNELS / "layers.cu", KERNELS.parents[3] / "benches/gpu/depthwise_halves.cu"]
    halves = cupy.RawModule(code="".join(path.read_text() for path in sources), options=("-std=c++17",))
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}\n")
    print("| model | batch | 1×1, ours (ms) | cuBLASLt (ms) | | depthwise, ours (ms) | in float16 (ms) | |")
    print("|---|---|---|---|---|---|---|---|")
    for model in ["lightning", "thunder", "multipose"]:
        for batch in (1, 8, 32):
            products, depthwise = layers(model, batch)
            largest = max(
                max(rows * max(depth, columns) for rows, depth, columns, _ in products),
                max(images * side * side * channels for images, side, channels, _ in depthwise),
            )
            buffers = Buffers(largest)
            of_products, of_depthwise = [], []
            for rows, depth, columns, is_added in products:
                weight = torch.randn(columns, depth, device="cuda").half() / depth**0.5
                bias = torch.randn(columns, device="cuda")
                of_products.append((rows, depth, columns, is_added, weight, bias, bias.half()))
            for images, side, channels, stride in depthwise:
                weight = torch.randn(9, channels, device="cuda").half() / 3
                of_depthwise.append((images, side, channels, stride, weight, torch.randn(channels, device="cuda")))

            def ours(of_products=of_products, buffers=buffers):
                for rows, depth, columns, is_added, weight, bias, _ in of_products:
                    map_, out = buffers.turn()
                    kernel, blocks = launch_of(rows, depth, columns, is_added)
                    sizes = [np.uint32(size) for size in (rows, depth, columns)]
                    then = [buffers.other, out, *sizes] if is_added else [out, *sizes, np.float32(0), np.float32(6)]
                    on_stream(module.get_function(kernel), blocks, [map_, weight, bias, *then])

            def theirs(of_products=of_products, buffers=buffers):
                for rows, depth, columns, is_added, weight, _, bias in of_products:
                    map_, out = buffers.turn()
                    map_, out = map_[: rows * depth].view(rows, depth), out[: rows * columns].view(rows, columns)
                    if is_added:
                        other = buffers.other[: rows * columns].view(rows, columns)
                        torch.addmm(other, map_, weight.t(), out=out)
                    else:
                        torch._addmm_activation(bias, map_, weight.t(), use_gelu=False, out=out)

            def in_turns(kernels, of_depthwise=of_depthwise, buffers=buffers):
                for images, side, channels, stride, weight, bias in of_depthwise:
                    map_, out = buffers.turn()
                    across = -(-(side // stride) // TILE)
                    blocks = -(-images * (side // stride) * across * channels // LANES // THREADS)
                    sizes = [np.uint32(size) for size in (images, side, side, channels)]
                    bounds = [np.float32(0), np.float32(6)]
                    on_stream(kernels(stride), blocks, [map_, weight, bias, out, *sizes, *bounds])

            took = milliseconds(
                {
                    "ours": ours,
                    "theirs": theirs,
                    "floats": partial(in_turns, lambda stride: module.get_function(f"depthwise_s{stride}_f16")),
                    "halves": partial(in_turns, lambda stride: halves.get_function(f"depthwise_halves_s{stride}")),
                }
            )
            print(
                f"| {model} | {batch} | {took['ours']:.3f} | {took['theirs']:.3f} | {took['theirs'] / took['ours']:.2f}× "
                f"| {took['floats']:.3f} | {took['halves']:.3f} | {took['floats'] / took['halves']:.2f}× |",
                flush=True,
            )


if __name__ == "__main__":
    main()
