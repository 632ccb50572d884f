"""What can go wrong at the server or on the way to it; all of it is a `CloudPoseError`."""

from __future__ import annotations

import json
from typing import Any


class CloudPoseError(Exception):
    """The server refused something, or cannot be reached."""


class Problem(CloudPoseError):
    """The server's answer to an HTTP call, or to the opening of a WebSocket, that it refuses (RFC 9457)."""

    def __init__(self, status: int, type: str, title: str, detail: str) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.status = status
        """The HTTP status."""
        self.type = type
        """Stable name of the kind of problem, `urn:cloudpose:problem:…`; `about:blank` if something before the server answered."""
        self.title = title
        self.detail = detail
        """What was wrong this time, and what to do."""

    def __reduce__(self) -> tuple[Any, ...]:
        # For pickle, as it goes between processes: else it would call the class with the message alone.
        return type(self), (self.status, self.type, self.title, self.detail)

    @property
    def is_passing(self) -> bool:
        """True if the same call may succeed in a moment."""
        return self.status in (429, 502, 503, 504)

    @staticmethod
    def read(status: int, body: bytes) -> Problem:
        """Reads an answer, whoever has written it."""
        try:
            said = json.loads(body)
            return Problem(status, str(said["type"]), str(said["title"]), str(said.get("detail", "")))
        except (ValueError, KeyError, TypeError, AttributeError):
            return Problem(status, "about:blank", f"HTTP {status}", body[:200].decode("utf-8", "replace"))


class SessionError(CloudPoseError):
    """The server ended a WebSocket, and an equal one would end alike."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        """One of those in docs/websocket.md, such as `bad_query`."""
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message)


class BadCallback(CloudPoseError):
    """What claims to be a callback is none of the server's, or an old one."""


class ConnectionLost(CloudPoseError):
    """The server could not be reached for as long as the client tries."""
