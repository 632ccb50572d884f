"""Every message of `GET /v1/stream`, and how it closes."""

import asyncio

import pytest
from conversation import converse, greeted
from exchange import CUT_OFF, SAMPLE
from processes import Processes

HELLOS = [
    "",
    "?stream=cam&want=both&model=lightning&mode=complete&max_age_ms=250&quality=40&smooth=false",
    "?want=overlay&model=thunder&mode=live",
]
BAD_QUERIES = [
    "?stream=a.b",
    "?want=all",
    "?model=yolo",
    "?mode=slow",
    "?max_age_ms=0",
    "?max_age_ms=10001",
    "?quality=0",
    "?smooth=1",
    "?size=3",
]


@pytest.mark.parametrize("way", ["alone", "system"])
def test_hello(request, snapshots, way):
    async def session(query):
        async with converse(request.getfixturevalue(way), query) as talk:
            await talk.hear()
            await talk.control(type="end")
            await talk.hear_all()
            return talk.normal()

    # What a gateway takes depends on what its bus carries.
    name = {"alone": "websocket-hello", "system": "websocket-hello-on-nats"}[way]
    snapshots.check(name, {query: asyncio.run(session(query)) for query in HELLOS})


async def frames(gateway, query, model="lightning"):
    async with greeted(gateway, f"?stream=cam&model={model}&{query}") as talk:
        for _ in range(3):
            await talk.image(SAMPLE, "sample.jpg")
            await talk.hear_result()
        await talk.control(type="end")
        await talk.hear_all()
        return talk.normal()


@pytest.mark.parametrize("want", ["pose", "overlay", "both"])
def test_results(gateway, snapshots, want):
    live = asyncio.run(frames(gateway, f"want={want}&mode=live&max_age_ms=10000"))
    snapshots.check(f"websocket-result-{want}", live)
    complete = asyncio.run(frames(gateway, f"want={want}&mode=complete"))
    assert complete == live, "both modes say the same when nothing is dropped"


def test_results_of_a_classifier(gateway, snapshots):
    said = asyncio.run(frames(gateway, "want=pose&mode=complete", "efficientnet-lite0"))
    snapshots.check("websocket-result-classes", said)


def test_complete_mode_answers_every_frame_in_order(gateway):
    async def session():
        async with greeted(gateway, "?model=lightning&mode=complete") as talk:
            sending = [talk.image(SAMPLE, "sample.jpg") for _ in range(8)]
            await asyncio.gather(*sending, talk.control(type="end"))
            await talk.hear_all()
            return [said["server"] for said in talk.said if "server" in said]

    results = asyncio.run(session())
    assert [(result["type"], result["seq"], result["dropped"]) for result in results] == [
        ("result", seq, {}) for seq in range(1, 9)
    ]


def test_configure(gateway, snapshots):
    async def session():
        async with greeted(gateway, "?model=lightning&max_age_ms=10000") as talk:
            for settings in [
                {"want": "both", "quality": 20, "smooth": False},
                {"want": "overlay"},
                {"model": "thunder"},
            ]:
                await talk.control(type="configure", **settings)
                await talk.image(SAMPLE, "sample.jpg")
                await talk.hear_result()
            await talk.control(type="end")
            await talk.hear_all()
            return talk.normal()

    snapshots.check("websocket-configure", asyncio.run(session()))


def test_errors_that_do_not_close(gateway, snapshots):
    async def session():
        async with greeted(gateway, "?max_age_ms=10000") as talk:
            await talk.image(b"no image", "no image")
            await talk.hear()
            await talk.control(type="configure", drops=True)
            for image, name in [(b"no image", "no image"), (b"", "nothing"), (CUT_OFF, "sample.jpg cut off")]:
                await talk.image(image, name)
                await talk.hear()
                await talk.hear()
            texts = [
                "nonsense",
                "{}",
                '{"type":"stop"}',
                '{"type":"configure","quality":0}',
                '{"type":"configure","fps":1}',
            ]
            for text in texts:
                await talk.text(text)
                await talk.hear()
            await talk.image(SAMPLE, "sample.jpg")
            await talk.hear_result()
            await talk.control(type="end")
            await talk.hear_all()
            return talk.normal()

    snapshots.check("websocket-errors", asyncio.run(session()))


def test_errors_that_close(gateway, snapshots):
    async def refused(query):
        async with converse(gateway, query) as talk:
            await talk.hear_all()
            return talk.normal()

    async def not_text():
        async with greeted(gateway) as talk:
            await talk.socket.send(b"\xff", text=True)
            await talk.hear_all()
            return talk.normal()

    closed = {query: asyncio.run(refused(query)) for query in BAD_QUERIES}
    snapshots.check("websocket-closed", closed | {"text that is not UTF-8": asyncio.run(not_text())})


def test_too_large_a_message(alone, snapshots):
    async def session(message):
        async with greeted(alone) as talk:
            await talk.socket.send(message)
            await talk.hear_all()
            return talk.normal()

    large = (8 << 20) + 1
    closed = {"image": asyncio.run(session(b"\xff" * large)), "text": asyncio.run(session("x" * large))}
    snapshots.check("websocket-too-large", closed)


def test_hint_and_superseded_frames(alone, snapshots):
    async def session():
        first = {}
        async with greeted(alone, "?model=lightning") as talk:
            await talk.control(type="configure", drops=True)

            async def hear():
                while heard := await talk.hear():
                    first.setdefault(heard["type"], heard)

            hearing = asyncio.create_task(hear())
            # Far more than can be done, until that is said.
            while "hint" not in first:
                await talk.socket.send(SAMPLE)
                await asyncio.sleep(0.002)
            await talk.control(type="end")
            await hearing
            for said in (first["hint"], first["drop"] | {"seq": "<seq>"}):
                talk.said.append({"server": said})
            return talk.normal()[-2:]

    snapshots.check("websocket-too-fast", asyncio.run(session()))


def test_frame_that_nobody_works_on(workless, snapshots):
    async def session():
        async with greeted(workless, "?max_age_ms=300") as talk:
            await talk.control(type="configure", drops=True)
            await talk.image(SAMPLE, "sample.jpg")
            await talk.control(type="end")
            await talk.image(SAMPLE, "sample.jpg")
            await talk.hear_all()
            return talk.normal()

    snapshots.check("websocket-expired", asyncio.run(session()))


def test_server_that_goes_away(snapshots):
    async def session():
        with Processes() as processes:
            gateway = processes.gateway("serve", "--device", "cpu")
            async with greeted(gateway) as talk:
                processes.running[0].terminate()
                await talk.hear_all()
                return talk.normal()

    snapshots.check("websocket-shutdown", asyncio.run(session()))
