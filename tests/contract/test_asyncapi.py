"""docs/asyncapi.yaml is AsyncAPI 3, and tells the truth about every message of a running system."""

import asyncio
import json
import re
import select
import subprocess
import sys
from urllib.request import Request, urlopen

import nats
import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, ValidationError
from processes import REPOSITORY
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from websockets.asyncio.client import connect

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PEOPLE = (REPOSITORY / "infer/tests/golden/images/multi_cam01_f000.jpg").read_bytes()
DOCUMENT = yaml.safe_load((REPOSITORY / "docs/asyncapi.yaml").read_text())
REGISTRY = Registry().with_resource("urn:doc", Resource(DOCUMENT, DRAFT202012))


def check(schema, value):
    """Holds `value` against a schema of the document, and against what its strings hold as JSON."""
    validator = Draft202012Validator({"$ref": f"urn:doc#/components/schemas/{schema}"}, registry=REGISTRY)
    validator.validate(value)
    for name, field in DOCUMENT["components"]["schemas"][schema].get("properties", {}).items():
        if "contentSchema" in field and name in value:
            check(field["contentSchema"]["$ref"].rsplit("/", 1)[1], json.loads(value[name]))


def test_the_document_is_asyncapi_3():
    schemas = REPOSITORY / "tests/contract/node_modules/@asyncapi/specs/schemas"
    Draft7Validator(json.loads((schemas / "3.0.0.json").read_text())).validate(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_its_examples_are_what_it_says():
    for message in DOCUMENT["components"]["messages"].values():
        for example in message.get("examples", []):
            check(message["payload"]["$ref"].rsplit("/", 1)[1], example["payload"])


TIMINGS = dict.fromkeys(["queue", "decode", "preprocess", "inference", "postprocess"], 1)
EVENT = {"stream": "s", "seq": 1, "captured_at": 1, "width": 1, "height": 1, "model": "m", "device": "cpu", "timings_ms": TIMINGS}
TOP = {"name": "top", "x": 1, "y": 1, "score": 1}
PERSON = {"track_id": None, "score": 1, "box": dict.fromkeys(["x", "y", "width", "height"], 1), "keypoints": [TOP]}


def test_events_of_other_skeletons_and_tasks_are_described():
    check("Event", EVENT | {"skeleton": "kite-5", "persons": [PERSON]})
    check("Event", EVENT | {"classes": [{"label": "cat", "score": 1}]})
    for nothing in [{"persons": [PERSON]}, {"persons": [], "classes": []}, {}]:
        with pytest.raises(ValidationError):
            check("Event", EVENT | nothing)


@pytest.mark.parametrize(
    "wrong", [{"type": "hint"}, {"type": "hint", "fps": 1, "more": 1}, {"type": "hint", "fps": "1"}]
)
def test_what_it_does_not_say_is_refused(wrong):
    with pytest.raises(Exception, match="fps|more|is not of type"):
        check("Hint", wrong)


async def overhear(system, talk):
    """Every message on NATS while `talk` goes on: subject, headers, payload."""
    heard = []
    client = await nats.connect(system.nats)

    async def note(message):
        heard.append((message.subject, message.headers or {}, message.data))

    await client.subscribe("cloudpose.>", cb=note)
    await client.publish("cloudpose.models.ask")
    await client.flush()
    said = await talk
    await asyncio.sleep(0.2)
    await client.drain()
    return heard, said


async def stream(system):
    """A session that gets every kind of message; all its texts, and how many pictures."""
    texts, pictures = [], 0
    async with connect(
        f"{system.websocket}?stream=cam&want=both&model=lightning", additional_headers={"traceparent": TRACE}
    ) as socket:

        async def hear():
            nonlocal pictures
            async for message in socket:
                if isinstance(message, bytes):
                    pictures += 1
                else:
                    texts.append(json.loads(message))

        hearing = asyncio.create_task(hear())
        await socket.send(json.dumps({"type": "configure", "drops": True}))
        await socket.send("nonsense")
        await socket.send(b"no image")
        # Far more than two workers can do, until that is said.
        while not any(text["type"] == "hint" for text in texts):
            await socket.send(PEOPLE)
            await asyncio.sleep(0.002)
        await socket.send(json.dumps({"type": "end"}))
        await asyncio.wait_for(hearing, 60)
    return texts, pictures


def test_every_message_of_a_session_is_as_described(system):
    heard, (texts, pictures) = asyncio.run(overhear(system, stream(system)))
    names = {"hello": "Hello", "result": "Result", "drop": "Drop", "hint": "Hint", "error": "Error"}
    assert {text["type"] for text in texts} == set(names)
    for text in texts:
        check(names[text["type"]], text)
    assert pictures == sum(text.get("overlay", False) for text in texts) > 0
    subjects = {
        r"cloudpose\.poses\.cam": ("EventHeaders", "PoseEvent"),
        r"cloudpose\.(infer|annotate)\.live\.cam": ("FrameHeaders", None),
        r"cloudpose\.results\.[\w-]+\.[\w-]+": ("ResultHeaders", None),
        r"cloudpose\.models": (None, "Announcement"),
        r"cloudpose\.models\.ask": (None, None),
    }
    seen = set()
    for subject, headers, payload in heard:
        pattern = next(pattern for pattern in subjects if re.fullmatch(pattern, subject))
        seen.add(pattern)
        headers_schema, payload_schema = subjects[pattern]
        if headers_schema:
            check(headers_schema, headers)
            assert headers["traceparent"] == TRACE, subject
        if payload_schema:
            check(payload_schema, json.loads(payload))
    assert seen == set(subjects)
    tracks = [text["pose"]["persons"] for text in texts if text["type"] == "result"]
    assert any(person["track_id"] for persons in tracks for person in persons), "someone was followed"


async def watched(system):
    """What one who watches a session with poses only gets: a message of each kind, and a picture."""
    url = system.websocket.replace("/v1/stream", "/v1/streams/watched")
    async with connect(f"{system.websocket}?stream=watched&model=lightning&max_age_ms=10000") as sender:
        # Greeted, it is a stream that can be watched.
        assert json.loads(await sender.recv())["type"] == "hello"
        async with connect(f"{url}/watch?want=both&draw=redacted&fps=30") as spectator:
            texts = [json.loads(await spectator.recv())]

            async def send():
                while True:
                    await sender.send(PEOPLE)
                    while json.loads(await sender.recv())["type"] != "result":
                        pass

            sending = asyncio.create_task(send())
            texts.append(json.loads(await asyncio.wait_for(spectator.recv(), 60)))
            picture = await asyncio.wait_for(spectator.recv(), 60)
            sending.cancel()
            await spectator.send("nonsense")
            while texts[-1]["type"] != "error":
                heard = await asyncio.wait_for(spectator.recv(), 60)
                texts += [json.loads(heard)] if isinstance(heard, str) else []
    return texts, picture


def test_every_message_to_one_who_watches_is_as_described(system):
    heard, (texts, picture) = asyncio.run(overhear(system, watched(system)))
    names = {"hello": "WatchHello", "result": "WatchResult", "error": "WatchError"}
    assert [text["type"] for text in texts[:2]] == ["hello", "result"]
    for text in texts:
        check(names[text["type"]], text)
    assert texts[1]["overlay"] and texts[1]["pose"]["persons"] and picture[:2] == b"\xff\xd8"
    news = [json.loads(payload) for subject, _, payload in heard if subject == "cloudpose.gateways"]
    assert any(said.get("watched") for said in news)
    for said in news:
        check("News", said)
    asides = [headers for _, headers, _ in heard if '"aside":true' in headers.get("Cloudpose-Frame", "")]
    results = [headers for _, headers, _ in heard if '"aside":true' in headers.get("Cloudpose-Result", "")]
    assert asides and results
    for headers in asides:
        check("FrameHeaders", headers)
    for headers in results:
        check("ResultHeaders", headers)
    assert not any(subject.startswith("cloudpose.watch.") for subject, _, _ in heard), "nobody watches at another gateway"


async def video(system):
    """What is said to a session that sends video which cannot be decoded."""
    texts = []
    async with connect(f"{system.websocket}?stream=film&codec=h264") as socket:
        await socket.send(json.dumps({"type": "configure", "drops": True}))
        for unit in [b"", bytes(9), b"\1" + bytes(8) + b"no video", bytes(9) + b"\0\0\1\x41"]:
            await socket.send(unit)
        await socket.send(json.dumps({"type": "end"}))
        async for text in socket:
            texts.append(json.loads(text))
    return texts


def test_every_message_about_video_is_as_described(system):
    texts = asyncio.run(asyncio.wait_for(video(system), 60))
    names = {"hello": "Hello", "drop": "Drop", "keyframe": "Keyframe", "error": "Error"}
    assert {text["type"] for text in texts} == set(names)
    for text in texts:
        check(names[text["type"]], text)
    assert texts[0]["codec"] == "h264"
    check("Hint", {"type": "hint", "fps": 12.5, "bitrate": 1_000_000})


async def silence(system):
    """Waits until gateways tell each other nothing: what they tell comes once a second."""
    client = await nats.connect(system.nats)
    told = await client.subscribe("cloudpose.gateways")
    try:
        while True:
            await told.next_msg(timeout=3)
    except nats.errors.TimeoutError:
        await client.close()


def test_gateways_fall_silent_when_nobody_watches(system):
    asyncio.run(overhear(system, watched(system)))
    asyncio.run(asyncio.wait_for(silence(system), 60))


def post(system, image):
    return urlopen(Request(f"{system.http}/v1/pose", image, {"content-type": "image/jpeg"}), timeout=60).read()


def test_every_message_about_a_single_image_is_as_described(system):
    heard, answer = asyncio.run(overhear(system, asyncio.to_thread(post, system, PEOPLE)))
    frames = [headers for subject, headers, _ in heard if ".infer.still." in subject]
    events = [json.loads(payload) for subject, _, payload in heard if ".poses." in subject]
    results = [headers for subject, headers, _ in heard if ".results." in subject]
    assert [len(kind) for kind in (frames, events, results)] == [1, 1, 1]
    check("FrameHeaders", frames[0])
    check("ResultHeaders", results[0])
    check("PoseEvent", events[0])
    assert events[0] == json.loads(answer), "subscribers see what the client sees"


def test_the_documented_subscriber_works(system):
    [program] = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/events.md").read_text(), re.S)
    program = program.replace("nats://127.0.0.1:4222", system.nats)
    listener = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        # It has no way to say that it listens.
        for _ in range(50):
            post(system, PEOPLE)
            if listener.poll() is None and line_within(listener, 1):
                return
        pytest.fail("the documented subscriber heard nothing")
    finally:
        listener.kill()
        listener.wait()


def line_within(process, seconds):
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    return bool(ready) and " people" in process.stdout.readline()
