"""What those who watch a stream cost the process that serves it, and a Markdown table of it.

One client sends photos to a `cloudpose serve` of its own at a rate that it can work on; then, in turns, one and 24 watch. What
the process takes of the processor is counted by the system, apart for itself (user) and for the network (system).

    tests/.venv/bin/python benches/watching/cost.py --binary target/release/cloudpose
"""

import argparse
import asyncio
import multiprocessing
import os
import statistics
import subprocess
import time
from pathlib import Path

from websockets.asyncio.client import connect

REPOSITORY = Path(__file__).parents[2]
PHOTO = (REPOSITORY / "ingest/web/sample.jpg").read_bytes()
TICK = os.sysconf("SC_CLK_TCK")


def taken(pid):
    """Seconds of the processor, of the process itself and of the system for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return [int(fields[at]) / TICK for at in (11, 12)]


def sends(url, rate, sent):
    async def send():
        async with connect(f"{url}/v1/stream?stream=watched&want=pose", max_size=None) as socket:

            async def read():
                async for _ in socket:
                    pass

            reading = asyncio.create_task(read())
            due = time.monotonic()
            while not reading.done():
                await socket.send(PHOTO)
                with sent.get_lock():
                    sent.value += 1
                due += 1 / rate
                await asyncio.sleep(max(0, due - time.monotonic()))

    asyncio.run(send())


def watches(url, want, count, seen):
    async def one():
        async with connect(f"{url}/v1/streams/watched/watch?want={want}", max_size=None) as socket:
            async for message in socket:
                with seen.get_lock():
                    seen.value += isinstance(message, bytes) if want == "overlay" else 1

    async def all():
        await asyncio.gather(*(one() for _ in range(count)))

    asyncio.run(all())


def measure(pid, url, want, count, seconds, sent):
    seen = multiprocessing.Value("q", 0)
    watching = multiprocessing.Process(target=watches, args=(url, want, count, seen), daemon=True)
    watching.start()
    time.sleep(3)
    before, frames, begun = taken(pid), sent.value, seen.value
    time.sleep(seconds)
    after, frames, shown = taken(pid), sent.value - frames, seen.value - begun
    watching.terminate()
    watching.join()
    time.sleep(1)
    user, system = (1000 * (b - a) / frames for a, b in zip(before, after, strict=True))
    return user, system, shown / frames / count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--rate", type=float, default=5, help="frames a second; all must be worked on")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    server = subprocess.Popen(
        [arguments.binary, "serve", "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        address = next(line.split("http://")[1].split()[0] for line in server.stderr if "listening on http://" in line)
        subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        url, sent = f"ws://{address}", multiprocessing.Value("q", 0)
        sending = multiprocessing.Process(target=sends, args=(url, arguments.rate, sent), daemon=True)
        sending.start()
        time.sleep(3)
        print("| watched | who watch | user, ms a frame | system, ms a frame | seen of each frame |\n|---|---|---|---|---|")
        for want in ["pose", "overlay"]:
            rounds = {1: [], 24: []}
            for _ in range(arguments.rounds):
                for count, results in rounds.items():
                    results.append(measure(server.pid, url, want, count, arguments.seconds, sent))
            for count, results in rounds.items():
                user, system, shown = (statistics.median(of) for of in zip(*results, strict=True))
                print(f"| {want} | {count} | {user:.1f} | {system:.1f} | {shown:.2f} |", flush=True)
        sending.terminate()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
