"""What goes through a nats-server, as a snapshot shows it."""

import asyncio
import json
from contextlib import asynccontextmanager

import nats
from exchange import CUT_OFF, SAMPLE
from nats.js.errors import NotFoundError
from normal import parse, picture

PATIENCE = 60
NAMES = {SAMPLE: "<sample.jpg>", CUT_OFF: "<sample.jpg cut off>"}
LANES = [f"cloudpose-{stage}-{kind}" for stage in ("infer", "annotate") for kind in ("live", "still")]


@asynccontextmanager
async def connected(gateway):
    client = await nats.connect(gateway.nats)
    try:
        yield client
    finally:
        await client.close()


# Workers say at times of their own what they serve, whatever anybody asks.
ANNOUNCEMENTS = "cloudpose.models"


async def overhear(gateway, count, talk):
    """The `count` messages that flow because of `talk`, and what came of it."""
    heard = asyncio.Queue()

    async def hear(message):
        if message.subject != ANNOUNCEMENTS:
            await heard.put(message)

    async with connected(gateway) as client:
        await client.subscribe("cloudpose.>", cb=hear)
        await client.flush()
        said = await talk
        messages = [await asyncio.wait_for(heard.get(), PATIENCE) for _ in range(count)]
        await client.flush()
        assert heard.empty(), f"one more: {heard.get_nowait().subject}"
        return messages, said


async def stored(client, stream, subject):
    """The newest message of `subject` in a stream, once there is one."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await client.jetstream().get_last_msg(stream, subject)
            except NotFoundError:
                await asyncio.sleep(0.02)


async def ask(client, subject):
    """What JetStream's API answers."""
    answer = json.loads((await client.request(f"$JS.API.{subject}", b"", timeout=PATIENCE)).data)
    assert "error" not in answer, answer
    return answer


def shown(message):
    """A message by its parts. NATS keeps no order of headers."""
    headers = {
        name: parse(value) if name.startswith("Cloudpose-") and value[0] == "{" else value
        for name, value in sorted((message.headers or {}).items())
    }
    return {"subject": message.subject, "headers": headers, "payload": payload(message.data)}


def payload(data):
    if not data:
        return None
    if data in NAMES:
        return NAMES[data]
    return picture(data) if data[:2] == b"\xff\xd8" else parse(data.decode())


def by_subject(messages):
    """Messages in their order within a subject; between subjects the broker promises none."""
    return sorted(map(shown, messages), key=lambda message: message["subject"].split(".")[1:3])
