"""Graphs of published architectures with random weights: enough for parity, speed and decoders.

    python tests/models/networks.py FOLDER     writes all of them there

Widths, depths and outputs are those of the projects' files: RTMPose, RTMO and RTMDet of MMPose and MMDetection, YOLOX of
Megvii, YOLO-pose of Ultralytics, ViTPose and HRNet of MMPose.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from graph import Graph
from onnx import TensorProto


def csp_block(g, x, width, next_block):
    """A bottleneck: CSPNeXt's second convolution is a separable 5×5."""
    y = g.conv(x, width, width, 3 if next_block else 1)
    if next_block:
        y = g.conv(g.conv(y, width, width, 5, groups=width), width, width)
    else:
        y = g.conv(y, width, width, 3)
    return y


def csp_layer(g, x, inputs, outputs, blocks, next_block, identity=True):
    middle = outputs // 2
    short, main = g.conv(x, inputs, middle), g.conv(x, inputs, middle)
    for _ in range(blocks):
        y = csp_block(g, main, middle, next_block)
        main = g.add(main, y) if identity else y
    x = g.concat(main, short)
    if next_block:
        gate = g.conv(g.node("GlobalAveragePool", x), 2 * middle, 2 * middle, act=None)
        x = g.node("Mul", x, g.node("HardSigmoid", gate, alpha=1 / 6, beta=0.5))
    return g.conv(x, 2 * middle, outputs)


