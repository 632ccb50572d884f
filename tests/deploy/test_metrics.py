"""Metrics, rules and the dashboard: what is written is what there is, and a real Prometheus finds data for all of it."""

import asyncio
import json
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import pytest
import websockets
import yaml
from conftest import DEPLOY, PROMETHEUS, REPOSITORY, VENV, free_port, get, of_kind, rendered, run, wait_for

RULES = DEPLOY / "prometheus" / "rules.yaml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "cloudpose.json").read_text())
RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text()
PHOTO = (REPOSITORY / "ingest" / "web" / "sample.jpg").read_bytes()

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]
RECORDED = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Of the metrics that a histogram makes, the list names the histogram.
PARTS = re.compile(r"_(bucket|sum|count)$")


def test_rules_are_sound_and_do_what_their_tests_say():
    run(PROMETHEUS / "promtool", "check", "rules", RULES)
    run(PROMETHEUS / "promtool", "test", "rules", RULES.with_name("rules.test.yaml"))


def test_every_alert_is_tested_and_has_its_place_in_the_runbook():
    tested = {case["alertname"] for test in yaml.safe_load(RULES.with_name("rules.test.yaml").read_text())["tests"]
              for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    headings = {line.removeprefix("### ").lower() for line in RUNBOOK.splitlines() if line.startswith("### ")}
    for alert in ALERTS:
        assert alert["alert"] in tested
        assert alert["annotations"]["runbook_url"].rsplit("#", 1)[1] == alert["alert"].lower()
        assert alert["alert"].lower() in headings


@pytest.mark.parametrize("gpus, theirs", [(2, 136), (0, 0)], ids=["two GPUs are there", "no GPU is there"])
def test_pools_scale_on_what_waits_and_is_in_hand(tmp_path, gpus, theirs):
    """The rule that the chart records for mode hpa, with numbers: two gateways tell of the same lanes; what the GPUs take
    that are there is not the processors' to take."""
    group = of_kind(rendered("autoscaled-hpa"), "PrometheusRule")[0]["spec"]["groups"][0]
    (tmp_path / "pools.yaml").write_text(yaml.safe_dump({"groups": [group]}))
    of = 'release="pose", namespace="video"'
    others = 'release="other", namespace="video"'

    def lane(stage, kind, gateway, whose, waiting, in_hand):
        labels = f'{{stage="{stage}", kind="{kind}", instance="{gateway}", {whose}}}'
        return [{"series": f"cloudpose_lane_frames{labels}", "values": f"{waiting}x20"},
                {"series": f"cloudpose_lane_in_hand_frames{labels}", "values": f"{in_hand}x20"}]

    series = [s for kind in ("live", "still") for gateway in "ab" for s in lane("infer", kind, gateway, of, 150, 2)]
    series += lane("infer", "live", "c", others, 9, 9) + lane("annotate", "live", "a", of, 5, 2)
    series += [{"series": f'cloudpose_worker_slots{{stage="infer", pool="gpu", instance="{n}", {of}}}', "values": "68x20"}
               for n in range(gpus)]
    # Neither its own workers nor another release's are those before it.
    series += [{"series": f'cloudpose_worker_slots{{stage="infer", pool="{pool}", instance="x", {whose}}}', "values": "2x20"}
               for pool, whose in (("cpu", of), ("gpu", others))]
    labels = 'cloudpose_pool_frames{namespace="video", release="pose", pool="%s"}'
    expected = {"gpu": 304, "cpu": 304 - theirs, "annotate": 7}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["pools.yaml"], "tests": [{
        "interval": "5s", "input_series": series, "promql_expr_test": [{
            "expr": "cloudpose_pool_frames", "eval_time": "1m",
            "exp_samples": [{"labels": labels % pool, "value": value} for pool, value in expected.items()]}]}]}))
    run(PROMETHEUS / "promtool", "test", "rules", "test.yaml", cwd=tmp_path)


