"""The frames of a source, which may block, be asynchronous, or be faster than the server."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import TypeAlias

from .images import ImageLike

Source: TypeAlias = "str | os.PathLike[str] | Iterable[ImageLike] | AsyncIterable[ImageLike]"
"""A video file or its address (needs `cloudpose[video]`), or images one after another."""


def check(source: object) -> None:
    """Raises `TypeError` if it is no source, and says what would be one."""
    if isinstance(source, (bytes, bytearray, memoryview)) or _is_image(source):
        raise TypeError("one image is no stream: use pose(), or a list of images")
    if not isinstance(source, (str, os.PathLike, Iterable, AsyncIterable)):
        kind = type(source).__name__
        raise TypeError(f"a {kind} is no source: give a video's path, or what gives images, such as a generator over a camera's")


def _is_image(source: object) -> bool:
    """Whether it is pixels: NumPy's with up to three dimensions, or one of Pillow's."""
    pixels = getattr(source, "__array_interface__", None)
    return pixels is not None and len(pixels["shape"]) <= 3


class End(Exception):
    """There are no more frames."""


class Raised(Exception):
    """What a source raised. It may be what would end an event loop, such as `SystemExit`: it comes to the caller in here."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


class Feed:
    """One image at a time. Of a source that is read as fast as it gives (`newest`) the newest waits, and older ones are counted."""

    def __init__(self, source: Source, newest: bool) -> None:
        self.superseded = 0
        self._newest = newest
        self._loop = asyncio.get_running_loop()
        self._waiting: list[ImageLike | End | Raised] = []
        self._came = asyncio.Event()
        self._demand = threading.Semaphore(0)
        # Who asked may have been cancelled meanwhile: what comes is for who asks next.
        self._asked = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None
        if isinstance(source, (str, os.PathLike)):
            from .video import read

            source = read(source)
        if isinstance(source, AsyncIterable):
            self._wanted = asyncio.Semaphore(0)
            self._task = asyncio.create_task(self._pump(source))
        else:
            # A thread that waits for a camera must not keep the program from ending.
            reading = threading.Thread(target=self._read, args=(source,), name="cloudpose-source", daemon=True)
            reading.start()

    async def take(self) -> ImageLike:
        """The next image. Raises `End`, or `Raised`, again and again."""
        if not self._waiting and not self._newest and not self._asked:
            self._asked = True
            if self._task is None:
                self._demand.release()
            else:
                self._wanted.release()
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        item = self._waiting[0]
        if isinstance(item, (End, Raised)):
            raise item
        self._asked = False
        del self._waiting[0]
        return item

    def close(self) -> None:
        self._closed = True
        self._demand.release()
        if self._task is not None:
            self._task.cancel()

    def _put(self, item: ImageLike | End | Raised) -> None:
        if self._newest and self._waiting and not isinstance(item, (End, Raised)):
            self._waiting[-1] = item
            self.superseded += 1
        else:
            self._waiting.append(item)
        self._came.set()

    def _read(self, source: Iterable[ImageLike]) -> None:
        ending: End | Raised = End()
        images: Iterator[ImageLike] | None = None
        try:
            images = iter(source)
            while True:
                if not self._newest:
                    self._demand.acquire()
                if self._closed:
                    return
                image = next(images)
                self._loop.call_soon_threadsafe(self._put, image)
        except StopIteration:
            pass
        except RuntimeError as error:
            if self._loop.is_closed():
                return
            ending = Raised(error)
        except BaseException as error:
            ending = Raised(error)
        finally:
            if images is not None and hasattr(images, "close"):
                images.close()
            if not self._closed:
                self._loop.call_soon_threadsafe(self._put, ending)

    async def _pump(self, source: AsyncIterable[ImageLike]) -> None:
        ending: End | Raised = End()
        images = aiter(source)
        try:
            while True:
                if not self._newest:
                    await self._wanted.acquire()
                self._put(await anext(images))
        except StopAsyncIteration:
            pass
        except BaseException as error:
            ending = Raised(error)
        self._put(ending)