def spp(g, x, width):
    x = g.conv(x, width, width // 2)
    x = g.concat(x, *(g.pool(x, window) for window in (5, 9, 13)))
    return g.conv(x, 2 * width, width)


def csp_backbone(g, x, width, depth, next_block):
    """CSPDarknet or CSPNeXt: the maps of strides 8, 16 and 32."""
    stem = int(64 * width)
    if next_block:
        x = g.conv(x, 3, stem // 2, 3, 2)
        x = g.conv(g.conv(x, stem // 2, stem // 2, 3), stem // 2, stem, 3)
    else:
        corners = [
            g.node("Slice", x, g.integers(a, b), g.integers(2**31, 2**31), g.integers(2, 3), g.integers(2, 2))
            for b in (0, 1)
            for a in (0, 1)
        ]
        x = g.conv(g.concat(*corners), 12, stem, 3)
    maps, inputs = [], stem
    for stage, (channels, blocks) in enumerate([(128, 3), (256, 6 if next_block else 9), (512, 6 if next_block else 9), (1024, 3)]):
        outputs = int(channels * width)
        x = g.conv(x, inputs, outputs, 3, 2)
        if stage == 3:
            x = spp(g, x, outputs)
        x = csp_layer(g, x, outputs, outputs, max(round(blocks * depth), 1), next_block, stage < 3)
        maps.append(x)
        inputs = outputs
    return maps[1:]


def pafpn(g, maps, width, depth, next_block):
    """The feature pyramid of YOLOX and RTMDet: three maps of as many channels as they had."""
    channels, blocks = [int(c * width) for c in (256, 512, 1024)], max(round(3 * depth), 1)
    tops, x = [], maps[2]
    for level in (1, 0):
        lateral = g.conv(x, channels[level + 1], channels[level])
        tops.append(lateral)
        x = g.concat(g.upsample(lateral), maps[level])
        x = csp_layer(g, x, 2 * channels[level], channels[level], blocks, next_block, False)
    outputs = [x]
    for level in (1, 2):
        down = g.conv(x, channels[level - 1], channels[level - 1], 3, 2)
        x = g.concat(down, tops[2 - level])
        x = csp_layer(g, x, 2 * channels[level - 1], channels[level], blocks, next_block, False)
        outputs.append(x)
    return outputs, channels


def rtmpose(width, depth, batch=1, side=(192, 256)):
    """CSPNeXt, a 7×7 convolution, a gated attention unit, SimCC."""
    g = Graph(1)
    across, down = side
    x = csp_backbone(g, "input", width, depth, True)[-1]
    channels, cells = int(1024 * width), (across // 32) * (down // 32)
    x = g.reshape(g.conv(x, channels, 17, 7, act=None), -1, 17, cells)

    def scale_norm(x, size):
        norm = g.node("ReduceL2", x, axes=[-1], keepdims=1)
        norm = g.node("Clip", g.node("Mul", norm, g.constant(size**-0.5)), g.constant(1e-5, "tiny"))
        return g.node("Mul", g.node("Div", x, norm), g.constant(1, "one"))

    x = g.linear(scale_norm(x, cells), cells, 256, False)
    uv = g.act(g.linear(scale_norm(x, 256), 256, 2 * 512 + 128, False, 1.5), "silu")
    u, v, base = g.nodes_of("Split", uv, g.integers(512, 512, 128), outputs=3, axis=2)
    q, k = (g.add(g.node("Mul", base, g.drawn(128, scale=1)), g.drawn(128, scale=0.1)) for _ in range(2))
    kernel = g.node("MatMul", q, g.transpose(k, 0, 2, 1))
    kernel = g.node("Relu", g.node("Div", kernel, g.constant(128**0.5)))
    kernel = g.node("Mul", kernel, kernel)
    y = g.linear(g.node("Mul", u, g.node("MatMul", kernel, v)), 512, 256, False)
    x = g.add(y, g.node("Mul", x, g.drawn(256, scale=1)))
    outputs = {
        "simcc_x": (g.linear(x, 256, 2 * across, False), [batch, 17, 2 * across]),
        "simcc_y": (g.linear(x, 256, 2 * down, False), [batch, 17, 2 * down]),
    }
    return g.model("rtmpose", {"input": [batch, 3, down, across]}, outputs)


def anchors(g, side, strides, cell=0.0):
    """Corners or middles of all cells, and their strides: `[cells, 2]` and `[cells, 1]`."""
    places, sizes = [], []
    for stride in strides:
        y, x = np.mgrid[: side // stride, : side // stride]
        places.append((np.stack([x, y], -1).reshape(-1, 2) + cell) * stride)
        sizes.append(np.full((places[-1].shape[0], 1), stride))
    return g.constant(np.concatenate(places)), g.constant(np.concatenate(sizes))


def yolox(width, depth, side=416, classes=80):
    """The head's numbers for every cell as Megvii exports them: not decoded. All scores are probabilities."""
    g = Graph(2)
    maps, channels = pafpn(g, csp_backbone(g, "images", width, depth, False), width, depth, False)
    middle, heads = int(256 * width), []
    for x, inputs in zip(maps, channels, strict=True):
        x = g.conv(x, inputs, middle)
        classify = g.conv(g.conv(x, middle, middle, 3), middle, middle, 3)
        regress = g.conv(g.conv(x, middle, middle, 3), middle, middle, 3)
        parts = [
            g.conv(regress, middle, 4, act=None, gain=0.3),
            g.conv(regress, middle, 1, act="sigmoid", gain=0.3),
            g.conv(classify, middle, classes, act="sigmoid", gain=0.3),
        ]
        heads.append(g.reshape(g.concat(*parts), 1, 5 + classes, -1))
    x = g.transpose(g.concat(*heads, axis=2), 0, 2, 1)
    cells = sum((side // stride) ** 2 for stride in (8, 16, 32))
    return g.model("yolox", {"images": [1, 3, side, side]}, {"output": (x, [1, cells, 5 + classes])})


def c2f(g, x, inputs, outputs, blocks, identity):
    middle = outputs // 2
    x = g.conv(x, inputs, 2 * middle)
    parts = g.nodes_of("Split", x, g.integers(middle, middle), outputs=2, axis=1)
    for _ in range(blocks):
        y = g.conv(g.conv(parts[-1], middle, middle, 3), middle, middle, 3)
        parts.append(g.add(parts[-1], y) if identity else y)
    return g.conv(g.concat(*parts), (2 + blocks) * middle, outputs)


def sppf(g, x, width):
    x = g.conv(x, width, width // 2)
    pools = [x]
    for _ in range(3):
        pools.append(g.pool(pools[-1], 5))
    return g.conv(g.concat(*pools), 2 * width, width)


def yolo_pose(side=640, end_to_end=False):
    """YOLOv8n-pose: `[1, 56, cells]`; or as YOLO26 exports it, the best 300: `[1, 300, 57]`."""
    g = Graph(3)
    x, w = g.conv(g.conv("images", 3, 16, 3, 2), 16, 32, 3, 2), [64, 128, 256]
    x = c2f(g, x, 32, 32, 1, True)
    p3 = c2f(g, g.conv(x, 32, w[0], 3, 2), w[0], w[0], 2, True)
    p4 = c2f(g, g.conv(p3, w[0], w[1], 3, 2), w[1], w[1], 2, True)
    p5 = sppf(g, c2f(g, g.conv(p4, w[1], w[2], 3, 2), w[2], w[2], 1, True), w[2])
    n4 = c2f(g, g.concat(g.upsample(p5), p4), w[2] + w[1], w[1], 1, False)
    n3 = c2f(g, g.concat(g.upsample(n4), p3), w[1] + w[0], w[0], 1, False)
    n4 = c2f(g, g.concat(g.conv(n3, w[0], w[0], 3, 2), n4), w[0] + w[1], w[1], 1, False)
    n5 = c2f(g, g.concat(g.conv(n4, w[1], w[1], 3, 2), p5), w[1] + w[2], w[2], 1, False)
    boxes, scores, joints = [], [], []
    for x, inputs in zip((n3, n4, n5), w, strict=True):
        for middle, outputs, into in ((64, 64, boxes), (64, 1, scores), (51, 51, joints)):
            y = g.conv(g.conv(x, inputs, middle, 3), middle, middle, 3)
            into.append(g.reshape(g.conv(y, middle, outputs, act=None), 1, outputs, -1))
    boxes, scores, joints = (g.concat(*parts, axis=2) for parts in (boxes, scores, joints))
    places, strides = anchors(g, side, (8, 16, 32), 0.5)
    places, strides = g.transpose(places, 1, 0), g.transpose(strides, 1, 0)
    # The distances to the edges are expectations over 16 bins.
    bins = g.node("Softmax", g.transpose(g.reshape(boxes, 1, 4, 16, -1), 0, 2, 1, 3), axis=1)
    weight = g.constant(np.arange(16).reshape(1, 16, 1, 1))
    means = g.node("Conv", bins, weight, kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4, dilations=[1, 1])
    edges = g.node("Mul", g.reshape(means, 1, 4, -1), strides)
    before = g.node("Sub", places, g.slice(edges, 0, 2, 1))
    after = g.node("Add", places, g.slice(edges, 2, 4, 1))
    scores = g.act(scores, "sigmoid")
    joints = g.reshape(joints, 1, 17, 3, -1)
    xy = g.node("Mul", g.slice(joints, 0, 2, 2), g.node("Mul", strides, g.constant(2, "two")))
    joints = g.concat(g.add(xy, places), g.act(g.slice(joints, 2, 3, 2), "sigmoid"), axis=2)
    joints, cells = g.reshape(joints, 1, 51, -1), sum((side // stride) ** 2 for stride in (8, 16, 32))
    if not end_to_end:
        middle = g.node("Mul", g.add(before, after), g.constant(0.5, "half"))
        x = g.concat(middle, g.node("Sub", after, before), scores, joints)
        return g.model("yolov8n-pose", {"images": [1, 3, side, side]}, {"output0": (x, [1, 56, cells])})
    x = g.transpose(g.concat(before, after, scores, joints), 0, 2, 1)
    _, best = g.nodes_of("TopK", g.reshape(scores, 1, -1), g.integers(300), outputs=2, axis=1)
    x = g.node("Gather", x, g.reshape(best, 300), axis=1)
    kinds = g.node("Mul", g.slice(x, 4, 5, 2), g.constant(0, "zero"))
    x = g.concat(g.slice(x, 0, 5, 2), kinds, g.slice(x, 5, 56, 2), axis=2)
    return g.model("yolo26n-pose", {"images": [1, 3, side, side]}, {"output0": (x, [1, 300, 57])})


def rtmo(width, depth, side=640):
    """CSPDarknet and a head for each of strides 16 and 32, the best 100 after suppression: `dets`, `keypoints`."""
    g = Graph(4)
    maps, channels = pafpn(g, csp_backbone(g, "input", width, depth, False), width, depth, False)
    boxes, scores, joints = [], [], []
    for x, inputs in zip(maps[1:], channels[1:], strict=True):
        x = g.conv(x, inputs, int(256 * width))
        for outputs, into in ((4, boxes), (1, scores), (51, joints)):
            y = g.conv(g.conv(x, int(256 * width), 128, 3), 128, 128, 3)
            y = g.conv(y, 128, outputs, act=None, gain=0.3)
            into.append(g.transpose(g.reshape(y, 1, outputs, -1), 0, 2, 1))
    boxes, scores, joints = (g.concat(*parts) for parts in (boxes, scores, joints))
    places, strides = anchors(g, side, (16, 32), 0.5)
    middle = g.add(g.node("Mul", g.slice(boxes, 0, 2, 2), strides), places)
    half = g.node("Mul", g.node("Exp", g.slice(boxes, 2, 4, 2)), strides)
    boxes = g.concat(g.node("Sub", middle, half), g.add(middle, half), axis=2)
    scores = g.act(scores, "sigmoid")
    kept = g.node(
        "NonMaxSuppression", boxes, g.transpose(scores, 0, 2, 1), g.integers(100),
        g.constant([0.65], "overlap"), g.constant([0.1], "least"),
    )
    kept = g.reshape(g.slice(kept, 2, 3, 1), -1)
    dets = g.node("Gather", g.concat(boxes, scores, axis=2), kept, axis=1)
    cells = sum((side // stride) ** 2 for stride in (16, 32))
    joints = g.reshape(joints, 1, cells, 17, 3)
    xy = g.node("Mul", g.slice(joints, 0, 2, 3), g.reshape(strides, 1, cells, 1, 1))
    joints = g.concat(g.add(xy, g.reshape(places, 1, cells, 1, 2)), g.act(g.slice(joints, 2, 3, 3), "sigmoid"), axis=3)
    joints = g.node("Gather", joints, kept, axis=1)
    outputs = {"dets": (dets, [1, "n", 5]), "keypoints": (joints, [1, "n", 17, 3])}
    return g.model("rtmo", {"input": [1, 3, side, side]}, outputs)


def detector(width, depth, side=320, classes=80):
    """RTMDet as MMDeploy exports it: `dets` and `labels` after suppression."""
    g = Graph(5)
    maps, channels = pafpn(g, csp_backbone(g, "input", width, depth, True), width, depth, True)
    boxes, scores = [], []
    for x, inputs in zip(maps, channels, strict=True):
        for outputs, into in ((4, boxes), (classes, scores)):
            y = g.conv(g.conv(x, inputs, 96, 3), 96, 96, 3)
            into.append(g.transpose(g.reshape(g.conv(y, 96, outputs, act=None, gain=0.5), 1, outputs, -1), 0, 2, 1))
    boxes, scores = (g.concat(*parts) for parts in (boxes, scores))
    places, strides = anchors(g, side, (8, 16, 32))
    edges = g.node("Mul", g.node("Exp", boxes), strides)
    boxes = g.concat(g.node("Sub", places, g.slice(edges, 0, 2, 2)), g.add(places, g.slice(edges, 2, 4, 2)), axis=2)
    scores = g.act(scores, "sigmoid")
    kept = g.node(
        "NonMaxSuppression", boxes, g.transpose(scores, 0, 2, 1), g.integers(5),
        g.constant([0.6], "overlap"), g.constant([0.05], "least"),
    )
    place, kind = (g.reshape(g.slice(kept, column, column + 1, 1), -1) for column in (2, 1))
    of_kept = g.node("GatherND", scores, g.transpose(g.concat(*(g.reshape(c, 1, -1) for c in (g.slice(kept, 0, 1, 1), place, kind)), axis=0), 1, 0))
    dets = g.concat(g.node("Gather", boxes, place, axis=1), g.reshape(of_kept, 1, -1, 1), axis=2)
    outputs = {"dets": (dets, [1, "n", 5]), "labels": (g.reshape(kind, 1, -1), [1, "n"], TensorProto.INT64)}
    return g.model("rtmdet", {"input": [1, 3, side, side]}, outputs)


def vitpose(width=384, depth=12, heads=12, batch=1):
    """A plain vision transformer on patches of 16 pixels, two deconvolutions, heat maps."""
    g = Graph(6)
    down, across = 16, 12
    weight = g.drawn(width, 3, 16, 16, scale=1 / 768**0.5)
    x = g.node("Conv", "input", weight, g.drawn(width, scale=0.05), kernel_shape=[16, 16], strides=[16, 16])
    x = g.transpose(g.reshape(x, -1, width, down * across), 0, 2, 1)
    x = g.add(x, g.drawn(1, down * across, width, scale=0.1))

    def norm(x):
        return g.node("LayerNormalization", x, g.constant(np.ones(width)), g.constant(np.zeros(width)), axis=-1, epsilon=1e-6)

    size = width // heads
    for _ in range(depth):
        qkv = g.reshape(g.linear(norm(x), width, 3 * width), -1, down * across, 3, heads, size)
        qkv = g.transpose(qkv, 2, 0, 3, 1, 4)
        q, k, v = (g.node("Gather", qkv, g.constant(i, f"index_{i}", np.int64), axis=0) for i in range(3))
        weights = g.node("MatMul", g.node("Mul", q, g.constant(size**-0.5)), g.transpose(k, 0, 1, 3, 2))
        y = g.node("MatMul", g.node("Softmax", weights, axis=-1), v)
        x = g.add(x, g.linear(g.reshape(g.transpose(y, 0, 2, 1, 3), -1, down * across, width), width, width))
        x = g.add(x, g.linear(g.act(g.linear(norm(x), width, 4 * width), "gelu"), 4 * width, width))
    x = g.reshape(g.transpose(norm(x), 0, 2, 1), -1, width, down, across)
    for inputs in (width, 256):
        weight = g.drawn(inputs, 256, 4, 4, scale=1 / (4 * inputs) ** 0.5)
        x = g.node("ConvTranspose", x, weight, kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1])
        x = g.act(x, "relu")
    x = g.conv(x, 256, 17, act=None, gain=0.5)
    return g.model("vitpose", {"input": [batch, 3, 256, 192]}, {"output": (x, [batch, 17, 64, 48])})


def hrnet(width=32, batch=1):
    """HRNet: branches of four resolutions that are fused again and again, heat maps."""
    g = Graph(7)
    relu = "relu"
    x = g.conv(g.conv("input", 3, 64, 3, 2, act=relu), 64, 64, 3, 2, act=relu)
    inputs = 64
    for _ in range(4):
        y = g.conv(g.conv(g.conv(x, inputs, 64, act=relu), 64, 64, 3, act=relu), 64, 256, act=None)
        short = x if inputs == 256 else g.conv(x, inputs, 256, act=None)
        x, inputs = g.act(g.add(y, short), relu), 256
    branches, channels = [x], [256]
    for stage, modules in ((2, 1), (3, 4), (4, 3)):
        wanted = [width * 2**level for level in range(stage)]
        last = branches[-1]
        branches = [
            x if have == want else g.conv(x, have, want, 3, act=relu)
            for x, have, want in zip(branches, channels, wanted)
        ] + [g.conv(last, channels[-1], wanted[-1], 3, 2, act=relu)]
        channels = wanted
        for module in range(modules):
            for level, each in enumerate(channels):
                for _ in range(4):
                    y = g.conv(branches[level], each, each, 3, act=relu, gain=1.0)
                    y = g.conv(y, each, each, 3, act=None, gain=0.2)
                    branches[level] = g.act(g.add(branches[level], y), relu)
            is_last = stage == 4 and module == modules - 1
            fused = []
            for to in range(1 if is_last else stage):
                total = branches[to]
                for level, x in enumerate(branches):
                    if level > to:
                        y = g.upsample(g.conv(x, channels[level], channels[to], act=None, gain=0.3), 2 ** (level - to))
                    elif level < to:
                        y = x
                        for step in range(level, to):
                            final = step == to - 1
                            y = g.conv(y, channels[level], channels[to] if final else channels[level], 3, 2, act=None if final else relu, gain=0.3)
                    else:
                        continue
                    total = g.add(total, y)
                fused.append(g.act(total, relu))
            branches = fused
    x = g.conv(branches[0], width, 17, act=None, gain=0.3)
    return g.model("hrnet", {"input": [batch, 3, 256, 192]}, {"output": (x, [batch, 17, 64, 48])})


NETWORKS = {
    "rtmpose-t": lambda: rtmpose(0.375, 0.167),
    "rtmpose-s": lambda: rtmpose(0.5, 0.33),
    "rtmpose-s-batches": lambda: rtmpose(0.5, 0.33, "batch"),
    "rtmo-s": lambda: rtmo(0.5, 0.33),
    "rtmdet-nano": lambda: detector(0.25, 0.33),
    "yolox-tiny": lambda: yolox(0.375, 0.33),
    "yolov8n-pose": lambda: yolo_pose(),
    "yolo26n-pose": lambda: yolo_pose(end_to_end=True),
    "vitpose-s": lambda: vitpose(),
    "hrnet-w32": lambda: hrnet(),
}

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in NETWORKS.items():
        onnx.save(make(), folder / f"{name}.onnx")
