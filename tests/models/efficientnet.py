"""EfficientNet-Lite0 as an ONNX graph, written by hand from the weights that CloudPose embeds."""

import json
import struct
from pathlib import Path

import numpy as np
from graph import Graph

REPOSITORY = Path(__file__).parents[2]
WEIGHTS = REPOSITORY / "models/efficientnet-lite0.safetensors"
# Repeats, window, stride of the first block, output channels: table 1 of arXiv:1905.11946.
STAGES = [(1, 3, 1, 16), (2, 3, 2, 24), (2, 5, 2, 40), (3, 3, 2, 80), (3, 5, 1, 112), (4, 5, 2, 192), (1, 3, 1, 320)]


def tensors(path):
    """The tensors of a safetensors file of float16, widened to float32."""
    file = path.read_bytes()
    (length,) = struct.unpack_from("<Q", file)
    header, data = json.loads(file[8 : 8 + length]), file[8 + length :]
    return {
        name: np.frombuffer(data[slice(*entry["data_offsets"])], np.float16).astype(np.float32).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def convolution(g, weights, x, layer, side, window=1, stride=1, by_channel=False):
    """With TensorFlow's `SAME` padding; `side` is the input's."""
    weight, bias = weights[f"{layer}.weight"], weights[f"{layer}.bias"]
    if window == 1:
        weight = weight.T[:, :, None, None]
    elif by_channel:
        weight = weight.transpose(2, 0, 1)[:, None]
    else:
        weight = weight.transpose(3, 2, 0, 1)
    padding = max((-(-side // stride) - 1) * stride + window - side, 0)
    before, after = padding // 2, padding - padding // 2
    return g.node(
        "Conv", x, g.constant(weight), g.constant(bias), kernel_shape=[window] * 2, strides=[stride] * 2,
        group=len(bias) if by_channel else 1, pads=[before, before, after, after],
    )


def graph(side=224):
    """`pixels` `[1, 3, side, side]`, RGB from 0 to 255, to `logits` `[1, 1000]`."""
    g, weights = Graph(), tensors(WEIGHTS)

    def conv(x, *args, **kwargs):
        return convolution(g, weights, x, *args, **kwargs)

    def relu6(x):
        return g.act(x, "relu6")

    x = g.node("Div", g.node("Sub", "pixels", g.constant(127)), g.constant(128))
    x, size = relu6(conv(x, "stem", side, 3, 2)), side // 2
    block, inputs = 0, 32
    for repeats, window, first_stride, outputs in STAGES:
        for repeat in range(repeats):
            stride, name, y = first_stride if repeat == 0 else 1, f"block{block}", x
            if block > 0:
                y = relu6(conv(y, f"{name}.expand", size))
            y = relu6(conv(y, f"{name}.depthwise", size, window, stride, by_channel=True))
            size //= stride
            y = conv(y, f"{name}.project", size)
            x = g.add(x, y) if stride == 1 and inputs == outputs else y
            block, inputs = block + 1, outputs
    x = g.node("Flatten", g.node("GlobalAveragePool", relu6(conv(x, "last", size))))
    x = g.node("Gemm", x, *(g.constant(weights[f"classifier.{part}"]) for part in ("weight", "bias")))
    return g.model("efficientnet-lite0", {"pixels": [1, 3, side, side]}, {"logits": (x, [1, 1000])})
