"""The names and labels of the metrics of every role, as dashboards and alerts of others ask for them."""

import asyncio
import re
import time

import pytest
from conversation import greeted
from exchange import JPEG, SAMPLE, send
from processes import Gateway, Processes

# Labels with values of the machine or the version.
OPEN = {"version", "device", "isa"}
# A histogram's own; where its buckets are may change.
OWN = {"le", "quantile"}
SAMPLE_LINE = re.compile(r"(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? \S+")
SOON = 60


@pytest.fixture(scope="module")
def roles(tmp_path_factory):
    """Every role, after the same work: a pose, a picture and a frame of each mode."""
    with Processes() as processes:
        nats = processes.nats(tmp_path_factory.mktemp("nats"))
        addresses = {
            "ingest": processes.gateway("ingest", "--nats", nats).address,
            "infer": processes.worker("infer", "--nats", nats, "--device", "cpu"),
            "annotate": processes.worker("annotate", "--nats", nats),
            "serve": processes.gateway("serve", "--device", "cpu").address,
        }
        for role in ("ingest", "serve"):
            asyncio.run(work(Gateway(addresses[role])))
        yield addresses


async def work(gateway):
    for accept in ("application/json", "image/jpeg"):
        sent = await asyncio.to_thread(send, gateway, "POST", "/v1/pose", JPEG | {"accept": accept}, SAMPLE)
        assert sent[0] == 200, sent
    for mode in ("live&max_age_ms=10000", "complete"):
        async with greeted(gateway, f"?want=both&mode={mode}") as talk:
            await talk.image(SAMPLE, "sample.jpg")
            await talk.hear_result()
            await talk.control(type="end")
            await talk.hear_all()


def metrics(address):
    """Each metric's type and the values of its labels."""
    page = send(Gateway(address), "GET", "/metrics")[2].decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", page, re.MULTILINE))
    found = {name: {"type": kind, "labels": {}} for name, kind in sorted(types.items())}
    for line in page.splitlines():
        if line and not line.startswith("#"):
            name, labels = SAMPLE_LINE.fullmatch(line).groups()
            # The shortest is not always the metric's own name: a counter may end like a histogram's part.
            name = next(known for known in (line.split("{")[0].split(" ")[0], name) if known in found)
            for label, value in re.findall(r'(\w+)="([^"]*)"', labels or ""):
                if label not in OWN:
                    values = found[name]["labels"].setdefault(label, [])
                    values.append(f"<{label}>" if label in OPEN else value)
    for metric in found.values():
        metric["labels"] = {label: sorted(set(values)) for label, values in sorted(metric["labels"].items())}
    return found


@pytest.mark.parametrize("role", ["serve", "ingest", "infer", "annotate"])
def test_metrics(roles, snapshots, role):
    name = f"metrics-{role}"
    until = time.monotonic() + SOON
    # Lanes are looked at every two seconds; a new snapshot waits for that.
    if snapshots.update:
        time.sleep(5)
    else:
        expected = snapshots.read(name)
        while metrics(roles[role]) != expected and time.monotonic() < until:
            time.sleep(0.1)
    snapshots.check(name, metrics(roles[role]))
