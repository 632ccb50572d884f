"""Measures cameras against `cloudpose` on this machine, and prints what it saw as Markdown.

    tests/.venv/bin/python benches/cameras/measure.py VIDEO poses first back moved

VIDEO is any that ffmpeg reads; it is encoded once, beforehand, to H.264 as cameras send it (1280×720, Main, no B-frames, a key
frame a second, 3 Mbit/s). The cameras (camera.py) and who watches run beside the server on the same cores; what each
costs is told apart.

    poses     eight cameras at 5 poses a second, `fast`: from when a camera sends a picture to when who watches has its poses
    first     from the POST to the first poses
    back      from when a killed camera is there again to its next poses
    moved     from when a gateway is killed to the next poses of its cameras, by another gateway (needs nats-server)
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from bisect import bisect_right
from pathlib import Path

import websockets

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/contract"))
os.environ.setdefault("CLOUDPOSE_BIN", str(REPOSITORY / "target/release/cloudpose"))
import processes  # noqa: E402

ALLOW = ["--camera-allow", "127.0.0.0/8"]
TICKS = os.sysconf("SC_CLK_TCK")
FPS = 30


def encode(video, folder):
    clip = Path(folder) / "clip.h264"
    subprocess.run(
        ["ffmpeg", "-v", "error", "-stream_loop", "-1", "-i", video, "-t", "20", "-an", "-vf", "scale=1280:720,format=yuv420p",
         "-r", str(FPS), "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-bf", "0", "-g", str(FPS), "-b:v", "3M",
         "-x264-params", "aud=1:scenecut=0", "-f", "h264", clip], check=True)
    return clip


def cpu(pid):
    """Seconds in user space and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


