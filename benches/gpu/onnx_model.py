"""The same network as an ONNX graph, from our weight files: NHWC uint8 in, the heads out, nothing decoded."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

MODELS = pathlib.Path(__file__).resolve().parents[2] / "models"
FILES = {
    "lightning": "movenet-singlepose-lightning.safetensors",
    "thunder": "movenet-singlepose-thunder.safetensors",
    "multipose": "movenet-multipose-lightning.safetensors",
}
STRIDES = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]
# Level, and the backbone block that its lateral convolution reads.
LEVELS = [(4, 9), (3, 5), (2, 2)]
HEADS = ["center", "keypoints", "regression", "offset", "box_scale", "box_offset"]


class Graph:
    def __init__(self, weights: dict[str, np.ndarray], dtype: type):
        self.weights, self.dtype = weights, dtype
        self.nodes, self.constants, self.count = [], [], 0

    def constant(self, array: np.ndarray) -> str:
        self.count += 1
        name = f"c{self.count}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, inputs: list[str], **attributes) -> str:
        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, [f"t{self.count}"], **attributes))
        return f"t{self.count}"

    def conv(self, name: str, x: str, activation: str = "", stride: int = 1) -> str:
        weight = self.weights[f"{name}.weight"]
        group = 1
        if weight.ndim == 2:  # 1×1: [in, out]
            weight = weight.T[:, :, None, None]
        elif weight.ndim == 3:  # depthwise: [3, 3, channels]
            group = weight.shape[2]
            weight = weight.transpose(2, 0, 1)[:, None]
        else:
            weight = weight.transpose(3, 2, 0, 1)
        inputs = [x, self.constant(np.ascontiguousarray(weight).astype(self.dtype))]
        if (bias := self.weights.get(f"{name}.bias")) is not None:
            inputs.append(self.constant(bias.astype(self.dtype)))
        pads = [0] * 4 if weight.shape[2] == 1 else [1] * 4 if stride == 1 else [0, 0, 1, 1]
        y = self.add("Conv", inputs, strides=[stride] * 2, pads=pads, group=group)
        if activation == "relu":
            return self.add("Relu", [y])
        if activation == "relu6":
            bounds = [self.constant(np.array(bound, self.dtype)) for bound in (0, 6)]
            return self.add("Clip", [y, *bounds])
        return y


def build(model: str, batch: int, height: int, width: int, precision: str) -> bytes:
    """A serialised model for inputs of one size; `precision`: f32 or f16."""
    weights = load_file(MODELS / FILES[model])
    dtype = {"f32": np.float32, "f16": np.float16}[precision]
    g = Graph(weights, dtype)
    x = g.add("Cast", ["input"], to=TensorProto.FLOAT)
    mean, scale, shift = (weights[f"input.{name}"].astype(np.float32) for name in ("mean", "scale", "shift"))
    x = g.add("Sub", [g.add("Mul", [g.add("Sub", [x, g.constant(mean)]), g.constant(scale)]), g.constant(shift)])
    x = g.add("Cast", [x], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    x = g.add("Transpose", [x], perm=[0, 3, 1, 2])
    x = g.conv("backbone.stem", x, "relu6", 2)
    outputs = []
    for index, stride in enumerate(STRIDES):
        name = f"backbone.block{index}"
        y = g.conv(f"{name}.expand", x, "relu6") if index else x
        y = g.conv(f"{name}.project", g.conv(f"{name}.depthwise", y, "relu6", stride))
        residual = weights[f"{name}.project.weight"].shape[1] == (
            weights[f"{name}.expand.weight"].shape[0] if index else -1
        )
        x = g.add("Add", [x, y]) if residual and stride == 1 else y
        outputs.append(x)
    x = g.conv("fpn.lateral5", g.conv("backbone.last", x, "relu6"))
    scales = g.constant(np.array([1, 1, 2, 2], np.float32))
    for level, block in LEVELS:
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        x = g.add("Add", [g.add("Resize", [x, "", scales], **how), g.conv(f"fpn.lateral{level}", outputs[block])])
        x = g.conv(f"fpn.merge{level}.pointwise", g.conv(f"fpn.merge{level}.depthwise", x), "relu")
    heads = []
    for head in HEADS:
        name = f"heads.{head}"
        if f"{name}.out.weight" not in weights:
            continue
        y = g.conv(f"{name}.out", g.conv(f"{name}.hidden", g.conv(f"{name}.depthwise", x), "relu"))
        y = g.add("Cast", [g.add("Transpose", [y], perm=[0, 2, 3, 1])], to=TensorProto.FLOAT)
        g.nodes.append(helper.make_node("Identity", [y], [head]))
        heads.append(helper.make_tensor_value_info(head, TensorProto.FLOAT, None))
    inputs = [helper.make_tensor_value_info("input", TensorProto.UINT8, [batch, height, width, 3])]
    graph = helper.make_graph(g.nodes, model, inputs, heads, g.constants)
    opset = helper.make_opsetid("", 19)
    return helper.make_model(graph, opset_imports=[opset], ir_version=9).SerializeToString()
