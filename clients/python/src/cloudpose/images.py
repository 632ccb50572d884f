"""Images as the server takes them: JPEG, PNG or WebP files."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .errors import CloudPoseError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.uint8]

Order: TypeAlias = Literal["rgb", "bgr"]
"""What the three channels of arrays are. OpenCV has `bgr`."""


class ArrayLike(Protocol):
    """What NumPy can look at: its arrays, and Pillow's images."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


ImageLike: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | ArrayLike"
"""The path of an image file, what is in one, or pixels: uint8, [height, width, 3] or [height, width]."""

# Of a JPEG at this quality keypoints are where they are in the pixels, within what scores tell apart.
_QUALITY = 95


def encode(image: ImageLike, order: Order = "rgb") -> bytes:
    """The image as a file. Pixels become a JPEG where Pillow is installed, and otherwise a PNG, which is larger and slower."""
    if isinstance(image, (str, os.PathLike)):
        return Path(image).read_bytes()
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    pixels = _pixels(image, order)
    try:
        from PIL import Image
    except ImportError:
        return _png(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def decode(image: ImageLike, order: Order = "rgb") -> Array:
    """The image as pixels in that order, of their own. Files are upright, as the server has them."""
    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview)):
        rgb = _pixels(_upright(encode(image)), "rgb")
    else:
        rgb = _pixels(image, order)
    pixels: Array = (rgb if order == "rgb" else rgb[:, :, ::-1]).copy()
    return pixels


def _upright(file: bytes) -> ArrayLike:
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise CloudPoseError("reading image files needs Pillow: pip install 'cloudpose[video]'") from None

    with Image.open(io.BytesIO(file)) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def media_type(file: bytes) -> str:
    """What the file is, by its first bytes. The server says so if it is none of those."""
    if file.startswith(b"\x89PNG"):
        return "image/png"
    if file[:4] == b"RIFF" and file[8:12] == b"WEBP":
        return "image/webp"
    return "image/jpeg"


def is_array(image: object) -> bool:
    """Whether NumPy can look at it."""
    return hasattr(image, "__array_interface__") or hasattr(image, "__array__")


def _pixels(image: ArrayLike, order: Order) -> Array:
    """As [height, width, 3], RGB."""
    if image is None:
        raise TypeError("None is no image; OpenCV's imread gives it for a file that it cannot read")
    if not is_array(image):
        kind = type(image).__name__
        raise TypeError(f"a {kind} is no image: give a path, bytes, or pixels; for many images there is stream()")
    import numpy as np

    if order not in ("rgb", "bgr"):
        raise ValueError(f"order is {order!r}; make it 'rgb', or 'bgr' for OpenCV's pixels")
    pixels: Any = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels are {pixels.dtype}; make them uint8, 0 to 255")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.size == 0:
        raise ValueError(f"pixels have the shape {pixels.shape}; make it [height, width, 3]")
    pixels = pixels[:, :, :3] if order == "rgb" else pixels[:, :, 2::-1]
    result: Array = np.ascontiguousarray(pixels)
    return result


def _png(pixels: Array) -> bytes:
    """PNG (W3C Recommendation, third edition), each row as its difference to what is left of it (filter 1)."""
    import numpy as np

    height, width, _ = pixels.shape
    rows = np.empty((height, 1 + width * 3), np.uint8)
    rows[:, 0] = 1
    rows[:, 1:4] = pixels[:, 0]
    rows[:, 4:] = (pixels[:, 1:] - pixels[:, :-1]).reshape(height, -1)

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
