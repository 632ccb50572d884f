"""Measures what several persons' squares cost the CPU engine at once, and prints a Markdown table.

For each number of squares, so many go through the network at once; beside them one goes through it alone. All take turns,
a block of inferences each, so that whatever else the machine does hits all of them. A ratio is the median over the rounds
of (time of a square at once / time of one alone), block by block. With `--before`, another build does the same, and the
last column is the median of (this build / the other one), both at once.

    python3 benches/crops/crops.py                                      all models, float32 and bfloat16, 1 and 2 threads
    python3 benches/crops/crops.py thunder --threads 1 --before old/cloudpose
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

HERE = Path(__file__).parent
MODELS = ["lightning", "thunder"]


class Worker:
    def __init__(self, binary: str, model: str, precision: str, threads: int, squares: int):
        command = [binary, "bench", "worker", "--model", model, "--precision", precision]
        command += ["--threads", str(threads), "--batch", str(squares)]
        self.squares = squares
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"did not become ready: {' '.join(command)}")

    def block(self, squares: int) -> float:
        """The median milliseconds of a square, of a block of about so many."""
        self.process.stdin.write(f"{max(squares // self.squares, 1)}\n")
        return statistics.median(json.loads(self.process.stdout.readline())["wall"]) / self.squares / 1e6

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(args: argparse.Namespace, model: str, precision: str, threads: int):
    binaries = [args.binary] + ([args.before] if args.before else [])
    counts = sorted({1, *args.squares})
    workers = {
        (binary, count): Worker(binary, model, precision, threads, count)
        for count, binary in itertools.product(counts, binaries)
    }
    times = {key: [] for key in workers}
    for done in range(args.rounds):
        what = f"{model}, {precision}, {threads} thread(s): round {done + 1} of {args.rounds}"
        print(f"\r{what}", end="", file=sys.stderr, flush=True)
        for key, worker in workers.items():
            times[key].append(worker.block(args.count))
    print(file=sys.stderr)
    for worker in workers.values():
        worker.close()

    def ratio(a: list[float], b: list[float]) -> str:
        return f"{statistics.median(x / y for x, y in zip(a, b)):.2f}"

    for count in counts:
        ours = times[args.binary, count]
        cells = [model, precision, str(threads), str(count), f"{statistics.median(ours):.2f}"]
        cells.append(ratio(ours, times[args.binary, 1]))
        if args.before:
            cells.append(ratio(ours, times[args.before, count]))
        print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)} (default: all)")
    parser.add_argument("--precisions", nargs="+", default=["f32", "bf16"], choices=["f32", "bf16"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--squares", type=int, nargs="+", default=[1, 2, 3, 4, 6, 8], help="how many at once")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--count", type=int, default=24, help="squares in a block")
    parser.add_argument("--binary", default=str(HERE / "../../target/release/cloudpose"))
    parser.add_argument("--before", help="another build to compare with")
    args = parser.parse_args()
    print(f"{os.cpu_count()} cores, {date.today()}, {args.rounds} rounds of {args.count} squares\n")
    head = ["model", "precision", "threads", "squares at once", "ms a square", "of one alone"]
    head += ["of before"] if args.before else []
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for model, precision, threads in itertools.product(args.models or MODELS, args.precisions, args.threads):
        measure(args, model, precision, threads)


if __name__ == "__main__":
    main()
