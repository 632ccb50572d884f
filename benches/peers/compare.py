"""Measures CloudPose's engine beside LiteRT and OpenVINO, and prints a Markdown table.

The runtimes take turns, a block of inferences each, so that whatever else the machine does hits all of
them. A ratio is the median over the rounds of (ours / theirs), block by block: of `openvino`, which computes in what
it takes by itself and says on standard error what that is, to ours at its own default; of float32 to ours in float32.
In float32 ours leaves out activations that are zero, so how long it takes depends on the picture: it works on the
golden photos in turn, another in each round. Theirs compute everything, whatever the picture.

    make bench-peers                                   all models, 1 and 2 threads
    make bench-peers ARGS="thunder --threads 1"
    make bench-peers ARGS="--isa avx2"                 all of them restricted to AVX2
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
MODELS = ["lightning", "thunder", "multipose"]
PEERS = ["openvino", "openvino-f32", "litert"]
PHOTOS = sorted((HERE / "../../infer/tests/golden/images").glob("*.jpg"))
# What restricts oneDNN (in OpenVINO); XNNPACK has no such switch.
ONEDNN_ISA = {"avx2": "AVX2", "avx512": "AVX512_CORE"}
# Ours at its own default, and in float32.
OURS = {"cloudpose": "auto", "cloudpose-f32": "f32"}
# Whom a peer is compared with: defaults with each other, float32 with float32.
RIVAL = {"openvino": "cloudpose", "openvino-f32": "cloudpose-f32", "litert": "cloudpose-f32"}


class Worker:
    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=os.environ | environment
        )
        while (line := self.process.stdout.readline()).strip() != "ready":
            if not line:
                raise SystemExit(f"did not become ready: {' '.join(command)}")

    def block(self, count: int) -> tuple[list[int], int]:
        """Nanoseconds of each inference, and of processor time for all of them."""
        self.process.stdin.write(f"{count}\n")
        answer = json.loads(self.process.stdout.readline())
        return answer["wall"], answer["cpu"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(binary: str, model: str, threads: int, rounds: int, count: int, isa: str | None) -> list[str]:
    ours = [binary, "bench", "worker", "--model", model, "--threads", str(threads)]
    environment = {"CLOUDPOSE_ISA": isa, "ONEDNN_MAX_CPU_ISA": ONEDNN_ISA[isa]} if isa else {}
    workers = {
        name: [Worker([*ours, "--precision", precision, "--image", str(photo)], environment) for photo in PHOTOS]
        for name, precision in OURS.items()
    }
    for peer in PEERS:
        workers[peer] = [Worker([sys.executable, str(HERE / "peer.py"), peer, model, str(threads)], environment)]
    wall, medians, cpu = ({name: [] for name in workers} for _ in range(3))
    for done in range(rounds):
        print(f"\r{model}, {threads} thread(s): round {done + 1} of {rounds}", end="", file=sys.stderr, flush=True)
        for name, turns in workers.items():
            times, spent = turns[done % len(turns)].block(count)
            wall[name] += times
            medians[name].append(statistics.median(times))
            cpu[name].append(spent / count)
    print(file=sys.stderr)
    for worker in [worker for turns in workers.values() for worker in turns]:
        worker.close()

    rows = []
    for name in workers:
        rival = RIVAL.get(name)
        ratio = rival and statistics.median(a / b for a, b in zip(medians[rival], medians[name]))
        cells = [model, str(threads), name]
        cells += [f"{f(values) / 1e6:.2f}" for f, values in ((min, wall[name]), (statistics.median, wall[name]))]
        cells += [f"{statistics.median(cpu[name]) / 1e6:.2f}", f"{ratio:.2f}" if ratio else ""]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0] if names else platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="threads that share an inference")
    parser.add_argument("--rounds", type=int, default=18, help="each photo has its turn after six")
    parser.add_argument("--count", type=int, default=20, help="inferences in a block")
    parser.add_argument("--isa", choices=ONEDNN_ISA, help="restrict ours and OpenVINO to an instruction set")
    parser.add_argument("--binary", default=str(HERE / "../../target/release/cloudpose"))
    args = parser.parse_args()
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"unknown: {', '.join(unknown)}")
    print(f"{processor()}, {os.cpu_count()} cores, {date.today()}, {args.rounds} rounds of {args.count}\n")
    print("| model | threads | runtime | min ms | median ms | CPU ms | ours / theirs |")
    print("|---|---|---|---|---|---|---|")
    for model in args.models or MODELS:
        for threads in args.threads:
            print(*measure(args.binary, model, threads, args.rounds, args.count, args.isa), sep="\n", flush=True)


if __name__ == "__main__":
    main()
