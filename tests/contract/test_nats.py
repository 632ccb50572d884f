"""Every message between the roles and to subscribers, and how the lanes are set up."""

import asyncio
import time

import pytest
from broker import LANES, ask, by_subject, connected, overhear, shown, stored
from conversation import greeted
from exchange import CUT_OFF, JPEG, JSON, SAMPLE, base64_of, exchange, json_of
from normal import Normal
from processes import Processes

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACED = {"traceparent": TRACE}
PHOTO = json_of(id="photo", image=base64_of(SAMPLE))
OLD = "/api/pose_detection"
STILLS = {
    "still-pose": (3, "POST", "/v1/pose?model=lightning&min_score=0.5", JSON | TRACED, PHOTO),
    "still-overlay": (4, "POST", "/v1/pose?quality=30", JSON | TRACED | {"accept": "image/jpeg"}, PHOTO),
    "still-undecodable": (2, "POST", "/v1/pose", JPEG, CUT_OFF),
    "still-existing-pose": (3, "POST", OLD, JSON, PHOTO),
    "still-existing-overlay": (4, "POST", f"{OLD}_annotation", JSON, PHOTO),
}


@pytest.mark.parametrize("name", STILLS)
def test_single_image(system, snapshots, name):
    count, *request = STILLS[name]
    talk = asyncio.to_thread(exchange, system, *request)
    heard, _ = asyncio.run(overhear(system, count, talk))
    snapshots.check(f"nats-{name}", Normal()(by_subject(heard)))


async def session(gateway, query, headers):
    async with greeted(gateway, query, headers) as talk:
        for _ in range(2):
            await talk.image(SAMPLE, "sample.jpg")
            await talk.hear_result()


@pytest.mark.parametrize(
    "name, count, query, headers",
    [
        ("live", 8, "?stream=cam&want=both&model=lightning&max_age_ms=10000", TRACED),
        ("complete", 6, "?stream=cam&want=pose&model=lightning&mode=complete&smooth=false", {}),
    ],
)
def test_session(system, snapshots, name, count, query, headers):
    heard, _ = asyncio.run(overhear(system, count, session(system, query, headers)))
    assert all((message.headers or {}).get("traceparent") == headers.get("traceparent") for message in heard)
    snapshots.check(f"nats-session-{name}", Normal()(by_subject(heard)))


async def configurations(system):
    seen = {}
    async with connected(system) as client:
        seen["streams"] = sorted((await ask(client, "STREAM.NAMES"))["streams"])
        for lane in LANES:
            stream = (await ask(client, f"STREAM.INFO.{lane}"))["config"]
            consumers = (await ask(client, f"CONSUMER.NAMES.{lane}"))["consumers"]
            consumer = (await ask(client, f"CONSUMER.INFO.{lane}.workers"))["config"]
            for config in (stream, consumer):
                # The server's notes on itself.
                config.pop("metadata", None)
            seen[lane] = {"stream": stream, "consumers": consumers, "workers": consumer}
    return seen


def test_configuration_of_the_lanes(system, snapshots):
    snapshots.check("nats-lanes", asyncio.run(configurations(system)))


async def waiting(workless):
    """A live frame, a complete session's frame and a still, as they lie on their lanes; and what the still's client
    is told in the end."""
    async with connected(workless) as client:
        request = asyncio.to_thread(exchange, workless, "POST", "/v1/pose", JSON | TRACED, PHOTO)
        answer = asyncio.create_task(request)
        old = asyncio.create_task(asyncio.to_thread(exchange, workless, "POST", OLD, JSON, PHOTO))
        async with (
            greeted(workless, "?stream=live") as live,
            greeted(workless, "?stream=complete&mode=complete") as complete,
        ):
            for talk in (live, complete):
                await talk.image(SAMPLE, "sample.jpg")
            seen = {
                subject: shown(
                    await stored(client, f"cloudpose-infer-{subject.split('.')[0]}", f"cloudpose.infer.{subject}")
                )
                for subject in ["live.live", "still.complete", "still.photo"]
            }
        return seen | {"answer": await answer, "existing API": await old}


def test_frames_wait_on_their_lanes(workless, snapshots):
    seen = asyncio.run(waiting(workless))
    live, complete, still = (
        seen[subject]["headers"]["Cloudpose-Frame"]["deadline_ms"]
        for subject in ["live.live", "still.complete", "still.photo"]
    )
    assert (complete, still) == (60_000, 5_000) and 0 < live <= 1_000
    snapshots.check("nats-waiting", Normal()(seen))


async def with_a_full_lane(workless, talk):
    async with connected(workless) as client:
        jetstream = client.jetstream()
        await jetstream.purge_stream("cloudpose-infer-still")
        for _ in range(256):
            await jetstream.publish("cloudpose.infer.still.filler", b"")
        try:
            return await asyncio.to_thread(talk)
        finally:
            await jetstream.purge_stream("cloudpose-infer-still")


def test_full_lane(workless, snapshots):
    def posts():
        return {path: exchange(workless, "POST", path, JSON, PHOTO) for path in ["/v1/pose", OLD]}

    snapshots.check("nats-full", asyncio.run(with_a_full_lane(workless, posts)))


def wait_until_ready(gateway, status):
    while exchange(gateway, "GET", "/ready")["status"] != status:
        time.sleep(0.02)


def test_nats_server_that_is_gone(snapshots, tmp_path):
    with Processes() as processes:
        nats = processes.nats(tmp_path)
        gateway = processes.gateway("ingest", "--nats", nats)
        [server, _] = processes.running
        wait_until_ready(gateway, 200)
        server.terminate()
        wait_until_ready(gateway, 503)
        requests = {
            "GET /ready": ("GET", "/ready"),
            "GET /health": ("GET", "/health"),
            "POST /v1/pose": ("POST", "/v1/pose", JSON, PHOTO),
            f"POST {OLD}": ("POST", OLD, JSON, PHOTO),
        }
        snapshots.check("nats-gone", {name: exchange(gateway, *request) for name, request in requests.items()})
