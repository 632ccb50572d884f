"""The calls, plain and asynchronous."""

from __future__ import annotations

import asyncio
import ssl as tls
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import httpx

from . import images
from .cameras import AsyncCameras, Cameras
from .connection import Server, unreachable
from .errors import ConnectionLost, Problem
from .events import Events
from .feed import Source, check
from .images import ImageLike, Order
from .jobs import AsyncJobs, Jobs
from .results import Draw, LiveStream, Model, PoseEvent, Want
from .stream import Stream, Terms
from .watch import Watch

# What a server may ask to wait before a call is made again. Seconds.
_LONGEST_PAUSE = 30.0


class _Calls(ABC):
    """What both clients have: streams, which are iterated in both ways, and how calls are written and read."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:60000",
        *,
        key: str | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        """`url` is where the server is, `key` its API key (`cpk_…`) or a token, if it asks for one. A call that the server
        has no room or no time for is made `retries` times more, when the server says. `ssl` is for authorities of your own."""
        if not isinstance(url, str):
            raise TypeError(f"a {type(url).__name__} is no address of a server; write http://host:port")
        # It is not shown, since it may be a key in the wrong place.
        if not url.startswith(("http://", "https://")):
            raise ValueError("an address of a server begins with http:// or https://; write http://host:port")
        self._server = Server(url.rstrip("/"), None if key is None else _trimmed(key), ssl)
        self._retries = retries
        self._open(
            {
                "base_url": self._server.url,
                "headers": self._server.headers,
                "timeout": timeout,
                "verify": True if ssl is None else ssl,
            }
        )

    @abstractmethod
    def _open(self, options: dict[str, Any]) -> None: ...

    def stream(
        self,
        source: Source,
        *,
        want: Want = "pose",
        mode: Literal["live", "complete"] = "complete",
        name: str | None = None,
        model: str | None = None,
        draw: Draw | None = None,
        quality: int | None = None,
        smooth: bool | None = None,
        max_age_ms: int | None = None,
        order: Order = "rgb",
        reconnect_for: float = 60.0,
    ) -> Stream:
        """Sends the frames of a source, and gives them back with what was found.

        `mode="complete"` takes a frame of the source when there is room for it, and has every one worked on;
        `mode="live"` is for cameras: the source is read as fast as it gives, and the newest frame wins.
        Without `model` streams are looked at by the server's fast model, and single photos by its accurate one.
        `want="overlay"` or `"both"` asks for annotated JPEGs. `reconnect_for` seconds are tried to come back when the
        connection is lost.
        """
        query = {
            "stream": name,
            "want": want,
            "mode": mode,
            "model": model,
            "draw": draw,
            "quality": quality,
            "smooth": smooth,
            "max_age_ms": max_age_ms,
        }
        check(source)
        return Stream(self._server, source, Terms(query, mode == "live", order, reconnect_for))

    def watch(
        self,
        stream: str,
        *,
        want: Want = "pose",
        fps: float | None = None,
        draw: Draw | None = None,
        reconnect_for: float = 60.0,
    ) -> Watch:
        """Frames of a stream that somebody else sends, at most `fps` a second."""
        return Watch(self._server, stream, {"want": want, "fps": fps, "draw": draw}, reconnect_for)

    def events(
        self,
        streams: str = "*",
        *,
        nats: str = "nats://127.0.0.1:4222",
        tenant: str = "default",
        prefix: str = "cloudpose",
    ) -> Events:
        """Events of all streams and photos whose name matches (`door-*`), as they are published on NATS: `nats` is its
        address, with user and password if it asks for them, `prefix` what the server's `--nats-prefix` is."""
        return Events(streams, nats, tenant, prefix, self._server.tls)

    def _pauses(self) -> Iterator[float]:
        """Seconds to wait before each further attempt, if the server does not say."""
        yield from (0.5 * 2.0**n for n in range(self._retries))


def _trimmed(key: str) -> str:
    """A key without what is around it, such as the end of its file's line."""
    trimmed = key.strip()
    if not trimmed:
        raise ValueError("the key is empty; leave it out for a server that asks for none")
    if not (trimmed.isascii() and trimmed.isprintable()):
        raise ValueError("the key has characters that no key has; copy it once more")
    return trimmed


