"""Memory of each role while three times as many frames come as can be worked on, and a Markdown table of it.

A gateway, an infer and an annotate worker run as processes on a nats-server of their own. What they manage is
measured first, with sessions that wait for their results; then live sessions send three times as much for a minute,
and as many connections as the still lane has room for post images beside them.

    make bench-overload
    make bench-overload ARGS="--seconds 20"
"""

import argparse
import asyncio
import itertools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from datetime import date
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

REPOSITORY = Path(__file__).parents[2]
PHOTO = (REPOSITORY / "infer/tests/golden/images/multi_cam01_f000.jpg").read_bytes()
SESSIONS = 24
STILLS = 64


def start(command: list, marker: str) -> tuple[subprocess.Popen, str]:
    """Starts a process, waits for the line of its log that has `marker`, and answers what follows it there."""
    process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if marker in line:
            subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            return process, line.split(marker)[1].strip()
    sys.exit(f"{command[0]} ended before it was ready")


def resident(process: subprocess.Popen) -> float:
    """MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def capacity(url: str, seconds: float) -> float:
    """Frames a second that the roles manage, for sessions that wait."""
    done = 0

    async def session():
        nonlocal done
        async with connect(f"{url}?want=both&mode=complete", max_size=None) as socket:
            async def send():
                while True:
                    await socket.send(PHOTO)

            sending = asyncio.create_task(send())
            async for message in socket:
                if isinstance(message, str) and json.loads(message)["type"] == "result":
                    done += 1
            sending.cancel()

    sessions = [asyncio.create_task(session()) for _ in range(4)]
    await asyncio.sleep(2)
    before = done
    await asyncio.sleep(seconds)
    rate = (done - before) / seconds
    for task in sessions:
        task.cancel()
    await asyncio.gather(*sessions, return_exceptions=True)
    return rate


async def camera(url: str, fps: float, until: float, tally: Counter):
    async with connect(f"{url}?want=both&mode=live", max_size=None) as socket:
        async def hear():
            async for message in socket:
                if isinstance(message, str) and json.loads(message)["type"] == "result":
                    tally["delivered"] += 1

        hearing = asyncio.create_task(hear())
        for number in itertools.count():
            at = began + number / fps if number else (began := time.monotonic())
            await asyncio.sleep(max(0, at - time.monotonic()))
            if time.monotonic() > until:
                break
            await socket.send(PHOTO)
            tally["sent"] += 1
        hearing.cancel()


async def poster(url: str, until: float, tally: Counter):
    def post() -> int:
        request = urllib.request.Request(url, PHOTO, {"content-type": "image/jpeg"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    while time.monotonic() < until:
        status = await asyncio.to_thread(post)
        tally[f"HTTP {status}"] += 1
        if status == 503:
            await asyncio.sleep(1)


async def overload(gateway: str, roles: dict, seconds: int) -> tuple[float, dict, Counter]:
    stream = f"ws://{gateway}/v1/stream"
    manages = await capacity(stream, 5)
    tally, until = Counter(), time.monotonic() + seconds
    load = [asyncio.create_task(camera(stream, 3 * manages / SESSIONS, until, tally)) for _ in range(SESSIONS)]
    load += [asyncio.create_task(poster(f"http://{gateway}/v1/pose", until, tally)) for _ in range(STILLS)]
    samples = {role: [] for role in roles}
    for second in range(seconds):
        await asyncio.sleep(1)
        print(f"\r{second + 1} of {seconds} s ", end="", file=sys.stderr)
        for role, process in roles.items():
            samples[role].append(resident(process))
    for outcome in await asyncio.gather(*load, return_exceptions=True):
        if isinstance(outcome, ConnectionClosed):
            tally["sessions cut off"] += 1
        elif outcome is not None:
            raise outcome
    return manages, samples, tally


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default=REPOSITORY / "target/release/cloudpose")
    arguments.add_argument("--nats-server", default=REPOSITORY / "tests/.venv/bin/nats-server")
    arguments.add_argument("--seconds", type=int, default=60)
    options = arguments.parse_args()
    roles = {}
    with tempfile.TemporaryDirectory() as store:
        try:
            config = REPOSITORY / "deploy/nats/nats-server.conf"
            server = [options.nats_server, "--config", config, "--store_dir", store, "-a", "127.0.0.1", "-p", "-1"]
            roles["nats-server"], address = start(server, "client connections on ")
            nats = ["--nats", f"nats://{address}"]
            ingest = [options.binary, "ingest", *nats, "--listen", "127.0.0.1:0"]
            roles["ingest"], gateway = start(ingest, "listening on http://")
            for role in ["infer", "annotate"]:
                roles[role], _ = start([options.binary, role, *nats], "metrics on ")
            manages, samples, tally = asyncio.run(overload(gateway, roles, options.seconds))
        finally:
            for process in roles.values():
                process.terminate()
            for process in roles.values():
                process.wait(30)
    print(f"\r{date.today()}, {platform.machine()}, {options.seconds} s at {3 * manages:.0f} frames a second, "
          f"where {manages:.0f} are managed, beside {STILLS} connections that post:")
    print(", ".join(f"{what} {count}" for what, count in sorted(tally.items())) + "\n")
    print("| role | after 10 s | at the end | highest |\n|---|---|---|---|")
    for role, mebibytes in samples.items():
        begin, end = statistics.median(mebibytes[8:12]), statistics.median(mebibytes[-3:])
        print(f"| {role} | {begin:.0f} MiB | {end:.0f} MiB | {max(mebibytes):.0f} MiB |")


if __name__ == "__main__":
    main()