def test_horizontal_autoscalers_ask_for_what_is_recorded():
    documents = rendered("autoscaled-hpa")
    rules = of_kind(documents, "PrometheusRule")[0]["spec"]["groups"][0]["rules"]
    recorded = {(rule["record"], rule["labels"].get("pool"), rule["labels"]["release"]) for rule in rules}
    asked = set()
    for document in of_kind(documents, "HorizontalPodAutoscaler"):
        for metric in document["spec"]["metrics"]:
            if metric["type"] == "External":
                wanted = metric["external"]["metric"]
                asked.add((wanted["name"], wanted["selector"]["matchLabels"].get("pool"),
                           wanted["selector"]["matchLabels"]["release"]))
    assert asked == recorded and len(asked) == 5


# --- A loaded system: NATS, `cloudpose serve` on it and `cloudpose record`, streams, photos and a job, and Prometheus.


async def stream(port, mode, frames):
    """Sends more than is worked on, so that live streams are thinned."""
    url = f"ws://127.0.0.1:{port}/v1/stream?want=both&mode={mode}"
    async with websockets.connect(url, max_size=None) as socket:
        async def read():
            async for _ in socket:
                pass

        reader = asyncio.create_task(read())
        for _ in range(frames):
            await socket.send(PHOTO)
            await asyncio.sleep(0.02)
        await asyncio.sleep(1)
        reader.cancel()


async def load(port):
    await asyncio.gather(*(stream(port, "live", 250) for _ in range(2)), stream(port, "complete", 20))


def hand_in(port):
    """A job of one image, which is done when this returns."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/jobs", data=PHOTO, headers={"Content-Type": "image/jpeg"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        job = answer.headers["Location"]
    wait_for(lambda: json.loads(get(f"http://127.0.0.1:{port}{job}"))["state"] == "done")


@pytest.fixture(scope="module")
def system(cloudpose, tmp_path_factory):
    """`(addresses of the processes of cloudpose, address of Prometheus)`, after some seconds of load."""
    folder = tmp_path_factory.mktemp("system")
    nats, serve, record, prometheus = free_port(), free_port(), free_port(), free_port()
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                           for job, port in (("serve", serve), ("record", record))],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    commands = [
        [VENV / "bin" / "nats-server", "--config", DEPLOY / "nats" / "nats-server.conf", "--addr", "127.0.0.1",
         "--port", str(nats), "--store_dir", folder / "nats"],
        [cloudpose, "serve", "--nats", f"nats://127.0.0.1:{nats}", "--listen", f"127.0.0.1:{serve}", "--store", folder / "jobs"],
        [cloudpose, "record", "--nats", f"nats://127.0.0.1:{nats}", "--ops-listen", f"127.0.0.1:{record}",
         "--to", folder / "poses", "--every", "1s"],
        [PROMETHEUS / "prometheus", f"--config.file={folder / 'prometheus.yaml'}",
         f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{prometheus}"],
    ]
    logs = [open(folder / f"log-{i}", "w") for i in range(len(commands))]
    processes = [subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=os.environ)
                 for command, log in zip(commands, logs, strict=True)]
    try:
        wait_for(lambda: get(f"http://127.0.0.1:{serve}/ready"))
        wait_for(lambda: get(f"http://127.0.0.1:{record}/ready"))
        wait_for(lambda: get(f"http://127.0.0.1:{prometheus}/-/ready"))
        asyncio.run(load(serve))
        hand_in(serve)
        yield [f"http://127.0.0.1:{port}" for port in (serve, record)], f"http://127.0.0.1:{prometheus}"
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(timeout=40)


def pages(system):
    """What each process tells."""
    return [get(f"{process}/metrics", timeout=10).decode() for process in system[0]]


def told(system):
    """`{metric: type}` of what the processes tell."""
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", "\n".join(pages(system)), re.M))


def listed():
    """`{metric: (type, labels)}` of docs/metrics.md."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|([^|]*)\|", (REPOSITORY / "docs" / "metrics.md").read_text(), re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_the_list_is_what_the_processes_tell(system):
    assert {name: kind for name, (kind, _) in listed().items()} == told(system)


def test_labels_are_those_of_the_list(system):
    found = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", "\n".join(pages(system)), re.M):
        name = name if name in listed() else PARTS.sub("", name)
        found.setdefault(name, set()).update(set(re.findall(r'(\w+)="', labels)) - {"le"})
    assert found == {name: labels for name, (_, labels) in listed().items()}


