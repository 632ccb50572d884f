"""Cameras that speak RTSP and show a coded clip over and over, in one process that does as little as it can.

    python camera.py CLIP.h264 --cameras 8 --fps 30

The clip is a byte stream with access unit delimiters (measure.py makes one). Camera N is at /N. On SIGTERM it writes when it has
sent which picture: JSON, by camera, seconds since 1970.
"""

import argparse
import asyncio
import base64
import json
import re
import signal
import struct
import time
from pathlib import Path

# Bytes of a packet.
MOST = 1400
CLOCK = 90_000


def access_units(stream):
    """Lists of units, without delimiters."""
    units = [unit for unit in re.split(rb"\x00\x00\x01", stream.replace(b"\x00\x00\x00\x01", b"\x00\x00\x01")) if unit]
    pictures = []
    for unit in units:
        if unit[0] & 31 == 9:
            pictures.append([])
        else:
            pictures[-1].append(unit)
    return pictures


def payloads(units):
    """Those of the packets of a picture (RFC 6184): whole units, and parts of long ones."""
    for unit in units:
        if len(unit) <= MOST:
            yield unit
            continue
        head, kind, rest = unit[0] & 0xE0 | 28, unit[0] & 31, unit[1:]
        for at in range(0, len(rest), MOST):
            flags = (at == 0) << 7 | (at + MOST >= len(rest)) << 6
            yield bytes((head, flags | kind)) + rest[at:at + MOST]


class Camera:
    """It films whether or not anybody looks: who comes gets what is filmed at that moment, as of cameras that people have."""

    def __init__(self, pictures, fps, phase):
        self.pictures, self.fps, self.sent = pictures, fps, []
        # Key frames are a second apart; each camera has its own moment for them.
        self.begun = time.time() - phase

    async def show(self, writer):
        sequence, shown = 0, int((time.time() - self.begun) * self.fps) + 1
        while True:
            await asyncio.sleep(self.begun + shown / self.fps - time.time())
            packets = self.pictures[shown % len(self.pictures)]
            out, stamp = [], shown * CLOCK // self.fps & 0xFFFFFFFF
            for index, payload in enumerate(packets):
                marker = (index == len(packets) - 1) << 7
                length = 12 + len(payload)
                head = struct.pack(">BBHBBHII", 0x24, 0, length, 0x80, marker | 96, sequence & 0xFFFF, stamp, 7)
                out += head, payload
                sequence += 1
            self.sent.append(time.time())
            writer.write(b"".join(out))
            await writer.drain()
            shown += 1


async def serve(reader, writer, cameras, sets):
    showing = None
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, url, _ = head.split(" ", 2)
            number = re.search(r"CSeq: *(\d+)", head, re.I)[1]
            camera = cameras[int(re.search(r"/(\d+)(?:/|$)", url)[1])]
            more, body = "Session: 1\r\n", ""
            if method == "DESCRIBE":
                body = ("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\na=control:*\r\n"
                        f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/{CLOCK}\r\n"
                        f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}\r\na=control:video\r\n")
                more = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
            elif method == "SETUP":
                more += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            elif method == "PLAY":
                more += f"RTP-Info: url={url}/video;seq=0;rtptime=0\r\n"
            elif method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            writer.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{more}\r\n{body}".encode())
            if method == "PLAY":
                showing = asyncio.ensure_future(camera.show(writer))
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        pass
    finally:
        if showing:
            showing.cancel()
        writer.close()


async def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("clip", type=Path)
    options.add_argument("--cameras", type=int, default=8)
    options.add_argument("--fps", type=int, default=30)
    options.add_argument("--port", type=int, default=0)
    options = options.parse_args()
    pictures = access_units(options.clip.read_bytes())
    sets = ",".join(base64.b64encode(unit).decode() for unit in pictures[0] if unit[0] & 31 in (7, 8))
    packets = [list(payloads(picture)) for picture in pictures]
    cameras = [Camera(packets, options.fps, n / options.cameras) for n in range(options.cameras)]
    handler = lambda reader, writer: serve(reader, writer, cameras, sets)  # noqa: E731
    server = await asyncio.start_server(handler, "127.0.0.1", options.port)
    print(f"cameras on {server.sockets[0].getsockname()[1]}", flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    print(json.dumps([camera.sent for camera in cameras]), flush=True)


asyncio.run(main())
