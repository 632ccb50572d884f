"""A session of `/v1/stream`: frames go out, results come in."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from . import images
from .both import Both
from .connection import HARMLESS, Lost, Retries, Server, ended, unreachable
from .errors import CloudPoseError, SessionError
from .feed import End, Feed, Raised, Source
from .images import ImageLike, Order
from .pace import Pace
from .results import Person, PoseEvent

_log = logging.getLogger("cloudpose")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that is done."""

    number: int
    """Which one of those that were sent, from 1, over all connections: with `mode="complete"` its place in the source."""
    image: ImageLike = field(repr=False)
    """As the source gave it."""
    pose: PoseEvent | None = None
    """What was found; `None` if only pictures were asked for, or the frame was dropped."""
    picture: bytes | None = field(default=None, repr=False)
    """The annotated JPEG, if pictures were asked for."""
    latency_ms: float = 0.0
    """From the frame's arrival at the server until its result left."""
    dropped: str | None = None
    """Why there is no result, one of the reasons in docs/websocket.md. Such frames come with `mode="complete"` only."""
    detail: str = ""
    """In words, of a frame that was dropped."""

    @property
    def persons(self) -> tuple[Person, ...]:
        return () if self.pose is None else self.pose.persons


@dataclass(frozen=True)
class Terms:
    """How a stream is worked on."""

    query: Mapping[str, object]
    live: bool
    order: Order
    patience: float


class Stream(Both[Frame]):
    """Frames with their results, in the order of the source, for `for` and `async for`. Each iteration begins a session.

    As many frames as the server says are on their way at once, of which those count that you have not taken yet. When
    the connection is lost it is made again. Frames that were on their way are then sent again, or with `mode="live"`
    counted as `connection_lost`.
    """

    def __init__(self, server: Server, source: Source, terms: Terms) -> None:
        self.name: str | None = None
        """The stream's name, given or made up by the server; known from the first frame on."""
        self.dropped: Counter[str] = Counter()
        """Frames without a result so far, by reason."""
        self._server = server
        self._source = source
        self._terms = terms

    async def _items(self) -> AsyncGenerator[Frame, None]:
        session = _Session(self, self._server, self._terms, Feed(self._source, newest=self._terms.live))
        ending: BaseException | None = None
        try:
            async with aclosing(session.frames()) as frames:
                async for frame in frames:
                    yield frame
        except Raised as raised:
            ending = raised.error
        finally:
            session.feed.close()
        # Out here what the source raised keeps the cause that it has.
        if ending is not None:
            raise ending


@dataclass(slots=True)
class _Sent:
    number: int
    image: ImageLike
    file: bytes


class _Session:
    """What outlives a connection: the source, and the frames on their way."""

    def __init__(self, stream: Stream, server: Server, terms: Terms, feed: Feed) -> None:
        self.feed = feed
        self._stream = stream
        self._server = server
        self._terms = terms
        self._retries = Retries(terms.patience)
        self._count = 0
        self._again: list[_Sent] = []
        # Taken from the source, and not yet a file when the connection was lost.
        self._image: ImageLike | None = None
        self._failure: Exception | None = None
        self._greeted = False

    async def frames(self) -> AsyncGenerator[Frame, None]:
        while True:
            connection = _Connection(self)
            try:
                async with aclosing(connection.frames()) as frames:
                    async for frame in frames:
                        self._retries.worked()
                        yield frame
                return
            except CloudPoseError as error:
                if not self._greeted and isinstance(error, Lost):
                    # A wrong address is told at once.
                    raise unreachable(self._server.url, error) from None
                for sent in connection.unanswered():
                    if self._terms.live:
                        self._stream.dropped["connection_lost"] += 1
                    else:
                        self._again.append(sent)
                wait = self._retries.wait(error)
                _log.warning("%s; trying again for up to %.0f s", error, self._terms.patience)
                await asyncio.sleep(wait)

    async def following(self) -> _Sent:
        """The next frame to send. Raises `End`, or what went wrong with the source, again and again."""
        if self._again:
            return self._again.pop(0)
        if self._failure is not None:
            raise self._failure
        try:
            if self._image is None:
                self._image = await self.feed.take()
            if self.feed.superseded:
                self._stream.dropped["superseded"] += self.feed.superseded
                self.feed.superseded = 0
            file = await asyncio.to_thread(images.encode, self._image, self._terms.order)
        except Exception as error:
            self._failure = error
            raise
        image, self._image = self._image, None
        self._count += 1
        return _Sent(self._count, image, file)

    async def greet(self) -> tuple[ClientConnection, int]:
        """A connection, and how many frames may be on their way at once."""
        query = {**self._terms.query, "stream": self._stream.name or self._terms.query.get("stream")}
        socket = await self._server.open("/v1/stream", query)
        try:
            said = json.loads(await socket.recv())
            if said["type"] == "error":
                raise ended(SessionError(said["code"], said["message"]), "")
            await socket.send(json.dumps({"type": "configure", "drops": True}))
        except ConnectionClosed as closed:
            raise Lost(str(closed)) from closed
        except BaseException:
            await socket.close()
            raise
        self._greeted = True
        self._stream.name = said["stream"]
        return socket, said["limits"]["window"]

    def ends(self, frame: Frame) -> Frame | None:
        """Counts a frame without a result. Answers what the caller of the stream sees of it."""
        if frame.dropped is not None:
            self._stream.dropped[frame.dropped] += 1
        return None if frame.dropped is not None and self._terms.live else frame