def test_promtool_finds_nothing_wrong_with_the_pages(system):
    for page in pages(system):
        checked = subprocess.run([PROMETHEUS / "promtool", "check", "metrics"], input=page, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_outcomes_are_those_of_the_list(system):
    found = set(re.findall(r'cloudpose_frames_total{[^}]*outcome="(\w+)"', pages(system)[0]))
    text = re.search(r"`outcome` is (.*?)\n\n", (REPOSITORY / "docs" / "metrics.md").read_text(), re.S)[1]
    assert found == set(re.findall(r"`(\w+)`", text))


def ask(system, expression):
    url = f"{system[1]}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        answer = json.loads(get(url, timeout=10))
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{expression}: {error.read().decode()}") from error
    return answer["data"]["result"]


@pytest.fixture(scope="module")
def settled(system):
    """Once the rules have been evaluated over some seconds of load."""
    wait_for(lambda: ask(system, "cloudpose:infer_offered_ratio"))
    return system


@pytest.mark.parametrize("panel", PANELS, ids=[f"{panel['id']} {panel['title']}" for panel in PANELS])
def test_every_panel_has_data(settled, panel):
    for target in panel["targets"]:
        expression = target["expr"].replace("$namespace", ".*").replace("$__rate_interval", "1m")
        result = ask(settled, expression)
        assert result, expression
        for series in result:
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            # The pool is the cluster's to tell.
            assert wanted - {"pool"} <= set(series["metric"]), (expression, series["metric"])


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_every_alert_looks_at_data(settled, alert):
    """What it compares is there; whether it fires, rules.test.yaml says."""
    looked_at = re.match(r"(.*)\s(?:>|<|==)\s[^<>=]*$", alert["expr"], re.S)[1]
    assert ask(settled, looked_at), looked_at


def test_every_recording_rule_has_data(settled):
    for name in RECORDED:
        assert ask(settled, name), name


def test_the_load_was_one(settled):
    """Live streams were thinned, pictures came back, and the ledger is closed."""
    assert float(ask(settled, 'sum(cloudpose_frames_total{outcome="superseded"})')[0]["value"][1]) > 0
    assert float(ask(settled, "sum(cloudpose_annotate_seconds_count)")[0]["value"][1]) > 0
    wait_for(lambda: all(float(s["value"][1]) == 0 for s in ask(settled, "cloudpose:frames_unexplained")))


def test_rules_and_panels_use_metrics_that_are_on_the_list():
    known = set(listed()) | set(RECORDED)
    expressions = [t["expr"] for panel in PANELS for t in panel["targets"]]
    expressions += [rule["expr"] for group in GROUPS for rule in group["rules"]]
    used = {name for e in expressions for name in re.findall(r"\b((?:cloudpose|process)[:_][\w:]+)", e)}
    assert {name for name in used if PARTS.sub("", name) not in known and name not in known} == set()


def test_panels_do_not_lie_on_one_another():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells


def test_prometheus_adapter_serves_what_horizontal_autoscalers_ask_for():
    values = yaml.safe_load((DEPLOY / "prometheus" / "adapter-values.yaml").read_text())
    (rule,) = values["rules"]["external"]
    documents = rendered("autoscaled-hpa")
    asked = [metric["external"]["metric"] for document in of_kind(documents, "HorizontalPodAutoscaler")
             for metric in document["spec"]["metrics"] if metric["type"] == "External"]
    recorded = of_kind(documents, "PrometheusRule")[0]["spec"]["groups"][0]["rules"]
    for metric in asked:
        assert rule["name"]["as"] == "$1" and re.fullmatch(rule["name"]["matches"], metric["name"])[1] == metric["name"]
        assert re.fullmatch(re.search(r'=~"(.*?)"', rule["seriesQuery"])[1], metric["name"])
        # Every label that it selects on survives the query.
        assert set(metric["selector"]["matchLabels"]) <= set(re.search(r"by \((.*?)\)", rule["metricsQuery"])[1].split(", "))
    for rule_recorded in recorded:
        assert set(re.findall(r'(\w+)!=""', rule["seriesQuery"])) <= set(rule_recorded["labels"])
