"""CloudPose apart: a real nats-server, a gateway and a worker of each kind, as processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CLOUDPOSE = os.environ.get("CLOUDPOSE_BIN", REPOSITORY / "target/debug/cloudpose")


def nats_server():
    named = os.environ.get("NATS_SERVER") or shutil.which("nats-server")
    return named or Path(sys.executable).with_name("nats-server")


def start(command, marker):
    """Starts a process and waits for the line in its log that `marker` matches. Answers both."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(marker, line):
            # It must never wait for us to read.
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            return process, found
    raise RuntimeError(f"{command[0]} ended with {process.wait()} before it was ready")


class System:
    """Where the parts of the running system are."""

    def __init__(self, nats, gateway):
        self.nats = nats
        self.http = f"http://{gateway}"
        self.websocket = f"ws://{gateway}/v1/stream"


@pytest.fixture(scope="session")
def system(tmp_path_factory):
    processes = []

    def run(command, marker):
        process, found = start([str(word) for word in command], marker)
        processes.append(process)
        return found

    config = REPOSITORY / "deploy/nats/nats-server.conf"
    store = tmp_path_factory.mktemp("nats")
    server = [nats_server(), "--config", config, "--store_dir", store, "--addr", "127.0.0.1", "--port", "-1"]
    try:
        nats = "nats://" + run(server, r"client connections on (\S+)")[1]
        gateway = run(
            [CLOUDPOSE, "ingest", "--nats", nats, "--listen", "127.0.0.1:0"], r"listening on http://(\S+)"
        )[1]
        for role in ["infer", "annotate"]:
            run([CLOUDPOSE, role, "--nats", nats], r"metrics on http://")
        yield System(nats, gateway)
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)
