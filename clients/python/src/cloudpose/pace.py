"""How fast frames may follow each other, as the server hints."""

from __future__ import annotations

# When the server has not hinted for so long, frames may follow each other this much closer. Seconds.
_EASE_AFTER = 5.0
_EASE = 0.9


class Pace:
    """Frames follow each other at once until the server hints; `now` is in seconds."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._hinted_at = 0.0
        self._due = 0.0

    def hint(self, fps: float, now: float) -> None:
        self._interval = 1 / fps
        self._hinted_at = now

    def wait(self, now: float) -> float:
        """Seconds until a frame may go out."""
        return max(0.0, self._due - now)

    def sent(self, now: float) -> None:
        if now - self._hinted_at > _EASE_AFTER:
            self._interval *= _EASE
            self._hinted_at = now
        self._due = now + self._interval
