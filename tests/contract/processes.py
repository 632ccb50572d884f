"""CloudPose and nats-server as processes, and where they listen."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CLOUDPOSE = os.environ.get("CLOUDPOSE_BIN", REPOSITORY / "target/debug/cloudpose")


class Gateway:
    """Where a gateway listens, and its nats-server if it has one."""

    def __init__(self, address, nats=None):
        self.address = address
        self.http = f"http://{address}"
        self.websocket = f"ws://{address}/v1/stream"
        self.nats = nats


class Processes:
    """Starts processes, and stops all of them when it is left."""

    def __init__(self):
        self.running = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            process.wait(30)

    def start(self, marker, *command):
        """Waits for the line in the process's log that `marker` matches. Answers what its group matched."""
        process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
        self.running.append(process)
        for line in process.stderr:
            if found := re.search(marker, line):
                # It must never wait for us to read.
                subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
                return found[1]
        raise RuntimeError(f"{command[0]} ended with {process.wait()} before it was ready")

    def nats(self, store, config=REPOSITORY / "deploy/nats/nats-server.conf"):
        """A nats-server as it is deployed. Answers its URL."""
        named = os.environ.get("NATS_SERVER") or shutil.which("nats-server")
        server = named or Path(sys.executable).with_name("nats-server")
        where = ["--config", config, "--store_dir", store, "--addr", "127.0.0.1", "--port", "-1"]
        return "nats://" + self.start(r"client connections on (\S+)", server, *where)

    def gateway(self, role, *options, nats=None):
        """`cloudpose serve` or `cloudpose ingest`."""
        listen = ["--listen", "127.0.0.1:0", *options]
        return Gateway(self.start(r"listening on http://(\S+)", CLOUDPOSE, role, *listen), nats)

    @staticmethod
    def key(scopes, file):
        """A new key in the file of a gateway's keys."""
        command = [CLOUDPOSE, "keys", "new", scopes.replace(",", "-"), "--scopes", scopes, "--keys", file]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def worker(self, role, *options):
        """`cloudpose infer` or `cloudpose annotate`. Answers the address of its metrics."""
        return self.start(r"metrics on http://([^/\s]+)", CLOUDPOSE, role, *options)
