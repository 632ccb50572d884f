"""Those who have no NATS client, or want CloudEvents: the MQTT listener of deploy/nats/mqtt.conf, and the headers."""

import asyncio
import json
import re
import socket
import subprocess

import pytest
from broker import connected
from exchange import JPEG, SAMPLE, send
from processes import CLOUDPOSE, REPOSITORY, Processes

PATIENCE = 60
PASSWORDS = {name: f"of-{name}" for name in ("gateway", "worker", "listener")}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A nats-server with mqtt.conf, and a gateway and a worker on it: the gateway, and the port of MQTT."""
    folder = tmp_path_factory.mktemp("mqtt")
    mqtt = free_port()
    for config in (REPOSITORY / "deploy/nats").glob("*.conf"):
        text = config.read_text().replace("listen: 0.0.0.0:1883", f"listen: 127.0.0.1:{mqtt}")
        (folder / config.name).write_text(text)
    secrets = {f"CLOUDPOSE_{name.upper()}_PASSWORD": password for name, password in PASSWORDS.items()}
    with Processes() as processes, pytest.MonkeyPatch.context() as environment:
        for name, password in secrets.items():
            environment.setenv(name, password)
        url = processes.nats(folder / "store", folder / "mqtt.conf")
        address = url.removeprefix("nats://")
        of = {name: f"nats://{name}:{password}@{address}" for name, password in PASSWORDS.items()}
        for name in secrets:
            environment.delenv(name)
        processes.worker("infer", "--device", "cpu", "--nats", of["worker"], "--nats-cloudevents")
        gateway = processes.gateway("ingest", "--nats", of["gateway"], nats=of["listener"])
        yield gateway, mqtt


def mosquitto(port, *options, user="listener", password=PASSWORDS["listener"]):
    command = ["stdbuf", "-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-u", user, "-P", password, "-d", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def said(process, marker):
    """The first line of a subscriber that holds `marker`, or begins with it if that is a topic."""
    for line in process.stdout:
        if line.startswith(marker) or "/" not in marker and marker in line:
            return line
    raise AssertionError(f"it ended with {process.wait()} and never said {marker}")


@pytest.mark.parametrize("quality", ["0", "1"])
def test_events_reach_mqtt_as_they_are(broker, quality):
    gateway, port = broker
    listener = mosquitto(port, "-q", quality, "-t", "cloudpose/poses/+", "-v", "-C", "1")
    try:
        assert said(listener, "Subscribed").endswith(f": {quality}\n")
        told = json.loads(send(gateway, "POST", "/v1/pose?model=lightning", JPEG, SAMPLE)[2])
        topic, event = said(listener, "cloudpose/poses/").split(" ", 1)
        assert topic == f"cloudpose/poses/{told['stream']}"
        assert json.loads(event) == told
    finally:
        listener.kill()
        listener.wait()


@pytest.mark.parametrize(
    "user, says", [("gateway:of-gateway", "ok    NATS .*, which lets us in"), ("gateway:guessed", "bad   NATS .* does not let us in")]
)
def test_doctor_says_whether_nats_lets_us_in(broker, user, says):
    url = broker[0].nats.replace("listener:of-listener", user)
    told = subprocess.run([CLOUDPOSE, "doctor", "--listen", "127.0.0.1:0", "--nats", url], capture_output=True, text=True)
    assert re.search(says, told.stdout) and user not in told.stdout + told.stderr
    assert (told.returncode == 0) == says.startswith("ok")


def test_mqtt_lets_nobody_hear_more_than_events(broker):
    _, port = broker
    stranger = mosquitto(port, "-t", "cloudpose/poses/+", password="guessed")
    said(stranger, "not authorised")
    stranger.wait(PATIENCE)
    curious = mosquitto(port, "-t", "cloudpose/infer/#")
    said(curious, "denied")
    curious.wait(PATIENCE)


def test_events_are_cloudevents_if_asked_for(broker):
    gateway, _ = broker

    async def listen():
        heard = asyncio.Queue()
        async with connected(gateway) as client:
            await client.subscribe("cloudpose.poses.*", cb=heard.put)
            await client.flush()
            await asyncio.to_thread(send, gateway, "POST", "/v1/pose?model=lightning", JPEG, SAMPLE)
            return await asyncio.wait_for(heard.get(), PATIENCE)

    message = asyncio.run(listen())
    event = json.loads(message.data)
    headers = {name.lower(): value for name, value in message.headers.items()}
    assert headers["ce-specversion"] == "1.0" and headers["ce-type"] == "cloudpose.poses"
    assert headers["ce-source"] == f"/cloudpose/default/{event['stream']}" and headers["ce-subject"] == event["stream"]
    assert headers["ce-id"] == f"{event['captured_at']}-1" and headers["ce-time"].endswith("Z")
    assert headers["content-type"] == "application/json"
