"""Videos to pixels and back, by PyAV: `pip install 'cloudpose[video]'`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from .errors import CloudPoseError

if TYPE_CHECKING:
    from .images import Array


def read(path: str | os.PathLike[str]) -> Iterator[Array]:
    """The frames of a video file or its address, upright: uint8, [height, width, 3], RGB."""
    av, np = _libraries()
    try:
        container = av.open(os.fspath(path))
    except av.error.FFmpegError as error:
        raise CloudPoseError(f"{os.fspath(path)} cannot be read: {error}") from error
    with container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            turns = round(getattr(frame, "rotation", 0) / 90)
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def fps(path: str | os.PathLike[str]) -> float:
    """Frames a second, on average."""
    av, _ = _libraries()
    with av.open(os.fspath(path)) as container:
        return float(container.streams.video[0].average_rate or 25)


def write(path: str | os.PathLike[str], pictures: Iterable[Array | bytes | None], fps: float) -> int:
    """Writes an H.264 MP4 of arrays or JPEGs, and says how many there were. `None`, of frames that were dropped, is left out."""
    av, np = _libraries()
    from PIL import Image

    count = 0
    with av.open(os.fspath(path), "w") as container:
        stream: Any = None
        for picture in pictures:
            if picture is None:
                continue
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB") if isinstance(picture, bytes) else picture)
            # 4:2:0 has two rows and columns for each sample of colour.
            pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
            count += 1
        if stream is not None:
            container.mux(stream.encode())
    return count


def _libraries() -> tuple[Any, Any]:
    try:
        import av
        import numpy
    except ImportError:
        raise CloudPoseError("videos need PyAV, NumPy and Pillow: pip install 'cloudpose[video]'") from None
    return av, numpy
