"""Pose events as they are published on NATS, of all streams that match."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from fnmatch import fnmatchcase

from .both import Both
from .errors import CloudPoseError
from .results import PoseEvent

_DEFAULT_TENANT = "default"


class Events(Both[PoseEvent]):
    """Events for `for` and `async for`. What comes while nobody listens is not kept; nats-py connects again by itself."""

    def __init__(self, streams: str, nats: str, tenant: str) -> None:
        self._streams = streams
        self._nats = nats
        self._tenant = tenant

    @property
    def subjects(self) -> list[str]:
        """What is listened to. NATS knows wildcards for whole words only: what they let through is looked at again."""
        of = "cloudpose" if self._tenant == _DEFAULT_TENANT else f"cloudpose.tenants.{self._tenant}"
        word = "*" if set(self._streams) & set("*?[") else self._streams
        return [f"{of}.{task}.{word}" for task in ("poses", "classes")]

    async def _items(self) -> AsyncGenerator[PoseEvent, None]:
        try:
            import nats
        except ImportError:
            raise CloudPoseError("events come over NATS: pip install 'cloudpose[nats]'") from None
        import asyncio

        connection = await nats.connect(self._nats)
        try:
            came: asyncio.Queue[bytes] = asyncio.Queue(1024)

            async def take(message: object) -> None:
                await came.put(message.data)  # type: ignore[attr-defined]

            for subject in self.subjects:
                await connection.subscribe(subject, cb=take)
            while True:
                event = PoseEvent.read(json.loads(await came.get()))
                if fnmatchcase(event.stream, self._streams):
                    yield event
        finally:
            await connection.close()
