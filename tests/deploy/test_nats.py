"""The bundled NATS: its configuration starts, roles work with its passwords, KEDA finds what it asks for."""

import base64
import json
import os
import re
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import DEPLOY, REPOSITORY, VENV, free_port, get, named, of_kind, rendered, roles, wait_for

NAME = "pose-cloudpose"


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    """The chart's Deployment as a process: `(client port, monitoring port, passwords)`."""
    folder = tmp_path_factory.mktemp("nats")
    documents = rendered("autoscaled-keda")
    for name, content in named(documents, "ConfigMap", f"{NAME}-nats")["data"].items():
        (folder / name).write_text(content)
    secret = named(documents, "Secret", f"{NAME}-nats")["data"]
    passwords = {key.removesuffix("-password"): base64.b64decode(value).decode() for key, value in secret.items()}
    box = named(documents, "Deployment", f"{NAME}-nats")["spec"]["template"]["spec"]["containers"][0]
    env = dict(os.environ)
    for entry in box["env"]:
        if "secretKeyRef" in entry["valueFrom"]:
            env[entry["name"]] = passwords[entry["valueFrom"]["secretKeyRef"]["key"].removesuffix("-password")]
    client, monitor = free_port(), free_port()
    args = [arg.replace("/etc/nats", str(folder)).replace("/data", str(folder)) for arg in box["args"]]
    args[args.index("--http_port") + 1] = str(monitor)
    server = VENV / "bin" / box["command"][0]
    process = subprocess.Popen([server, *args, "--addr", "127.0.0.1", "--port", str(client)], env=env,
                               stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: get(f"http://127.0.0.1:{monitor}/healthz"), process, seconds=30)
        yield client, monitor, passwords
    finally:
        process.kill()
        process.wait()


def containers(documents):
    """The roles' containers, by the name of their deployment."""
    return {d["metadata"]["name"]: d["spec"]["template"]["spec"]["containers"][0] for d in roles(documents)}


def test_roles_work_as_the_chart_starts_them(nats, cloudpose):
    """Each container's arguments and environment, on the server that the chart configures: a photo comes back annotated."""
    client, monitor, passwords = nats
    documents = rendered("small")
    shared = named(documents, "ConfigMap", NAME)["data"]
    processes, listens = [], {}
    try:
        for name, box in containers(documents).items():
            env = dict(os.environ) | shared
            for entry in box["env"]:
                env[entry["name"]] = entry.get("value", "")
            user = "gateway" if name.endswith("gateway") else "worker"
            env["CLOUDPOSE_NATS"] = (env["CLOUDPOSE_NATS"].replace("$(NATS_PASSWORD)", passwords[user])
                                     .replace(f"{NAME}-nats:4222", f"127.0.0.1:{client}"))
            assert passwords[user] in env["CLOUDPOSE_NATS"]
            # The container's ports, each as a free one of this machine.
            here = {port["name"]: free_port() for port in box["ports"]}
            for listen, port in (("CLOUDPOSE_LISTEN", "http"), ("CLOUDPOSE_OPS_LISTEN", "ops")):
                if listen in env:
                    env[listen] = f"127.0.0.1:{here[port]}"
            processes.append(subprocess.Popen([cloudpose, *box["args"]], env=env, stderr=subprocess.DEVNULL))
            listens[name] = here
        for (name, here), process in zip(listens.items(), processes, strict=True):
            box = containers(documents)[name]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = box[probe]["httpGet"]
                wait_for(lambda: get(f"http://127.0.0.1:{here[asked['port']]}{asked['path']}"), process, seconds=30)
        gateway = listens[f"{NAME}-gateway"]
        assert b"cloudpose_ready" in get(f"http://127.0.0.1:{gateway['ops']}/metrics")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"http://127.0.0.1:{gateway['http']}/metrics")
        photo = (REPOSITORY / "ingest" / "web" / "sample.jpg").read_bytes()
        request = urllib.request.Request(
            f"http://127.0.0.1:{gateway['http']}/v1/pose", data=photo,
            headers={"Content-Type": "image/jpeg", "Accept": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg" and answer.read(2) == b"\xff\xd8"
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(timeout=30) for process in processes]
    assert codes == [0] * len(codes)


def test_keda_finds_the_streams_and_consumers_it_asks_for(nats, cloudpose):
    """As KEDA's nats-jetstream scaler does: /jsz with the account, then the stream, then the consumer by its name."""
    client, monitor, passwords = nats
    env = dict(os.environ) | {"CLOUDPOSE_NATS": f"nats://worker:{passwords['worker']}@127.0.0.1:{client}"}
    port = free_port()
    worker = subprocess.Popen([cloudpose, "annotate", "--metrics-listen", f"127.0.0.1:{port}"], env=env,
                              stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: get(f"http://127.0.0.1:{port}/ready"), worker, seconds=30)
        asked = 0
        for document in of_kind(rendered("autoscaled-keda"), "ScaledObject"):
            for trigger in document["spec"]["triggers"]:
                if trigger["type"] != "nats-jetstream":
                    continue
                metadata = trigger["metadata"]
                answer = json.loads(get(f"http://127.0.0.1:{monitor}/jsz?acc={metadata['account']}&consumers=true&config=true"))
                account = next(a for a in answer["account_details"] if a["name"] == metadata["account"])
                stream = next(s for s in account["stream_detail"] if s["name"] == metadata["stream"])
                consumer = next(c for c in stream["consumer_detail"] if c["name"] == metadata["consumer"])
                assert {"num_pending", "num_ack_pending"} <= set(consumer)
                asked += 1
        assert asked >= 4
    finally:
        worker.kill()
        worker.wait()


def test_the_server_can_hold_its_lanes():
    """Its container may use what JetStream may, and half as much again for what is on its way."""
    config = (DEPLOY / "nats" / "nats-server.conf").read_text()
    store = int(re.search(r"max_memory_store: (\d+)GB", config)[1])
    box = named(rendered("defaults"), "Deployment", f"{NAME}-nats")["spec"]["template"]["spec"]["containers"][0]
    assert int(box["resources"]["limits"]["memory"].removesuffix("Gi")) >= 1.5 * store
