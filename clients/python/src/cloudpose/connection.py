"""WebSockets of the server, and when to come back to one."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from .errors import CloudPoseError, ConnectionLost, Problem, SessionError

# Nothing was heard for so long, not even a pong: the connection is dead. Seconds.
_SILENCE = 10
# Wait before the first attempt to connect again, doubled each time up to the longest. Seconds.
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 15.0
# After these errors an equal session would fail again.
FATAL = frozenset({"bad_query", "too_large", "unauthorized", "bad_message", "stream_taken"})
# These do not end a session.
HARMLESS = frozenset({"bad_frame"})


@dataclass(frozen=True)
class Server:
    """Where the server is, and how one is let in."""

    url: str
    # Never shown.
    key: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}

    @cached_property
    def _trusted(self) -> ssl.SSLContext | None:
        """Whom a WebSocket believes: the same authorities as HTTP's calls."""
        if not self.url.startswith("https://"):
            return None
        return httpx.create_ssl_context() if self.tls is None else self.tls

    async def open(self, path: str, query: Mapping[str, object]) -> ClientConnection:
        """Opens a WebSocket. Raises a `Problem` or `Lost`."""
        asked = {name: _text(value) for name, value in query.items() if value is not None}
        scheme, host, base, _, _ = urlsplit(self.url)
        url = urlunsplit(("wss" if scheme == "https" else "ws", host, base.rstrip("/") + path, urlencode(asked), ""))
        try:
            return await connect(
                url,
                additional_headers=self.headers,
                ssl=self._trusted,
                max_size=None,
                # Images are compressed as they are.
                compression=None,
                ping_interval=_SILENCE,
                ping_timeout=_SILENCE,
            )
        except InvalidStatus as refused:
            raise Problem.read(refused.response.status_code, bytes(refused.response.body or b"")) from None
        except (OSError, TimeoutError, InvalidHandshake, EOFError) as error:
            raise Lost(str(error) or type(error).__name__) from error


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Lost(CloudPoseError):
    """The connection ended, and another may do better."""


def ended(error: SessionError | None, why: str) -> CloudPoseError:
    """What the end of a connection means, of which the server said `error` before."""
    if error is None:
        return Lost(why)
    return error if error.code in FATAL else Lost(str(error))


def unreachable(url: str, error: Exception) -> ConnectionLost:
    """Nobody answers at `url`."""
    return ConnectionLost(f"{url} cannot be reached: {error}. Is a server running there? `cloudpose serve` starts one.")


class Retries:
    """When to connect again: twice as long after each failure, within `patience` seconds since it last worked."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._attempt = 0
        self._since: float | None = None

    def worked(self) -> None:
        self._attempt = 0
        self._since = None

    def wait(self, error: CloudPoseError, now: float | None = None, chance: float | None = None) -> float:
        """Seconds until the next attempt. Raises what the client shall hear if there is none."""
        if isinstance(error, Problem) and not error.is_passing:
            raise error
        if not isinstance(error, (Lost, Problem)):
            raise error
        now = time.monotonic() if now is None else now
        self._since = now if self._since is None else self._since
        full = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**self._attempt)
        wait = full * (0.5 + (random.random() if chance is None else chance) / 2)
        if now + wait - self._since > self._patience:
            if isinstance(error, Problem):
                raise error
            raise ConnectionLost(f"the server cannot be reached: {error}") from error
        self._attempt += 1
        return wait