class _Connection:
    """One WebSocket: a task that sends, and one that receives."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._sent: dict[int, _Sent] = {}
        # Those that are done while one before them is not: what was dropped is told at once.
        self._ready: dict[int, Frame] = {}
        # By the credits there is never more in it than frames may be on their way, and the end.
        self._done: asyncio.Queue[Frame | Exception] = asyncio.Queue()
        self._pace = Pace()
        # Why no more frames will come, once that is known.
        self._ending: Exception | None = None

    def unanswered(self) -> list[_Sent]:
        return list(self._sent.values())

    async def frames(self) -> AsyncGenerator[Frame, None]:
        socket, window = await self._session.greet()
        credits = asyncio.Semaphore(window)
        tasks = [
            asyncio.create_task(self._send(socket, credits)),
            asyncio.create_task(self._receive(socket, credits)),
        ]
        try:
            while True:
                item = await self._done.get()
                if isinstance(item, End):
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
                credits.release()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await socket.close()

    async def _send(self, socket: ClientConnection, credits: asyncio.Semaphore) -> None:
        seq = 0
        try:
            while True:
                await credits.acquire()
                await asyncio.sleep(self._pace.wait(time.monotonic()))
                try:
                    sent = await self._session.following()
                except Exception as ending:
                    # What is on its way comes back first.
                    self._ending = ending
                    await socket.send('{"type":"end"}')
                    return
                seq += 1
                self._sent[seq] = sent
                self._pace.sent(time.monotonic())
                await socket.send(sent.file)
        except ConnectionClosed:
            pass  # whoever receives sees it too, and what was said before

    async def _receive(self, socket: ClientConnection, credits: asyncio.Semaphore) -> None:
        error: SessionError | None = None
        before_picture: tuple[int, Frame] | None = None
        bad: str = ""
        try:
            async for data in socket:
                if isinstance(data, bytes):
                    if before_picture is not None:
                        seq, frame = before_picture
                        self._end(seq, replace(frame, picture=data), credits)
                    before_picture = None
                    continue
                said = json.loads(data)
                match said["type"]:
                    case "result":
                        frame = self._result(said)
                        if said["overlay"]:
                            before_picture = said["seq"], frame
                        else:
                            self._end(said["seq"], frame, credits)
                    case "drop":
                        sent = self._sent[said["seq"]]
                        detail = said.get("detail") or bad
                        frame = Frame(sent.number, sent.image, dropped=said["reason"], detail=detail)
                        self._end(said["seq"], frame, credits)
                    case "hint":
                        self._pace.hint(said["fps"], time.monotonic())
                    case "error" if said["code"] in HARMLESS:
                        bad = said["message"]
                    case "error":
                        error = SessionError(said["code"], said["message"])
            why = "the server closed the connection"
        except ConnectionClosed as closed:
            why = str(closed)
        except Exception as broken:
            self._done.put_nowait(broken)
            return
        over = self._ending if not self._sent and error is None else None
        self._done.put_nowait(over or ended(error, why))

    def _end(self, seq: int, frame: Frame, credits: asyncio.Semaphore) -> None:
        """Gives a frame to who takes them, in its turn."""
        self._ready[seq] = frame
        while self._sent and (first := next(iter(self._sent))) in self._ready:
            del self._sent[first]
            shown = self._session.ends(self._ready.pop(first))
            if shown is None:
                credits.release()
            else:
                self._done.put_nowait(shown)

    def _result(self, said: Mapping[str, Any]) -> Frame:
        sent = self._sent[said["seq"]]
        found = said.get("pose")
        pose = None if found is None else PoseEvent.read(found)
        return Frame(sent.number, sent.image, pose=pose, latency_ms=said["latency_ms"])
