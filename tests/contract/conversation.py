"""A WebSocket session as a snapshot shows it: what was said, in order, by both sides."""

import asyncio
import json
from contextlib import asynccontextmanager

from normal import Normal, parse, picture
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

PATIENCE = 60


class Conversation:
    def __init__(self, socket):
        self.socket = socket
        self.said = []

    async def image(self, image, name):
        self.said.append({"client": f"<{name}>"})
        await self.socket.send(image)

    async def text(self, text):
        self.said.append({"client": text})
        await self.socket.send(text)

    async def control(self, **message):
        await self.text(json.dumps(message))

    async def hear(self):
        """The next message. After the last one `None`."""
        try:
            message = await asyncio.wait_for(self.socket.recv(), PATIENCE)
        except ConnectionClosed:
            self.said.append({"closed": self.socket.close_code, "reason": self.socket.close_reason})
            return None
        heard = picture(message) if isinstance(message, bytes) else parse(message)
        self.said.append({"server": heard})
        return heard

    async def hear_result(self):
        """Hears a result, which must be next, and its picture."""
        result = await self.hear()
        assert result["type"] == "result", result
        if result["overlay"]:
            await self.hear()

    async def hear_all(self):
        while await self.hear():
            pass

    def normal(self):
        return Normal()(self.said)


@asynccontextmanager
async def converse(gateway, query="", headers=None):
    async with connect(gateway.websocket + query, additional_headers=headers, max_size=None) as socket:
        yield Conversation(socket)


@asynccontextmanager
async def greeted(gateway, query="", headers=None):
    """A conversation after the server's hello, which is not in it."""
    async with converse(gateway, query, headers) as conversation:
        hello = await conversation.hear()
        assert hello["type"] == "hello", hello
        conversation.said.clear()
        yield conversation
