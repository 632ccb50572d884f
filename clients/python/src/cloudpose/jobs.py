"""Jobs: many images, whose results are fetched later."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from . import images
from .images import ImageLike, Order
from .results import PoseEvent

CallbackState: TypeAlias = Literal["waiting", "delivered", "failed"]


@dataclass(frozen=True, slots=True)
class Callback:
    """What has become of calling who waits for a job."""

    state: CallbackState
    tries: int
    last_error: str | None
    next_try_at: int | None
    """In milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Job:
    """How far a job is."""

    id: str
    state: Literal["waiting", "running", "done"]
    items: int
    done: int
    """Images that have a result, good or bad."""
    failed: int
    callback: Callback | None
    json: Mapping[str, Any] = field(repr=False, compare=False)
    """What the server said."""

    @staticmethod
    def read(said: Mapping[str, Any]) -> Job:
        """Reads an answer of `GET /v1/jobs/{id}`, or the `data` of a callback."""
        names = Callback.__dataclass_fields__
        callback = said.get("callback")
        return Job(
            id=said["id"],
            state=said["state"],
            items=said["items"],
            done=said["done"],
            failed=said["failed"],
            callback=callback and Callback(**{name: callback[name] for name in names}),
            json=said,
        )


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of an image of a job."""

    item: int
    """Which, from 1."""
    name: str | None
    event: PoseEvent | None
    """What was found; `None` if nothing could be."""
    error: str | None
    """Why not."""

    @staticmethod
    def read(line: str) -> JobResult:
        """Reads a line of `GET /v1/jobs/{id}/results`."""
        said = json.loads(line)
        event, error = said.get("event"), said.get("error")
        return JobResult(
            item=said["item"],
            name=said.get("name"),
            event=None if event is None else PoseEvent.read(event),
            error=error and f"{error['reason']}: {error['detail']}",
        )


def form(handed: Iterable[ImageLike], order: Order) -> dict[str, Any]:
    """A request that hands images in, and that is the same job however often it is sent."""
    files = []
    for number, image in enumerate(handed, 1):
        path = os.path.basename(image) if isinstance(image, (str, os.PathLike)) else str(number)
        file = images.encode(image, order)
        files.append(("file", (str(path), file, images.media_type(file))))
    if not files:
        raise ValueError("a job has one image at least")
    return {"files": files, "headers": {"Idempotency-Key": uuid.uuid4().hex}}
