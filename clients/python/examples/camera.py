"""A camera live: camera.py SOURCE [SERVER], where SOURCE is what PyAV opens, such as rtsp://… Needs cloudpose[video].

With OpenCV give `stream` a generator of `capture.read()[1]` instead, and `order="bgr"`.
"""

import asyncio
import sys

from cloudpose import AsyncClient, video


async def main(source: str, *server: str) -> None:
    async with AsyncClient(*server) as client:
        frames = client.stream(video.read(source), mode="live", name="camera")
        async for frame in frames:
            tracks = [person.track_id for person in frame.persons]
            print(frame.number, "tracks", tracks, f"{frame.latency_ms:.0f} ms", "dropped", dict(frames.dropped))


if len(sys.argv) < 2:
    sys.exit(__doc__)
asyncio.run(main(*sys.argv[1:]))
