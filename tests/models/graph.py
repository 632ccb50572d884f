"""ONNX graphs, written node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes that are appended, each with one output; weights that are drawn, always the same for a seed."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], {}

    def constant(self, value, name=None, kind=np.float32):
        name = name or f"c{len(self.constants)}"
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.array(value, kind), name)
        return name

    def integers(self, *values):
        return self.constant(values, "i" + "_".join(map(str, values)), np.int64)

    def nodes_of(self, operator, *inputs, outputs=1, **attributes):
        names = [f"x{len(self.nodes)}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, f"{operator}_{len(self.nodes)}", **attributes))
        return names

    def node(self, operator, *inputs, **attributes):
        return self.nodes_of(operator, *inputs, **attributes)[0]

    def drawn(self, *shape, scale):
        return self.constant(self.random.normal(0, scale, shape))

    def conv(self, x, inputs, outputs, window=1, stride=1, groups=1, act="silu", gain=1.3):
        """A convolution with its batch norm folded in, and an activation."""
        fan_in = inputs // groups * window * window
        weight = self.drawn(outputs, inputs // groups, window, window, scale=gain / fan_in**0.5)
        bias = self.drawn(outputs, scale=0.05)
        pads = [window // 2] * 4
        x = self.node(
            "Conv", x, weight, bias, kernel_shape=[window] * 2, strides=[stride] * 2, pads=pads, group=groups
        )
        return self.act(x, act)

    def act(self, x, act):
        match act:
            case None:
                return x
            case "silu":
                return self.node("Mul", x, self.node("Sigmoid", x))
            case "relu":
                return self.node("Relu", x)
            case "relu6":
                return self.node("Clip", x, self.constant(0, "zero"), self.constant(6, "six"))
            case "sigmoid":
                return self.node("Sigmoid", x)
            case "gelu":
                erf = self.node("Erf", self.node("Div", x, self.constant(2**0.5, "root_2")))
                half = self.node("Mul", x, self.constant(0.5, "half"))
                return self.node("Mul", half, self.node("Add", erf, self.constant(1, "one")))

    def linear(self, x, inputs, outputs, bias=True, gain=1.0):
        x = self.node("MatMul", x, self.drawn(inputs, outputs, scale=gain / inputs**0.5))
        return self.node("Add", x, self.drawn(outputs, scale=0.05)) if bias else x

    def concat(self, *xs, axis=1):
        return self.node("Concat", *xs, axis=axis)

    def add(self, a, b):
        return self.node("Add", a, b)

    def reshape(self, x, *shape):
        return self.node("Reshape", x, self.integers(*shape))

    def transpose(self, x, *perm):
        return self.node("Transpose", x, perm=perm)

    def slice(self, x, start, end, axis):
        return self.node("Slice", x, self.integers(start), self.integers(end), self.integers(axis))

    def upsample(self, x, factor=2, mode="nearest"):
        scales = self.constant([1, 1, factor, factor], f"times_{factor}")
        return self.node("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="asymmetric")

    def pool(self, x, window):
        return self.node("MaxPool", x, kernel_shape=[window] * 2, strides=[1, 1], pads=[window // 2] * 4)

    def model(self, name, inputs, outputs, metadata=None):
        """`inputs` and `outputs` are name → shape; an output's name is given to what a node made."""
        given = [helper.make_tensor_value_info(*pair[:1], TensorProto.FLOAT, pair[1]) for pair in inputs.items()]
        made = []
        for output, (x, shape, *kind) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [x], [output]))
            made.append(helper.make_tensor_value_info(output, kind[0] if kind else TensorProto.FLOAT, shape))
        graph = helper.make_graph(self.nodes, name, given, made, list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        if metadata:
            helper.set_model_props(model, metadata)
        onnx.checker.check_model(model)
        return model
