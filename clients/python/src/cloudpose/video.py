"""Videos to pixels and back, by PyAV: `pip install 'cloudpose[video]'`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import CloudPoseError
from .images import is_array

if TYPE_CHECKING:
    from .images import Array


def read(path: str | os.PathLike[str]) -> Iterator[Array]:
    """The frames of a video file or its address, upright: uint8, [height, width, 3], RGB."""
    _, np = _libraries()
    with _opened(path) as stream:
        stream.thread_type = "AUTO"
        for frame in stream.container.decode(stream):
            turns = round(getattr(frame, "rotation", 0) / 90)
            yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))


def fps(path: str | os.PathLike[str]) -> float:
    """Frames a second, on average."""
    with _opened(path) as stream:
        return float(stream.average_rate or 25)


def count(path: str | os.PathLike[str]) -> int:
    """How many frames there are, as the file says; 0 if it does not."""
    with _opened(path) as stream:
        return int(stream.frames)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """The video of a file or address."""
    av, _ = _libraries()
    try:
        with av.open(os.fspath(path)) as container:
            if not container.streams.video:
                raise CloudPoseError(f"{os.fspath(path)} has no video")
            yield container.streams.video[0]
    except FileNotFoundError as error:
        raise FileNotFoundError(error.errno, error.strerror, os.fspath(path)) from None
    except av.error.FFmpegError as error:
        raise CloudPoseError(f"{os.fspath(path)} is no video that can be read: {error}") from error


def write(path: str | os.PathLike[str], pictures: Iterable[Array | bytes | None], fps: float) -> int:
    """Writes an H.264 MP4 of arrays or JPEGs, and says how many there were. `None`, of frames that were dropped, is left out;
    if there is nothing else, a `CloudPoseError` says so."""
    if not fps > 0:
        raise ValueError(f"fps is {fps}; a video has more than 0 frames a second")
    av, np = _libraries()
    from PIL import Image

    # Before the work, rather than when FFmpeg writes the first of it.
    folder = Path(path).absolute().parent
    if not folder.is_dir():
        raise CloudPoseError(f"there is no folder {folder} to write a video to")
    count = 0
    with _created(path, fps) as (container, stream):
        for picture in pictures:
            if picture is None:
                continue
            if not (isinstance(picture, bytes) or is_array(picture)):
                kind = type(picture).__name__
                raise TypeError(f"a {kind} is no picture; write the JPEGs or arrays: (frame.picture for frame in frames)")
            pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB") if isinstance(picture, bytes) else picture)
            # 4:2:0 has two rows and columns for each sample of colour.
            pixels = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
            if count == 0:
                stream.height, stream.width = pixels.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
            count += 1
        if count == 0:
            raise CloudPoseError('there are no pictures to write: ask for some with want="overlay" or want="both"')
        container.mux(stream.encode())
    return count


@contextmanager
def _created(path: str | os.PathLike[str], fps: float) -> Iterator[tuple[Any, Any]]:
    """A new file, and the H.264 in it."""
    av, _ = _libraries()
    with ExitStack() as stack:
        try:
            container = stack.enter_context(av.open(os.fspath(path), "w"))
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        except ValueError as error:
            raise CloudPoseError(f"{os.fspath(path)} cannot hold H.264 ({error}); give it the suffix .mp4") from None
        stream.pix_fmt = "yuv420p"
        yield container, stream


def _libraries() -> tuple[Any, Any]:
    try:
        import av
        import numpy
    except ImportError:
        raise CloudPoseError("videos need PyAV, NumPy and Pillow: pip install 'cloudpose[video]'") from None
    return av, numpy