class Cameras:
    def __init__(self, clip, count, port=0):
        command = [sys.executable, Path(__file__).with_name("camera.py"), clip, "--cameras", count, "--fps", FPS, "--port", port]
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[-1])

    def url(self, n):
        return f"rtsp://127.0.0.1:{self.port}/{n}"

    def stop(self):
        """When each has sent its pictures."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        return json.loads(out)


def ask(gateway, method, path, body=None):
    request = urllib.request.Request(gateway.http + path, method=method, data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


def add(gateway, cameras, n, **wishes):
    ask(gateway, "POST", "/v1/cameras", {"stream": f"cam{n}", "url": cameras.url(n)} | wishes)


def pid_of(started, nth=-1):
    return started.running[nth].pid


async def watch(gateway, stream, query="want=pose"):
    """Connects as soon as the stream is there, and yields messages and when they came."""
    url = f"ws://{gateway.address}/v1/streams/{stream}/watch?{query}"
    while True:
        try:
            async with websockets.connect(url, max_size=None, ping_interval=None) as socket:
                async for message in socket:
                    yield message, time.time()
        except (OSError, websockets.WebSocketException):
            await asyncio.sleep(0.005)


async def next_poses(gateway, stream):
    async for message, at in watch(gateway, stream):
        if isinstance(message, str) and '"result"' in message:
            return at


def summary(values, unit=" ms", scale=1e3):
    values = sorted(value * scale for value in values)
    at = lambda part: values[min(len(values) - 1, int(len(values) * part))]  # noqa: E731
    return f"median {statistics.median(values):.0f}{unit}, p95 {at(0.95):.0f}{unit}, highest {values[-1]:.0f}{unit} ({len(values)})"


async def poses(clip, options):
    """Eight cameras, and what all of it costs."""
    with processes.Processes() as started:
        gateway = started.gateway("serve", "--device", "cpu", *ALLOW)
        server = pid_of(started)
        cameras, came = Cameras(clip, 8), {n: [] for n in range(8)}
        for n in range(8):
            add(gateway, cameras, n, model="fast", fps=5)

        async def collect(n):
            async for message, at in watch(gateway, f"cam{n}"):
                message = json.loads(message)
                if message["type"] == "result":
                    came[n].append((message["pose"]["captured_at"], at))

        tasks = [asyncio.ensure_future(collect(n)) for n in range(8)]
        await asyncio.sleep(5)
        begun, before = time.time(), [cpu(pid) for pid in (server, cameras.process.pid, os.getpid())]
        await asyncio.sleep(options.seconds)
        ended, after = time.time(), [cpu(pid) for pid in (server, cameras.process.pid, os.getpid())]
        for task in tasks:
            task.cancel()
        states = [camera["state"] for camera in ask(gateway, "GET", "/v1/cameras")["cameras"]]
        sent = cameras.stop()
    latencies, per_second = [], []
    for n, times in enumerate(sent):
        seen = [(captured, at) for captured, at in came[n] if begun <= at <= ended]
        per_second.append(len(seen) / (ended - begun))
        for captured, at in seen:
            # It was captured, as the gateway says, a moment after it was sent.
            sent_at = times[max(0, bisect_right(times, captured / 1e3 + 0.004) - 1)]
            latencies.append(at - sent_at)
    shares = [sum(a) - sum(b) for a, b in zip(after, before)]
    shares = [share / (ended - begun) for share in shares]
    print(f"- poses: {summary(latencies)}; {min(per_second):.2f} to {max(per_second):.2f} poses/s each, {set(states)}; "
          f"cores: server {shares[0]:.2f}, cameras {shares[1]:.2f}, who watches {shares[2]:.2f}", flush=True)
    return latencies


async def first(clip, options):
    times = []
    with processes.Processes() as started:
        gateway = started.gateway("serve", "--device", "cpu", *ALLOW)
        cameras = Cameras(clip, 1)
        for _ in range(options.times):
            begun = time.time()
            add(gateway, cameras, 0, model="fast")
            times.append(await next_poses(gateway, "cam0") - begun)
            ask(gateway, "DELETE", "/v1/cameras/cam0")
            await asyncio.sleep(0.3)
        cameras.stop()
    print(f"- first poses after the POST: {summary(times)}", flush=True)


async def back(clip, options):
    times = []
    with processes.Processes() as started:
        gateway = started.gateway("serve", "--device", "cpu", *ALLOW)
        cameras = Cameras(clip, 1)
        add(gateway, cameras, 0, model="fast")
        for _ in range(options.times):
            await next_poses(gateway, "cam0")
            cameras.process.kill()
            cameras.process.wait()
            # Long enough for the pauses to be the longest.
            await asyncio.sleep(6)
            cameras = Cameras(clip, 1, cameras.port)
            begun = time.time()
            times.append(await next_poses(gateway, "cam0") - begun)
        cameras.stop()
    print(f"- poses after a camera is back: {summary(times)}", flush=True)


async def moved(clip, options):
    times, counts = [], []
    for _ in range(options.times):
        with tempfile.TemporaryDirectory() as store, processes.Processes() as started:
            nats = started.nats(store)
            started.worker("infer", "--nats", nats, "--device", "cpu")
            dying = started.gateway("ingest", "--nats", nats, *ALLOW)
            killed = started.running[-1]
            other = started.gateway("ingest", "--nats", nats, *ALLOW)
            cameras, came = Cameras(clip, 8), {n: [] for n in range(8)}
            for n in came:
                add(dying, cameras, n, model="fast", fps=5)

            async def collect(n):
                async for message, at in watch(other, f"cam{n}"):
                    if '"result"' in message:
                        came[n].append(at)

            tasks = [asyncio.ensure_future(collect(n)) for n in came]
            await asyncio.sleep(5)
            killed.kill()
            begun = time.time()
            await asyncio.sleep(8)
            for task in tasks:
                task.cancel()
            cameras.stop()
            # Its own: the poses of the others go on.
            later = [min(at for at in all_of if at > begun) - begun for all_of in came.values()]
            own = [time for time in later if time > 1]
            times += own
            counts.append(len(own))
    print(f"- poses of a killed gateway's cameras, {counts} of 8: {summary(times)}", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("video", type=Path)
    options.add_argument("what", nargs="+", choices=["poses", "first", "back", "moved"])
    options.add_argument("--seconds", type=float, default=30, help="how long one measurement takes")
    options.add_argument("--times", type=int, default=5, help="how often it is repeated")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = encode(options.video, folder)
        for what in options.what:
            print(f"{what}: load {Path('/proc/loadavg').read_text().split()[0]} before", flush=True)
            asyncio.run(globals()[what](clip, options))


main()
