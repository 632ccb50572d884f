"""Watching a stream that somebody else sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from urllib.parse import quote

from websockets.exceptions import ConnectionClosed

from .both import Both
from .connection import Lost, Retries, Server, ended, unreachable
from .errors import CloudPoseError, ConnectionLost, SessionError
from .results import PoseEvent, Watched


class Watch(Both[Watched]):
    """Frames of one stream, for `for` and `async for`, until nobody sends it any more.

    Who is too slow loses frames, which `Watched.lost` counts. When the connection is lost it is made again.
    """

    def __init__(self, server: Server, stream: str, query: Mapping[str, object], patience: float) -> None:
        self._server = server
        self._stream = stream
        self._query = query
        self._patience = patience
        self._greeted = False

    async def _items(self) -> AsyncGenerator[Watched, None]:
        retries = Retries(self._patience)
        self._greeted = False
        watched = False
        while True:
            here = False
            try:
                async with aclosing(self._connection()) as frames:
                    async for frame in frames:
                        watched = here = True
                        retries.worked()
                        yield frame
            except SessionError as error:
                if error.code != "no_stream" or not watched:
                    raise
                # It was there on this connection, and is over.
                if here:
                    return
                # The server may be back before who sends.
                try:
                    wait = retries.wait(Lost(str(error)))
                except ConnectionLost:
                    return
                await asyncio.sleep(wait)
            except CloudPoseError as error:
                if not self._greeted and isinstance(error, Lost):
                    # A wrong address is told at once.
                    raise unreachable(self._server.url, error) from None
                await asyncio.sleep(retries.wait(error))

    async def _connection(self) -> AsyncGenerator[Watched, None]:
        socket = await self._server.open(f"/v1/streams/{quote(self._stream, safe='')}/watch", self._query)
        self._greeted = True
        error: SessionError | None = None
        why = "the server closed the connection"
        try:
            async for data in socket:
                said = json.loads(data)
                if said["type"] == "error":
                    error = SessionError(said["code"], said["message"])
                if said["type"] != "result":
                    continue
                found = said.get("pose")
                picture = await socket.recv() if said["overlay"] else None
                yield Watched(
                    seq=said["seq"],
                    pose=None if found is None else PoseEvent.read(found),
                    picture=picture if isinstance(picture, bytes) else None,
                    lost=said["lost"],
                )
        except ConnectionClosed as closed:
            why = str(closed)
        finally:
            await socket.close()
        if error is not None and error.code == "no_stream":
            raise error
        raise ended(error, why)
