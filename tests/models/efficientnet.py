"""EfficientNet-Lite0 as an ONNX graph, written by hand from the weights that CloudPose embeds."""

import json
import struct
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


class Graph:
    """Nodes that are appended, each with one output."""

    def __init__(self, weights):
        self.weights, self.nodes, self.constants = weights, [], {}

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        return name

    def node(self, operator, *inputs, **attributes):
        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def relu6(self, x):
        return self.node("Clip", x, self.constant("zero", 0), self.constant("six", 6))

    def convolution(self, x, layer, side, window=1, stride=1, by_channel=False):
        """With TensorFlow's `SAME` padding; `side` is the input's."""
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        if window == 1:
            weight = weight.T[:, :, None, None]
        elif by_channel:
            weight = weight.transpose(2, 0, 1)[:, None]
        else:
            weight = weight.transpose(3, 2, 0, 1)
        padding = max((-(-side // stride) - 1) * stride + window - side, 0)
        before, after = padding // 2, padding - padding // 2
        names = [self.constant(f"{layer}.weight", weight), self.constant(f"{layer}.bias", bias)]
        return self.node(
            "Conv", x, *names, kernel_shape=[window] * 2, strides=[stride] * 2, group=len(bias) if by_channel else 1,
            pads=[before, before, after, after],
        )


def graph(side=224):
    """`pixels` `[n, 3, side, side]`, RGB from 0 to 255, to `logits` `[n, 1000]`."""
    g = Graph(tensors(WEIGHTS))
    x = g.node("Sub", "pixels", g.constant("mean", 127))
    x = g.node("Div", x, g.constant("deviation", 128))
    x, size = g.relu6(g.convolution(x, "stem", side, 3, 2)), side // 2
    block, inputs = 0, 32
    for repeats, window, first_stride, outputs in STAGES:
        for repeat in range(repeats):
            stride, name, y = first_stride if repeat == 0 else 1, f"block{block}", x
            if block > 0:
                y = g.relu6(g.convolution(y, f"{name}.expand", size))
            y = g.relu6(g.convolution(y, f"{name}.depthwise", size, window, stride, by_channel=True))
            size //= stride
            y = g.convolution(y, f"{name}.project", size)
            x = g.node("Add", x, y) if stride == 1 and inputs == outputs else y
            block, inputs = block + 1, outputs
    x = g.relu6(g.convolution(x, "last", size))
    x = g.node("Flatten", g.node("GlobalAveragePool", x))
    layer = [g.constant(f"classifier.{part}", g.weights[f"classifier.{part}"]) for part in ("weight", "bias")]
    g.nodes.append(helper.make_node("Gemm", [x, *layer], ["logits"]))
    made = helper.make_graph(
        g.nodes, "efficientnet-lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1000])],
        list(g.constants.values()),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model
