"""Pose events as they are published on NATS, of all streams that match."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from .both import Both
from .errors import CloudPoseError, ConnectionLost
from .results import PoseEvent

_DEFAULT_TENANT = "default"
# Those of nats-py.
_SCHEMES = ("nats://", "tls://", "ws://", "wss://")
# Events that wait for a slow loop; more wait at nats-py.
_WAITING = 1024
# What nats-py does to connect at first, when a wrong address is to be told soon; and again later, for two minutes.
_AT_FIRST = {"allow_reconnect": False, "max_reconnect_attempts": 1, "reconnect_time_wait": 0.1}
_AGAIN = {"allow_reconnect": True, "max_reconnect_attempts": 60, "reconnect_time_wait": 2}


class Events(Both[PoseEvent]):
    """Events for `for` and `async for`. What comes while nobody listens is not kept; a lost connection is made again, for
    two minutes."""

    def __init__(self, streams: str, nats: str, tenant: str, prefix: str, tls: ssl.SSLContext | None) -> None:
        # It is not shown, since there may be a password in it.
        if not isinstance(nats, str) or not all(server.strip().startswith(_SCHEMES) for server in nats.split(",")):
            raise ValueError("an address of NATS begins with nats:// or tls://; write nats://host:4222")
        self._streams = streams
        self._nats = nats
        self._tenant = tenant
        self._prefix = prefix
        self._tls = tls

    @property
    def subjects(self) -> list[str]:
        """What is listened to. NATS knows wildcards for whole words only: what they let through is looked at again."""
        of = self._prefix if self._tenant == _DEFAULT_TENANT else f"{self._prefix}.tenants.{self._tenant}"
        word = "*" if set(self._streams) & set("*?[") else self._streams
        return [f"{of}.{task}.{word}" for task in ("poses", "classes")]

    async def _items(self) -> AsyncGenerator[PoseEvent, None]:
        try:
            import nats
        except ImportError:
            raise CloudPoseError("events come over NATS: pip install 'cloudpose[nats]'") from None

        came: asyncio.Queue[bytes | CloudPoseError] = asyncio.Queue(_WAITING)

        async def take(message: object) -> None:
            await came.put(message.data)  # type: ignore[attr-defined]

        last: Exception | None = None

        async def failed(error: Exception) -> None:
            nonlocal last
            last = error
            # After others nats-py connects again.
            if "permissions violation" in str(error).lower():
                await came.put(CloudPoseError(f"{self._place} does not let this user listen: {error}"))

        async def closed() -> None:
            await came.put(ConnectionLost(f"{self._place} has gone: NATS cannot be reached"))

        try:
            connection = await nats.connect(self._nats, tls=self._tls, error_cb=failed, closed_cb=closed, **_AT_FIRST)
        except (nats.errors.Error, OSError, asyncio.TimeoutError) as error:
            raise ConnectionLost(self._unreachable(last or error)) from None
        connection.options.update(_AGAIN)
        try:
            for subject in self.subjects:
                await connection.subscribe(subject, cb=take)
            while True:
                said = await came.get()
                if isinstance(said, CloudPoseError):
                    raise said
                event = PoseEvent.read(json.loads(said))
                if fnmatchcase(event.stream, self._streams):
                    yield event
        finally:
            await connection.close()

    @property
    def _place(self) -> str:
        """Where NATS is, without the password that leads there."""
        return f"nats://{urlsplit(self._nats).netloc.rpartition('@')[2]}"

    def _unreachable(self, error: Exception) -> str:
        if "authorization" in str(error).lower():
            return f"{self._place} asks for a user who may listen: nats://listener:PASSWORD@host:4222"
        what = str(error) or "it does not answer"
        return f"{self._place} cannot be reached: {what}. Events come from the NATS server that CloudPose runs on (--nats)"
