"""Memory of every role for half an hour at 80 % of what they manage, with attacks in between, as Markdown tables.

A nats-server, a gateway and a worker of each role run as processes. What they manage is measured first. Then live streams
send four fifths of it, photos come beside them, and one attack after the other is done to the gateway, each of which must be followed by a
photo that is answered. The first table says how memory went, the second its peak under each attack, beside the chart's limits.

    make soak
    make soak ARGS="--minutes 5 --short"
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import attack

REPOSITORY = attack.REPOSITORY
ATTACKS = [
    attack.webp_canvas, attack.webp_groups, attack.jpeg_scans, attack.long_text, attack.deaf_posts, attack.slow_reader,
    attack.deaf_pings, attack.unfinished, attack.half_heads, attack.half_bodies,
]
STREAMS = 8
EVERY = 5


def limits():
    """MiB that the chart gives each role."""
    values = (REPOSITORY / "deploy/helm/cloudpose/values.yaml").read_text()
    of = lambda section, unit: int(re.search(rf"^{section}:.*?limits: {{ memory: (\d+){unit}", values, re.M | re.S)[1])
    return {
        "ingest": of("gateway", "Mi"), "annotate": of("annotate", "Mi"), "nats-server": 1024 * of("nats", "Gi"),
        "infer": 1024 * int(re.search(r"CLOUDPOSE_INFER_THREADS: \"2\".*?limits: { memory: (\d+)Gi", values, re.S)[1]),
    }


class Role:
    def __init__(self, command, marker):
        # As the images have it.
        environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "131072"}
        self.process = subprocess.Popen([str(w) for w in command], stderr=subprocess.PIPE, text=True, env=environment)
        for line in self.process.stderr:
            if marker in line:
                self.said = line.split(marker)[1].split()[0] if line.split(marker)[1].split() else ""
                break
        else:
            sys.exit(f"{command[0]} ended before it was ready")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def memory(self, name):
        return int(re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def forget_peak(self):
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


class Gateway(attack.Server):
    """One that is attacked by everybody, and not stopped in between."""

    def __init__(self, role):
        host, port = role.said.split(":")
        self.process, self.secure, self.address = role.process, False, (host, int(port))
        self.begun, self.cpu = time.monotonic(), self._cpu()


def loadgen(binary, url, kind, *options):
    folder = tempfile.TemporaryDirectory()
    command = [binary, "loadgen", kind, "--url", url, "-o", folder.name, "--max-send-lag", "1h", *options]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, folder


def result(load):
    process, folder = load
    said = process.communicate()[1]
    try:
        return json.loads(Path(folder.name, "results.json").read_text())["results"][0]["runs"][0]
    except FileNotFoundError:
        sys.exit(f"a load generator found nothing: {said}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default=REPOSITORY / "target/release/cloudpose")
    arguments.add_argument("--nats-server", default=REPOSITORY / "tests/.venv/bin/nats-server")
    arguments.add_argument("--minutes", type=float, default=30)
    arguments.add_argument("--load", type=float, default=0.8, help="of what the roles manage")
    arguments.add_argument("--short", action="store_true", help="smaller attacks")
    options = arguments.parse_args()
    scale = (lambda long, brief: brief) if options.short else (lambda long, brief: long)
    roles, bounds = {}, limits()
    with tempfile.TemporaryDirectory() as store:
        try:
            config = REPOSITORY / "deploy/nats/nats-server.conf"
            nats = [options.nats_server, "--config", config, "--store_dir", store, "-a", "127.0.0.1", "-p", "-1"]
            roles["nats-server"] = Role(nats, "client connections on ")
            nats = ["--nats", f"nats://{roles['nats-server'].said}"]
            ingest = [options.binary, "ingest", *nats, "--listen", "127.0.0.1:0", "--max-sessions", "200"]
            roles["ingest"] = Role(ingest, "listening on http://")
            roles["infer"] = Role([options.binary, "infer", *nats, "--device", "cpu"], "infer: ready")
            roles["annotate"] = Role([options.binary, "annotate", *nats], "metrics on ")
            gateway = Gateway(roles["ingest"])
            url = f"http://{roles['ingest'].said}"
            time.sleep(3)
            asks = ["stream", "--want", "both"]
            manages = result(loadgen(options.binary, url, *asks, "--mode", "complete", "--users", 4, "--fps", 1000,
                                     "--run-time", "20s", "--timeout", "2s"))["streams"]["delivered"] / 20
            fps, seconds = options.load * manages / STREAMS, 60 * options.minutes
            loads = [
                loadgen(options.binary, url, *asks, "--users", STREAMS, "--fps", f"{fps:.3f}", "--run-time", f"{seconds:.0f}s"),
                loadgen(options.binary, url, "http", "--users", 1, "--run-time", f"{seconds:.0f}s"),
            ]
            samples, done = {role: [] for role in roles}, threading.Event()

            def watch():
                while not done.wait(EVERY):
                    for role, process in roles.items():
                        samples[role].append(process.memory("VmRSS"))

            watching = threading.Thread(target=watch)
            watching.start()
            begun, peaks, refused = time.monotonic(), {}, []
            time.sleep(min(120, seconds / 6))
            while time.monotonic() < begun + seconds - 120 * options.minutes / 30:
                for number, what in enumerate(ATTACKS):
                    if time.monotonic() > begun + seconds - 120 * options.minutes / 30:
                        break
                    for role in roles.values():
                        role.forget_peak()
                    _, happened = what(lambda *_: gateway, scale)
                    # What it has taken is still there when the next one begins, and counts for that one too.
                    if (status := gateway.healthy()) != 200:
                        refused.append(f"{what.__name__}: {status}")
                    now = {name: role.memory("VmHWM") for name, role in roles.items()}
                    known = peaks.setdefault(what.__name__, (happened, now))[1]
                    peaks[what.__name__] = happened, {name: max(known[name], now[name]) for name in now}
                    print(f"{time.monotonic() - begun:.0f} s: {what.__name__}: {happened}", file=sys.stderr)
                    time.sleep(5)
            streams, photos = map(result, loads)
            done.set()
            watching.join()
        finally:
            for role in reversed(roles.values()):
                role.process.terminate()
            for role in roles.values():
                role.process.wait(60)
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores: {options.minutes:.0f} minutes at {options.load:.0%} of the "
          f"{manages:.0f} frames a second that are managed, annotated; {streams['streams']['delivered'] / max(1, streams['streams']['due']):.1%} "
          f"of {streams['streams']['due']} frames delivered, {photos['all']['count']} photos, of them failed {photos['all']['failures']}; "
          f"photos after attacks that were not answered: {refused or 'none'}\n")
    print("| role | after 2 minutes | first third | last third | highest | the chart's limit, MiB |\n|---|---|---|---|---|---|")
    for role, mebibytes in samples.items():
        third = len(mebibytes) // 3
        print(f"| {role} | {mebibytes[min(24, third)]:.0f} | {statistics.median(mebibytes[:third]):.0f} | "
              f"{statistics.median(mebibytes[-third:]):.0f} | {max(mebibytes):.0f} | {bounds[role]} |")
    print("\n| attack | what happened | " + " | ".join(roles) + " |\n|---|---|" + "---|" * len(roles))
    for name, (happened, highest) in peaks.items():
        print(f"| {name} | {happened} | " + " | ".join(f"{highest[role]:.0f}" for role in roles) + " |")
    over = [role for role in roles if max([*samples[role], *(highest[role] for _, highest in peaks.values())]) >= bounds[role]]
    if over:
        sys.exit(f"beyond the chart's limits: {', '.join(over)}")


if __name__ == "__main__":
    main()
