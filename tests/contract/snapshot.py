"""Snapshots: what CloudPose says to others, as files that are compared with what it says now.

What differs from run to run (ids, times, measured values) stands there as a placeholder; everything else, the order
of keys included, is as clients see it. A difference means that what clients see has changed. Where that is meant,

    UPDATE_SNAPSHOTS=1 make contract

writes the files anew. That is a reviewed act: every changed line is a change for somebody's program, and the commit
says why it breaks none of them.
"""

import difflib
import json
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "snapshots"
WIDTH = 118


def pretty(value, indent=0, room=0):
    """JSON with the keys in their order, and on one line what fits; `room` is for what stands around it."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or indent + room + len(line) <= WIDTH:
        return line
    items = value.items() if isinstance(value, dict) else [(None, item) for item in value]
    lines = []
    for key, item in items:
        head = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
        lines.append(" " * (indent + 2) + head + pretty(item, indent + 2, len(head) + 1))
    first, last = "{}" if isinstance(value, dict) else "[]"
    return first + "\n" + ",\n".join(lines) + "\n" + " " * indent + last


class Snapshots:
    def __init__(self):
        self.update = os.environ.get("UPDATE_SNAPSHOTS") == "1"
        self.written = set()

    def read(self, name):
        """The snapshot as it is in its file."""
        return json.loads((FOLDER / f"{name}.json").read_text())

    def check(self, name, value):
        """Holds `value` against the snapshot `name`. Two ways to run that share one are alike in updates too."""
        path, now = FOLDER / f"{name}.json", pretty(value) + "\n"
        if self.update and name not in self.written:
            self.written.add(name)
            path.write_text(now)
        recorded = path.read_text() if path.exists() else ""
        if recorded != now:
            diff = difflib.unified_diff(
                recorded.splitlines(), now.splitlines(), f"snapshots/{path.name}", "now", "", "", 3, ""
            )
            pytest.fail("\n".join(diff), pytrace=False)
