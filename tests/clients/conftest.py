"""A server for programs of our users, on a nats-server for those who listen there."""

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# Has clients that do not go together with ours.
OTHERS = REPOSITORY / "tests/.venv-others/bin/python"
sys.path.append(str(REPOSITORY / "tests/contract"))

from processes import Processes  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """`cloudpose serve` beside a nats-server."""
    with Processes() as processes:
        nats = processes.nats(tmp_path_factory.mktemp("nats"))
        yield processes.gateway("serve", "--device", "cpu", "--nats", nats, nats=nats)


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """`cloudpose serve` that asks for keys. Its `keys` are by scope."""
    keys = tmp_path_factory.mktemp("keys") / "keys.json"
    with Processes() as processes:
        made = {scope: processes.key(scope, keys) for scope in ["photo", "stream"]}
        gateway = processes.gateway("serve", "--device", "cpu", "--keys", keys)
        gateway.keys = made
        yield gateway


@pytest.fixture
def sample():
    return REPOSITORY / "ingest/web/sample.jpg"


@pytest.fixture
def clip():
    """24 frames of 272×480."""
    return REPOSITORY / "video/tests/clips/high_b_frames.mp4"
