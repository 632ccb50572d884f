"""Cameras that the server fetches itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

from .results import Want

if TYPE_CHECKING:
    import httpx

CameraState: TypeAlias = Literal["connecting", "live", "waiting", "error"]


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera, and how it is doing."""

    stream: str
    """The stream that its frames are of, which others watch."""
    url: str
    """Its address, without password."""
    model: str
    fps: float | None
    """At most so many frames a second are worked on; all if `None`."""
    want: Want
    """What is made of each frame though nobody watches."""
    state: CameraState
    """`waiting` if it has gone and is tried again, `error` if somebody has to do something."""
    since: datetime
    """Since when it is in that state."""
    received_fps: float
    """Frames that it sends a second, of late."""
    error: str | None
    """What was wrong lately, in words."""
    is_fixed: bool
    """True if it is from the server's command line, and only that changes it."""
    json: Mapping[str, Any] = field(repr=False, compare=False)
    """As it came."""

    @staticmethod
    def read(said: Mapping[str, Any]) -> Camera:
        """Reads the JSON of docs/cameras.md."""
        return Camera(
            stream=said["stream"],
            url=said["url"],
            model=said["model"],
            fps=said.get("fps"),
            want=said["want"],
            state=said["state"],
            since=datetime.fromtimestamp(said["since"] / 1000, timezone.utc),
            received_fps=said["received_fps"],
            error=said.get("error"),
            is_fixed=said.get("fixed", False),
            json=said,
        )


def _path(camera: Camera | str) -> str:
    return f"/v1/cameras/{quote(camera if isinstance(camera, str) else camera.stream, safe='')}"


def _body(**given: object) -> Callable[[object], dict[str, Any]]:
    """Options of a request. What is `None` is not said; `fps="all"` is said as the server has it."""
    body = {name: value for name, value in given.items() if value is not None}
    if given["fps"] == "all":
        body["fps"] = None
    return lambda _: {"json": body}


class Cameras:
    """The cameras of a client's tenant."""

    def __init__(self, call: Callable[..., httpx.Response]) -> None:
        self._call = call

    def add(
        self, stream: str, url: str, *, model: str | None = None, fps: float | None = None, want: Want = "pose"
    ) -> Camera:
        """Has the server fetch a camera from now on: `rtsp://`, `http://` or `https://`, with user and password if it asks
        for them. At most `fps` frames a second are worked on, or all."""
        body = _body(stream=stream, url=url, model=model, fps=fps, want=want)
        return Camera.read(self._call("POST", "/v1/cameras", {}, body).json())

    def list(self) -> tuple[Camera, ...]:
        """All cameras, by the names of their streams."""
        return tuple(Camera.read(camera) for camera in self._call("GET", "/v1/cameras", {}).json()["cameras"])

    def status(self, camera: Camera | str) -> Camera:
        """How a camera is doing."""
        return Camera.read(self._call("GET", _path(camera), {}).json())

    def change(
        self,
        camera: Camera | str,
        *,
        url: str | None = None,
        model: str | None = None,
        fps: float | Literal["all"] | None = None,
        want: Want | None = None,
    ) -> Camera:
        """Changes a camera from its next frame on. What is not given stays; `fps="all"` sets no bound. A `url` is given whole,
        with its password."""
        body = _body(url=url, model=model, fps=fps, want=want)
        return Camera.read(self._call("PATCH", _path(camera), {}, body).json())

    def delete(self, camera: Camera | str) -> None:
        """Has the server fetch a camera no more."""
        self._call("DELETE", _path(camera), {})


class AsyncCameras:
    """The cameras of an asynchronous client's tenant."""

    def __init__(self, call: Callable[..., Awaitable[httpx.Response]]) -> None:
        self._call = call

    async def add(
        self, stream: str, url: str, *, model: str | None = None, fps: float | None = None, want: Want = "pose"
    ) -> Camera:
        """Has the server fetch a camera from now on: `rtsp://`, `http://` or `https://`, with user and password if it asks
        for them. At most `fps` frames a second are worked on, or all."""
        body = _body(stream=stream, url=url, model=model, fps=fps, want=want)
        return Camera.read((await self._call("POST", "/v1/cameras", {}, body)).json())

    async def list(self) -> tuple[Camera, ...]:
        """All cameras, by the names of their streams."""
        return tuple(Camera.read(camera) for camera in (await self._call("GET", "/v1/cameras", {})).json()["cameras"])

    async def status(self, camera: Camera | str) -> Camera:
        """How a camera is doing."""
        return Camera.read((await self._call("GET", _path(camera), {})).json())

    async def change(
        self,
        camera: Camera | str,
        *,
        url: str | None = None,
        model: str | None = None,
        fps: float | Literal["all"] | None = None,
        want: Want | None = None,
    ) -> Camera:
        """Changes a camera from its next frame on. What is not given stays; `fps="all"` sets no bound. A `url` is given whole,
        with its password."""
        body = _body(url=url, model=model, fps=fps, want=want)
        return Camera.read((await self._call("PATCH", _path(camera), {}, body)).json())

    async def delete(self, camera: Camera | str) -> None:
        """Has the server fetch a camera no more."""
        await self._call("DELETE", _path(camera), {})
