"""Measures `cloudpose serve` beside the service that users of the existing API run, and prints a Markdown table.

Both run with the same model on the same photos. They take turns, a block of seconds each, in which every
connection sends its next request when it has the last one's answer. Rates, processor time and ratios are
medians over the rounds, the ratios block by block; latencies are of all requests. The client shares the
processor with the servers; its own time is not in theirs.

    make bench-http
    make bench-http ARGS="--connections 4 --rounds 3"
"""

import argparse
import asyncio
import base64
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import uvloop

HERE = Path(__file__).parent
IMAGES = HERE / "../../infer/tests/golden/images"
CALLS = ["/api/pose_detection", "/api/pose_detection_annotation"]
TICK = os.sysconf("SC_CLK_TCK")


def photos() -> dict[str, bytes]:
    """JPEG files by what the table calls them."""
    demo = cv2.resize(cv2.imread(str(IMAGES / "demo_f000.jpg")), (1280, 720), interpolation=cv2.INTER_AREA)
    return {
        "1088×1920": (IMAGES / "multi_cam01_f000.jpg").read_bytes(),
        "1280×720": cv2.imencode(".jpg", demo, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes(),
    }


class Server:
    def __init__(self, command: list[str], environment: dict[str, str]):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [word.replace("PORT", str(self.port)) for word in command]
        self.process = subprocess.Popen(command, env=os.environ | environment, cwd=HERE, stderr=subprocess.DEVNULL)

    def call(self, path: str, body: bytes) -> dict:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def wait_until_it_answers_right(self, photo: bytes):
        """Waits for it to listen; refuses to measure what finds nobody or draws no picture."""
        body = json.dumps({"id": "check", "image": base64.b64encode(photo).decode()}).encode()
        for _ in range(300):
            try:
                found = self.call(CALLS[0], body)
                break
            except OSError:
                if self.process.poll() is not None:
                    raise SystemExit(f"did not start: {self.process.args}")
                time.sleep(0.1)
        else:
            raise SystemExit(f"does not answer: {self.process.args}")
        drawn = base64.b64decode(self.call(CALLS[1], body)["image"])
        same_size = cv2.imdecode(np.frombuffer(drawn, np.uint8), 1).shape == cv2.imdecode(np.frombuffer(photo, np.uint8), 1).shape
        if found["count"] < 1 or len(found["keypoints"][0]) != 17 or not same_size:
            raise SystemExit(f"answers wrong: {self.process.args}")

    def cpu_seconds(self) -> float:
        """Processor time of all its threads, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def stop(self):
        self.process.terminate()
        self.process.wait()


async def connection(port: int, request: bytes, until: float, latencies: list[float]):
    """Sends the request again and again until the time is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 23)
    while (begun := time.perf_counter()) < until:
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise SystemExit(head.decode())
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        latencies.append(time.perf_counter() - begun)
    writer.close()


def block(server: Server, path: str, photo: bytes, connections: int, seconds: float) -> tuple[list[float], float, float]:
    """Seconds of each request, requests per second, server's processor seconds per request."""
    body = json.dumps({"id": "bench", "image": base64.b64encode(photo).decode()}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    request, latencies = head.encode() + body, []

    async def all_connections():
        until = time.perf_counter() + seconds
        await asyncio.gather(*(connection(server.port, request, until, latencies) for _ in range(connections)))

    cpu, begun = server.cpu_seconds(), time.perf_counter()
    uvloop.run(all_connections())
    took, cpu = time.perf_counter() - begun, server.cpu_seconds() - cpu
    return latencies, len(latencies) / took, cpu / len(latencies)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def rows(servers: dict[str, Server], what: str, path: str, photo: bytes, connections: int, args) -> list[str]:
    latencies, rates, cpus = ({name: [] for name in servers} for _ in range(3))
    for done in range(args.rounds):
        print(f"\r{path} {what}, {connections} connection(s): round {done + 1} of {args.rounds}  ", end="", file=sys.stderr, flush=True)
        for name, server in servers.items():
            of_block, rate, cpu = block(server, path, photo, connections, args.seconds)
            latencies[name] += of_block
            rates[name].append(rate)
            cpus[name].append(cpu)
    print(file=sys.stderr)
    ours, theirs = servers
    p50, p99 = ({name: percentile(latencies[name], share) for name in servers} for share in (0.5, 0.99))

    def of_blocks(values: dict[str, list[float]]) -> float:
        return statistics.median(a / b for a, b in zip(values[ours], values[theirs]))

    def row(name: str, cells: list[str]) -> str:
        return "| " + " | ".join([path.removeprefix("/api/"), what, str(connections), name, *cells]) + " |"

    def measured(name: str) -> list[str]:
        times = [f"{1e3 * seconds:.1f}" for seconds in (p50[name], p99[name], statistics.median(cpus[name]))]
        return [f"{statistics.median(rates[name]):.1f}", *times]

    ratios = [of_blocks(rates), p50[ours] / p50[theirs], p99[ours] / p99[theirs], of_blocks(cpus)]
    return [*(row(name, measured(name)) for name in servers), row("**ratio**", [f"**{ratio:.2f}**" for ratio in ratios])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["lightning", "thunder"], default="lightning")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a block")
    parser.add_argument("--binary", default=str(HERE / "../../target/release/cloudpose"))
    args = parser.parse_args()
    theirs = [sys.executable, "-m", "uvicorn", "existing_service:app", "--port", "PORT", "--log-level", "warning"]
    ours = [os.path.abspath(args.binary), "serve", "--listen", "127.0.0.1:PORT", "--model", args.model, "--min-score", "0"]
    servers = {"cloudpose": Server(ours, {"RUST_LOG": "warn"}), "existing": Server(theirs, {"MODEL": args.model})}
    try:
        for server in servers.values():
            for photo in photos().values():
                server.wait_until_it_answers_right(photo)
        print(f"{platform.machine()}, {os.cpu_count()} cores, {date.today()}, {args.model}, {args.rounds} rounds of {args.seconds:g} s\n")
        print("| call | photo | connections | service | requests/s | p50 ms | p99 ms | CPU ms/request |")
        print("|---|---|---|---|---|---|---|---|")
        for path in CALLS:
            for what, photo in photos().items():
                for connections in args.connections:
                    print(*rows(servers, what, path, photo, connections, args), sep="\n", flush=True)
    finally:
        for server in servers.values():
            server.stop()


if __name__ == "__main__":
    main()
