"""What a tenant's flood takes from another tenant, and a Markdown table of it.

One tenant opens live and complete sessions that send as fast as the server reads, with a large model and the longest
deadline. Beside it another has a camera of 10 frames a second, then posts photos; without it the same camera is measured
first. At last four tenants do the same as one another, and Jain's index says how evenly they are served.

The clients run on the machine that serves. Unless `--clients-compete` is given, those of the flood get the processor time that nobody
else wants, as if they were elsewhere. What else ran on the machine is told with the result.

    make bench-shares
    make bench-shares ARGS="--bus nats --rounds 1 --seconds 10"
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import date
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
EQUAL = ["red", "green", "blue", "grey"]
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """One that says on its standard error that it is ready."""

    def __init__(self, name: str, command: list, marker: str):
        self.name = name
        self.process = subprocess.Popen(
            [str(word) for word in command], stderr=subprocess.PIPE, text=True
        )
        self.said, self.found = [], {}
        for line in self.process.stderr:
            self.said.append(line)
            for what in ("listening on http://", "metrics on http://", "client connections on "):
                if what in line:
                    self.found[what] = line.split(what)[1].split()[0].removesuffix("/metrics")
            if marker in line:
                break
        else:
            sys.exit("".join(self.said) + f"{name} ended before it was ready")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def cpu(self) -> float:
        """Seconds of processor time."""
        return cpu(self.process.pid)

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


def cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy() -> float:
    """Seconds of processor time that were used on this machine, of all cores together."""
    user, nice, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS


class Service:
    """CloudPose on one kind of bus, with keys for every tenant."""

    def __init__(self, options, bus: str, folder: Path):
        self.binary, self.loadgen = options.binary, options.loadgen or options.binary
        keys = folder / "keys.json"
        self.keys = {tenant: self.key(tenant, keys) for tenant in ["flood", "door", *EQUAL]}
        listen = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--keys", keys, *options.gateway]
        self.processes = []
        if bus == "local":
            self.gateway = self.start("serve", listen, "listening on")
        else:
            config = REPOSITORY / "deploy/nats/nats-server.conf"
            command = [options.nats_server, "--config", config, "--store_dir", folder / "nats", "-a", "127.0.0.1", "-p", "-1"]
            broker = Process("nats-server", command, "Server is ready")
            self.processes.append(broker)
            nats = ["--nats", f"nats://{broker.found['client connections on ']}"]
            self.gateway = self.start("ingest", [*nats, *listen], "listening on")
            self.start("infer", nats, "infer: ready")
            self.start("annotate", nats, "metrics on")
            time.sleep(2)
        self.url = f"http://{self.gateway.found['listening on http://']}"
        self.metrics = f"http://{self.gateway.found['metrics on http://']}/metrics"
        self.wait()

    def wait(self):
        """Until it is ready."""
        for _ in range(100):
            try:
                urllib.request.urlopen(f"{self.url}/ready", timeout=10).close()
                return
            except OSError:
                time.sleep(0.2)
        sys.exit("it is not ready after 20 s")

    def key(self, tenant: str, keys: Path) -> str:
        command = [self.binary, "keys", "new", tenant, "--tenant", tenant, "--keys", keys]
        return re.search(r"cpk_[\w-]+", subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]

    def start(self, role: str, options: list, marker: str) -> Process:
        process = Process(role, [self.binary, role, *options], marker)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            process.stop()

    def delivered(self) -> dict:
        """Frames delivered so far, by tenant."""
        with urllib.request.urlopen(self.metrics, timeout=10) as page:
            text = page.read().decode()
        delivered = dict.fromkeys([*EQUAL, "door", "flood"], 0)
        for labels, count in re.findall(r"^cloudpose_frames_total\{(.*?)\} (\d+)", text, re.M):
            if 'outcome="delivered"' in labels and (tenant := re.search(r'tenant="(\w+)"', labels)):
                delivered[tenant[1]] += int(count)
        return delivered


class Load:
    """A load generator."""

    def __init__(self, service: Service, kind: str, tenants: list, seconds: float, *options, yields=False):
        self.folder = tempfile.TemporaryDirectory()
        keys = [word for tenant in tenants for word in ("--key", service.keys[tenant])]
        command = [service.loadgen, "loadgen", kind, "--url", service.url, *keys, "--run-time", f"{seconds}s",
                   "--spawn-rate", "200", "-o", self.folder.name, *map(str, options)]
        begin = (lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))) if yields else None
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, preexec_fn=begin
        )

    def cpu(self) -> float:
        return cpu(self.process.pid)

    def run(self) -> dict:
        """What it found, when it is done, and the seconds of processor time that it took."""
        said = self.process.stderr.read()
        os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        took = self.cpu()
        self.process.wait()
        try:
            run = json.loads(Path(self.folder.name, "results.json").read_text())["results"][0]["runs"][0]
            return {**run, "took": took}
        except FileNotFoundError:
            sys.exit(f"a load generator found nothing: {said}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate()


def percentile(run: dict, which: float) -> float:
    at = [50.0, 66.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.9, 99.99, 100.0].index(which)
    return run["all"]["latency"]["percentiles_ms"][at]


def camera(service: Service, options, seconds: float, loads: list) -> dict:
    """One stream of 10 frames a second."""
    known = [*service.processes, *loads]
    before, used = sum(p.cpu() for p in known), busy()
    asks = ["--users", 1, "--fps", 10, "--model", options.own_model]
    run = Load(service, "stream", ["door"], seconds, *asks).run()
    return {
        "fps": run["streams"]["delivered"] / seconds,
        "p50": percentile(run, 50.0),
        "p99": percentile(run, 99.0),
        "drops": run["streams"]["drops"],
        "others": (busy() - used - (sum(p.cpu() for p in known) - before) - run["took"]) / seconds,
    }


def flood(service: Service, options, seconds: float) -> list:
    shared = ["--fps", options.flood_fps, "--model", options.model, "--timeout", "1s", "--max-send-lag", "1h"]
    live = ["--users", options.live, "--mode", "live", "--max-age", "10s"]
    complete = ["--users", options.complete, "--mode", "complete", "--max-age", "10s"]
    yields = not options.clients_compete
    return [Load(service, "stream", ["flood"], seconds, *kind, *shared, yields=yields) for kind in (live, complete)]


def one_round(service: Service, options) -> dict:
    seconds, found = options.seconds, {}
    found["alone"] = camera(service, options, seconds, [])
    loads = flood(service, options, 2 * seconds + 60)
    time.sleep(5)
    before, at = {p.name: p.cpu() for p in service.processes}, time.monotonic()
    clients, worked = [load.cpu() for load in loads], service.delivered()
    found["beside"] = camera(service, options, seconds, loads)
    photos = Load(service, "http", ["door"], seconds / 2, "--users", 1, "--think", "100ms..200ms").run()
    took = time.monotonic() - at
    found["cpu"] = {p.name: (p.cpu() - before[p.name]) / took for p in service.processes}
    found["cpu"]["flood's clients"] = sum(l.cpu() - c for l, c in zip(loads, clients, strict=True)) / took
    found["flood"] = (service.delivered()["flood"] - worked["flood"]) / took
    found["photos"] = {"count": photos["all"]["count"], "failures": photos["all"]["failures"], "p99": percentile(photos, 99.0)}
    for load in loads:
        load.stop()
    time.sleep(2)
    before = service.delivered()
    equal = Load(service, "stream", EQUAL, seconds, "--users", 4 * len(EQUAL), "--fps", options.flood_fps,
                 "--mode", "complete", "--timeout", "1s", "--max-send-lag", "1h")
    time.sleep(seconds - 1)
    after = service.delivered()
    equal.process.communicate()
    got = [after[tenant] - before[tenant] for tenant in EQUAL]
    found["jain"] = sum(got) ** 2 / (len(got) * sum(x * x for x in got))
    found["equal"] = got
    return found


def report(bus: str, rounds: list):
    middle = lambda of: statistics.median(of(found) for found in rounds)
    print(f"\n**{bus}**\n\n| | alone | beside the flood |\n|---|---|---|")
    for what, key, form in (("frames a second", "fps", ".2f"), ("p50, ms", "p50", ".1f"), ("p99, ms", "p99", ".1f"),
                            ("cores busy with other things", "others", ".2f")):
        values = [middle(lambda found: found[phase][key]) for phase in ("alone", "beside")]
        print(f"| {what} | {values[0]:{form}} | {values[1]:{form}} |")
    ratios = [found["beside"]["p99"] / found["alone"]["p99"] for found in rounds]
    print(f"\np99 beside : alone {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
          f"photos {sum(f['photos']['count'] for f in rounds)}, of them failed "
          f"{sum(sum(f['photos']['failures'].values()) for f in rounds)}, p99 {middle(lambda f: f['photos']['p99']):.0f} ms; "
          f"Jain's index over equal tenants {min(f['jain'] for f in rounds):.3f} at least; "
          f"the flood gets {middle(lambda f: f['flood']):.1f} frames/s")
    print("cores busy: " + ", ".join(f"{name} {middle(lambda f: f['cpu'][name]):.2f}" for name in rounds[0]["cpu"]))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", default=REPOSITORY / "target/release/cloudpose")
    arguments.add_argument("--loadgen", help="the binary that generates load, if not the one that is measured")
    arguments.add_argument("--nats-server", default=REPOSITORY / "tests/.venv/bin/nats-server")
    arguments.add_argument("--bus", nargs="+", default=["local", "nats"], choices=["local", "nats"])
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=30, help="of each measurement")
    arguments.add_argument("--live", type=int, default=60, help="live sessions of the flood")
    arguments.add_argument("--complete", type=int, default=200, help="complete sessions of the flood")
    arguments.add_argument("--model", default="accurate", help="which the flood asks for")
    arguments.add_argument("--own-model", default="accurate", help="which the other tenant's camera asks for")
    arguments.add_argument("--flood-fps", type=float, default=1000, help="frames a second that each of its cameras has")
    arguments.add_argument("--clients-compete", action="store_true", help="the flood's clients get as much of the processor as the server")
    arguments.add_argument("--gateway", nargs=argparse.REMAINDER, default=[], help="options of the gateway; last")
    options = arguments.parse_args()
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} cores: {options.live} live and {options.complete} complete "
          f"sessions of one tenant, model {options.model}; {options.rounds} rounds, {options.seconds} s each")
    for bus in options.bus:
        with tempfile.TemporaryDirectory() as folder:
            service = Service(options, bus, Path(folder))
            try:
                rounds = []
                for _ in range(options.rounds):
                    rounds.append(one_round(service, options))
                    print(json.dumps({"bus": bus, **rounds[-1]}), file=sys.stderr)
            finally:
                service.stop()
        report(bus, rounds)


if __name__ == "__main__":
    main()
