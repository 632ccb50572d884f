"""What is said to clients that keep a gateway waiting, and to those that it cannot serve while its broker is gone.

What a body that does not arrive is answered (408 after a minute) is tested where the clock can be moved:
`ingest/src/doors/http/body.rs`.
"""

import asyncio
import re

import pytest
from conversation import greeted
from exchange import SAMPLE, exchange, send
from processes import Processes


@pytest.fixture(scope="module")
def impatient():
    """A gateway that waits for its clients no longer than it must."""
    with Processes() as processes:
        options = ["--write-timeout", "500ms", "--idle-timeout", "1s"]
        yield processes.gateway("serve", "--device", "cpu", *options)


async def told(gateway, marker):
    """Waits until `marker` matches in /metrics."""
    async with asyncio.timeout(60):
        while not re.search(marker, (await asyncio.to_thread(send, gateway, "GET", "/metrics"))[2].decode()):
            await asyncio.sleep(0.02)


def test_client_that_takes_nothing(impatient, snapshots):
    async def session():
        async with greeted(impatient, "?model=lightning&mode=complete&want=overlay&quality=100") as talk:
            talk.socket.transport.pause_reading()

            async def frames():
                while True:
                    await talk.socket.send(SAMPLE)

            # More than what lies between us can hold.
            sending = asyncio.create_task(frames())
            await told(impatient, r'outcome="client_gone"\} [1-9]')
            sending.cancel()
            talk.socket.transport.resume_reading()
            await talk.hear_all()
            return talk.normal()[-2:]

    snapshots.check("websocket-slow-reader", asyncio.run(session()))


def test_client_that_says_nothing(impatient, snapshots):
    async def session():
        async with greeted(impatient) as talk:
            # So it sends no pong either.
            talk.socket.transport.pause_reading()
            await told(impatient, r"cloudpose_sessions 0\n")
            talk.socket.transport.resume_reading()
            await talk.hear_all()
            return talk.normal()

    snapshots.check("websocket-idle", asyncio.run(session()))


def test_client_that_answers_pings_stays(impatient):
    async def session():
        async with greeted(impatient) as talk:
            await asyncio.sleep(2.5)
            await talk.control(type="end")
            await talk.hear_all()
            return talk.said[-1]

    assert asyncio.run(session())["closed"] == 1000


def test_broker_that_does_not_come_back(snapshots, tmp_path):
    async def session():
        with Processes() as processes:
            nats = processes.nats(tmp_path)
            gateway = processes.gateway("ingest", "--nats", nats, "--idle-timeout", "1s")
            async with greeted(gateway) as talk:
                await talk.control(type="configure", drops=True)
                processes.running[0].terminate()
                while exchange(gateway, "GET", "/ready")["status"] == 200:
                    await asyncio.sleep(0.02)
                await talk.image(SAMPLE, "sample.jpg")
                await talk.hear_all()
                return talk.normal()

    snapshots.check("websocket-unavailable", asyncio.run(session()))