def _asked(values: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _upload(image: ImageLike, order: Order, accept: str) -> dict[str, Any]:
    file = images.encode(image, order)
    return {"content": file, "headers": {"Content-Type": images.media_type(file), "Accept": accept}}


def _checked(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    raise Problem.read(response.status_code, response.content)


def _wait(response: httpx.Response, pause: float) -> float:
    said = response.headers.get("Retry-After", "")
    return min(float(said), _LONGEST_PAUSE) if said.isdigit() else pause


# A connection that was kept may be gone by the time it is used again; what was asked over it may have been done all the same.
_GONE = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
# Posts that change nothing, or have a key by which the server knows them again.
_HARMLESS_POSTS = frozenset({"/v1/pose", "/v1/classify", "/v1/jobs"})


def _may_ask_again(error: httpx.TransportError, method: str, path: str) -> bool:
    return isinstance(error, _GONE) and (method == "GET" or path in _HARMLESS_POSTS)


def _lost(url: str, error: httpx.TransportError) -> ConnectionLost:
    if isinstance(error, _GONE):
        return ConnectionLost(f"{url} closed the connection before it answered ({error}); what was asked may be done")
    return unreachable(url, error)


def _full(response: httpx.Response) -> bool:
    return response.status_code in (429, 503, 504)


class Client(_Calls):
    """CloudPose, for plain programs. Threads may share one."""

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    def pose(
        self, image: ImageLike, *, model: str | None = None, min_score: float | None = None, order: Order = "rgb"
    ) -> PoseEvent:
        """Finds the people in one image: the path of a file, what is in one, or pixels."""
        query = {"model": model, "min_score": min_score}
        return PoseEvent.read(self._call("/v1/pose", query, _upload(image, order, "application/json")).json())

    def annotate(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        min_score: float | None = None,
        draw: Draw | None = None,
        quality: int | None = None,
        order: Order = "rgb",
    ) -> bytes:
        """The image as a JPEG with the skeletons drawn on it."""
        query = {"model": model, "min_score": min_score, "draw": draw, "quality": quality}
        return self._call("/v1/pose", query, _upload(image, order, "image/jpeg")).content

    def classify(
        self, image: ImageLike, *, model: str | None = None, top: int | None = None, order: Order = "rgb"
    ) -> PoseEvent:
        """Tells what one image shows, in `classes`."""
        query = {"model": model, "top": top}
        return PoseEvent.read(self._call("/v1/classify", query, _upload(image, order, "application/json")).json())

    def models(self) -> list[Model]:
        """The models that the server's workers serve."""
        return [Model.read(model) for model in self._call("/v1/models", {}).json()["models"]]

    def streams(self) -> list[LiveStream]:
        """The streams that somebody sends now."""
        return [LiveStream.read(stream) for stream in self._call("/v1/streams", {}).json()["streams"]]

    @property
    def jobs(self) -> Jobs:
        """Many images, or videos, that are worked on while nobody waits."""
        return Jobs(self._ask, time.sleep)

    @property
    def cameras(self) -> Cameras:
        """Cameras that the server fetches itself."""
        return Cameras(self._ask)

    def close(self) -> None:
        """Closes the connections that are kept for further calls."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, path: str, query: Mapping[str, object], upload: dict[str, Any] | None = None) -> httpx.Response:
        return self._ask("POST" if upload else "GET", path, query, lambda _: upload or {})

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        options: Callable[[ExitStack], dict[str, Any]] = lambda _: {},
    ) -> httpx.Response:
        """`options` are those of the request, made anew for each attempt; what they open is closed with the stack."""
        pauses, is_first = self._pauses(), True
        while True:
            try:
                with ExitStack() as stack:
                    sent = options(stack)
                    response = self._http.request(method, path, params=_asked(query), **sent)
            except httpx.TransportError as error:
                if is_first and _may_ask_again(error, method, path):
                    is_first = False
                    continue
                raise _lost(self._server.url, error) from None
            pause = next(pauses, None)
            if pause is None or not _full(response):
                return _checked(response)
            time.sleep(_wait(response, pause))


class AsyncClient(_Calls):
    """CloudPose, for asynchronous programs."""

    def _open(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def pose(
        self, image: ImageLike, *, model: str | None = None, min_score: float | None = None, order: Order = "rgb"
    ) -> PoseEvent:
        """Finds the people in one image: the path of a file, what is in one, or pixels."""
        query = {"model": model, "min_score": min_score}
        return PoseEvent.read((await self._send("/v1/pose", query, image, order, "application/json")).json())

    async def annotate(
        self,
        image: ImageLike,
        *,
        model: str | None = None,
        min_score: float | None = None,
        draw: Draw | None = None,
        quality: int | None = None,
        order: Order = "rgb",
    ) -> bytes:
        """The image as a JPEG with the skeletons drawn on it."""
        query = {"model": model, "min_score": min_score, "draw": draw, "quality": quality}
        return (await self._send("/v1/pose", query, image, order, "image/jpeg")).content

    async def classify(
        self, image: ImageLike, *, model: str | None = None, top: int | None = None, order: Order = "rgb"
    ) -> PoseEvent:
        """Tells what one image shows, in `classes`."""
        query = {"model": model, "top": top}
        return PoseEvent.read((await self._send("/v1/classify", query, image, order, "application/json")).json())

    async def models(self) -> list[Model]:
        """The models that the server's workers serve."""
        return [Model.read(model) for model in (await self._call("/v1/models", {})).json()["models"]]

    async def streams(self) -> list[LiveStream]:
        """The streams that somebody sends now."""
        return [LiveStream.read(stream) for stream in (await self._call("/v1/streams", {})).json()["streams"]]

    @property
    def jobs(self) -> AsyncJobs:
        """Many images, or videos, that are worked on while nobody waits."""
        return AsyncJobs(self._ask)

    @property
    def cameras(self) -> AsyncCameras:
        """Cameras that the server fetches itself."""
        return AsyncCameras(self._ask)

    async def close(self) -> None:
        """Closes the connections that are kept for further calls."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _send(
        self, path: str, query: Mapping[str, object], image: ImageLike, order: Order, accept: str
    ) -> httpx.Response:
        return await self._call(path, query, await asyncio.to_thread(_upload, image, order, accept))

    async def _call(self, path: str, query: Mapping[str, object], upload: dict[str, Any] | None = None) -> httpx.Response:
        return await self._ask("POST" if upload else "GET", path, query, lambda _: upload or {})

    async def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        options: Callable[[ExitStack], dict[str, Any]] = lambda _: {},
    ) -> httpx.Response:
        """`options` are those of the request, made anew for each attempt; what they open is closed with the stack."""
        pauses, is_first = self._pauses(), True
        while True:
            try:
                with ExitStack() as stack:
                    sent = options(stack)
                    response = await self._http.request(method, path, params=_asked(query), **sent)
            except httpx.TransportError as error:
                if is_first and _may_ask_again(error, method, path):
                    is_first = False
                    continue
                raise _lost(self._server.url, error) from None
            pause = next(pauses, None)
            if pause is None or not _full(response):
                return _checked(response)
            await asyncio.sleep(_wait(response, pause))
