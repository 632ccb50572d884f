"""CloudPose in the ways it can run, as processes; each is started when a test first asks for it."""

import pytest
from processes import Processes
from snapshot import Snapshots


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    """CloudPose apart: a nats-server, a gateway and a worker of each kind."""
    with Processes() as processes:
        nats = processes.nats(tmp_path_factory.mktemp("nats"))
        gateway = processes.gateway("ingest", "--nats", nats, nats=nats)
        gateway.workers = {
            "infer": processes.worker("infer", "--nats", nats, "--device", "cpu"),
            "annotate": processes.worker("annotate", "--nats", nats),
        }
        yield gateway


@pytest.fixture(scope="session")
def alone():
    """`cloudpose serve`."""
    with Processes() as processes:
        yield processes.gateway("serve", "--device", "cpu")


@pytest.fixture(params=["alone", "system"])
def gateway(request):
    """Every way to run, one after the other: clients see the same."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def narrow():
    """`cloudpose serve` with one session, and images of at most 100,000 bytes."""
    with Processes() as processes:
        options = ["--max-sessions", "1", "--max-image-bytes", "100000"]
        yield processes.gateway("serve", "--device", "cpu", *options)


@pytest.fixture(scope="session")
def workless(tmp_path_factory):
    """A gateway on a nats-server without workers: what it puts there stays."""
    with Processes() as processes:
        nats = processes.nats(tmp_path_factory.mktemp("nats"))
        yield processes.gateway("ingest", "--nats", nats, nats=nats)


@pytest.fixture(scope="session")
def snapshots():
    return Snapshots()
