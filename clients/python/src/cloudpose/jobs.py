"""Jobs: many images, or a video, that are handed in, and whose results are fetched later."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias

from .results import Draw, PoseEvent, Want

if TYPE_CHECKING:
    import httpx

PathLike: TypeAlias = "str | os.PathLike[str]"

_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
# Bytes of a video that are read at once.
_PIECE = 256 << 10
_VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True, slots=True)
class JobFailure:
    """Why an image or frame has no result."""

    reason: str
    """A word for programs, such as `undecodable`."""
    detail: str


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of an image, or of a frame of a video."""

    item: int
    """Which one, from 1."""
    name: str | None
    at: float | None
    """When the frame is shown, in seconds from the beginning of its video."""
    event: PoseEvent | None
    error: JobFailure | None

    @staticmethod
    def read(said: Mapping[str, Any]) -> JobResult:
        """Reads a line of results."""
        event, error = said.get("event"), said.get("error")
        return JobResult(
            item=said["item"],
            name=said.get("name"),
            at=said.get("at"),
            event=None if event is None else PoseEvent.read(event),
            error=None if error is None else JobFailure(error["reason"], error["detail"]),
        )


CallbackState: TypeAlias = Literal["waiting", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Callback:
    """What has become of calling who waits for a job."""

    state: CallbackState
    tries: int
    last_error: str | None
    next_try_at: int | None
    """In milliseconds since 1970."""

    @staticmethod
    def read(said: Mapping[str, Any]) -> Callback:
        """Reads `callback` of a job."""
        return Callback(said["state"], said["tries"], said["last_error"], said["next_try_at"])


@dataclass(frozen=True, slots=True)
class Job:
    """How far a job is."""

    id: str
    state: str
    """`waiting`, `running` or `done`."""
    items: int
    """Images, or frames as far as they are known."""
    done: int
    failed: int
    callback: Callback | None
    """If it was handed in with one."""
    json: Mapping[str, Any] = field(repr=False, compare=False)
    """As it came."""

    @property
    def is_done(self) -> bool:
        """True if all images or frames have results."""
        return self.state == "done"

    @staticmethod
    def read(said: Mapping[str, Any]) -> Job:
        """Reads the JSON of docs/jobs.md."""
        callback = said.get("callback")
        return Job(
            id=said["id"],
            state=said["state"],
            items=said["items"],
            done=said["done"],
            failed=said["failed"],
            callback=None if callback is None else Callback.read(callback),
            json=said,
        )


class Handing:
    """What is sent to hand a job in: images, or one video. Made anew for each attempt, for files are read as they are sent."""

    def __init__(self, files: PathLike | Iterable[PathLike]) -> None:
        paths = [files] if isinstance(files, (str, os.PathLike)) else list(files)
        for path in paths:
            if not isinstance(path, (str, os.PathLike)):
                raise TypeError(f"a job is made of files, by their paths, not of {type(path).__name__}; pixels go to stream()")
        self.files = [file for path in paths for file in _inside(Path(path))]
        if not self.files:
            raise ValueError(f"there is no image in {', '.join(map(str, paths)) or 'an empty list'}")
        self.is_video = self.files[0].suffix.lower() in _VIDEOS
        if self.is_video and len(self.files) > 1:
            raise ValueError("a video is a job of its own; hand in one at a time, or images")
        # So that a request whose answer was lost can be made again.
        self.key = {"Idempotency-Key": secrets.token_hex(16)}

    def open(self, stack: ExitStack) -> dict[str, Any]:
        """Options of a request. The files are open as long as the stack."""
        opened = [(file, stack.enter_context(file.open("rb"))) for file in self.files]
        if not self.is_video:
            return {"files": [("file", (file.name, reader)) for file, reader in opened], "headers": self.key}
        # What a video is shows when it is looked at.
        return {"content": opened[0][1], "headers": {**self.key, "Content-Type": "video/mp4"}}

    def open_async(self, stack: ExitStack) -> dict[str, Any]:
        """The same for an asynchronous request."""
        options = self.open(stack)
        if self.is_video:
            options["content"] = _pieces(options["content"])
            options["headers"]["Content-Length"] = str(self.files[0].stat().st_size)
        return options


async def _pieces(reader: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(reader.read, _PIECE):
        yield piece


def _inside(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)


def _path(job: Job | str) -> str:
    return f"/v1/jobs/{job if isinstance(job, str) else job.id}"


def _read_lines(response: httpx.Response) -> list[JobResult]:
    return [JobResult.read(json.loads(line)) for line in response.text.splitlines()]


class _Pauses:
    """When to ask again how far a job is."""

    def __init__(self, every: float, timeout: float | None) -> None:
        self._every = every
        self._timeout = timeout
        self._began = time.monotonic()

    def following(self, job: Job) -> float:
        """Seconds. Raises `TimeoutError` when there is no time left."""
        if self._timeout is None:
            return self._every
        left = self._began + self._timeout - time.monotonic()
        if left <= 0:
            what = f"job {job.id} is not done after {self._timeout:g} s: {job.done} of {job.items} are"
            raise TimeoutError(f"{what}. The server goes on with it; wait() can be called again")
        return min(self._every, left)


class Jobs:
    """The jobs of a client."""

    def __init__(self, call: Callable[..., httpx.Response], wait: Callable[[float], None]) -> None:
        self._call = call
        self._wait = wait

    def submit(
        self,
        files: PathLike | Iterable[PathLike],
        *,
        want: Want = "pose",
        model: str | None = None,
        draw: Draw | None = None,
        fps: float | None = None,
        callback: str | None = None,
    ) -> Job:
        """Hands in images, the images of a folder, or one video. Of a video `fps` frames a second are looked at, or all.
        `callback` is an address that is called when the job is done."""
        handing = Handing(files)
        query = {"want": want, "model": model, "draw": draw, "fps": fps, "callback": callback}
        return Job.read(self._call("POST", "/v1/jobs", query, handing.open).json())

    def status(self, job: Job | str) -> Job:
        """How far a job is."""
        return Job.read(self._call("GET", _path(job), {}).json())

    def newest(self, *, callback: CallbackState | None = None) -> list[Job]:
        """The newest jobs, or those whose callback is so: `failed` ones can be sent again."""
        said = self._call("GET", "/v1/jobs", {"callback": callback}).json()
        return [Job.read(job) for job in said["jobs"]]

    def call_again(self, job: Job | str) -> Job:
        """Has a job's callback sent again."""
        return Job.read(self._call("POST", f"{_path(job)}/callback", {}).json())

    def wait(self, job: Job | str, *, every: float = 0.5, timeout: float | None = None) -> Job:
        """Waits until a job is done; asks each `every` seconds. Raises `TimeoutError` if it is not done after `timeout` seconds."""
        pauses = _Pauses(every, timeout)
        while not (told := self.status(job)).is_done:
            self._wait(pauses.following(told))
        return told

    def results(self, job: Job | str) -> Iterator[JobResult]:
        """What became of the images or frames, in their order, up to the first that is not done."""
        after, is_more = 0, True
        while is_more:
            response = self._call("GET", f"{_path(job)}/results", {"after": after})
            lines = _read_lines(response)
            yield from lines
            after, is_more = after + len(lines), bool(lines) and "next" in response.links

    def overlay(self, job: Job | str, item: int) -> bytes:
        """The annotated JPEG of an image or frame, of a job with `want="overlay"` or `"both"`."""
        return self._call("GET", f"{_path(job)}/items/{item}/overlay", {}).content

    def thumbnail(self, job: Job | str, item: int) -> bytes:
        """A JPEG of an image or frame of at most 200×200 pixels."""
        return self._call("GET", f"{_path(job)}/items/{item}/thumbnail", {}).content

    def delete(self, job: Job | str) -> None:
        """Removes a job with all that belongs to it."""
        self._call("DELETE", _path(job), {})


class AsyncJobs:
    """The jobs of an asynchronous client."""

    def __init__(self, call: Callable[..., Awaitable[httpx.Response]]) -> None:
        self._call = call

    async def submit(
        self,
        files: PathLike | Iterable[PathLike],
        *,
        want: Want = "pose",
        model: str | None = None,
        draw: Draw | None = None,
        fps: float | None = None,
        callback: str | None = None,
    ) -> Job:
        """Hands in images, the images of a folder, or one video. Of a video `fps` frames a second are looked at, or all.
        `callback` is an address that is called when the job is done."""
        handing = await asyncio.to_thread(Handing, files)
        query = {"want": want, "model": model, "draw": draw, "fps": fps, "callback": callback}
        return Job.read((await self._call("POST", "/v1/jobs", query, handing.open_async)).json())

    async def status(self, job: Job | str) -> Job:
        """How far a job is."""
        return Job.read((await self._call("GET", _path(job), {})).json())

    async def newest(self, *, callback: CallbackState | None = None) -> list[Job]:
        """The newest jobs, or those whose callback is so: `failed` ones can be sent again."""
        said = (await self._call("GET", "/v1/jobs", {"callback": callback})).json()
        return [Job.read(job) for job in said["jobs"]]

    async def call_again(self, job: Job | str) -> Job:
        """Has a job's callback sent again."""
        return Job.read((await self._call("POST", f"{_path(job)}/callback", {})).json())

    async def wait(self, job: Job | str, *, every: float = 0.5, timeout: float | None = None) -> Job:
        """Waits until a job is done; asks each `every` seconds. Raises `TimeoutError` if it is not done after `timeout` seconds."""
        pauses = _Pauses(every, timeout)
        while not (told := await self.status(job)).is_done:
            await asyncio.sleep(pauses.following(told))
        return told

    async def results(self, job: Job | str) -> AsyncIterator[JobResult]:
        """What became of the images or frames, in their order, up to the first that is not done."""
        after, is_more = 0, True
        while is_more:
            response = await self._call("GET", f"{_path(job)}/results", {"after": after})
            lines = _read_lines(response)
            for line in lines:
                yield line
            after, is_more = after + len(lines), bool(lines) and "next" in response.links

    async def overlay(self, job: Job | str, item: int) -> bytes:
        """The annotated JPEG of an image or frame, of a job with `want="overlay"` or `"both"`."""
        return (await self._call("GET", f"{_path(job)}/items/{item}/overlay", {})).content

    async def thumbnail(self, job: Job | str, item: int) -> bytes:
        """A JPEG of an image or frame of at most 200×200 pixels."""
        return (await self._call("GET", f"{_path(job)}/items/{item}/thumbnail", {})).content

    async def delete(self, job: Job | str) -> None:
        """Removes a job with all that belongs to it."""
        await self._call("DELETE", _path(job), {})
