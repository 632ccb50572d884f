"""What a stream takes of the uplink as H.264 and as JPEGs, at equal poses, and a Markdown table of it.

A clip is decoded by ffmpeg and sent to a `cloudpose serve` of its own three ways: as PNG (which loses nothing), as JPEG of quality
80, and as H.264 as the page sends it, encoded by Chromium (film.mjs; `make setup-test` installs what it needs). How right
poses are is how near they are to those of the PNGs, by COCO's object keypoint similarity.

    tests/.venv-clients/bin/python benches/video/uplink.py --binary target/release/cloudpose clip.mp4 [clip.mp4 …]
"""

import argparse
import asyncio
import base64
import json
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from websockets.asyncio.client import connect

# Of pycocotools, in the order of COCO-17.
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
SEEN = 0.3


def frames_of(clip, size, rate, count, *options):
    scale = f"fps={rate},scale={size}:force_original_aspect_ratio=decrease:force_divisible_by=2"
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", clip, "-vf", scale, "-frames:v", str(count), *options, "-"]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def pngs(clip, size, rate, count):
    stream = frames_of(clip, size, rate, count, "-c:v", "png", "-f", "image2pipe")
    return [b"\x89PNG" + part for part in stream.split(b"\x89PNG")[1:]]


def jpeg(png):
    """As a browser's canvas writes it: 4:2:0, quality 80."""
    out = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").save(out, "JPEG", quality=80, subsampling=2)
    return out.getvalue()


def units(originals):
    """What the page sends of each, or nothing where its encoder leaves one out."""
    with tempfile.TemporaryDirectory() as folder:
        for number, png in enumerate(originals):
            (Path(folder) / f"{number:06}.png").write_bytes(png)
        command = ["node", Path(__file__).with_name("film.mjs"), folder]
        lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()
    return [base64.b64decode(line) for line in lines]


async def poses(url, query, messages):
    """Of each frame its persons."""
    found = []
    async with connect(f"{url}?mode=complete&smooth=false&{query}", max_size=None) as socket:

        async def send():
            for message in messages:
                await socket.send(message)
            await socket.send(json.dumps({"type": "end"}))

        sending = asyncio.create_task(send())
        async for text in socket:
            said = json.loads(text)
            if said["type"] == "result":
                found.append(said["pose"]["persons"])
            elif said["type"] == "error":
                sys.exit(said["message"])
        await sending
    return found


def similarity(found, person):
    points = person["keypoints"]
    there = np.array([point["score"] >= SEEN for point in points])
    if not there.any():
        return 1.0
    area = max(1.0, 0.53 * person["box"]["width"] * person["box"]["height"])
    a, b = (np.array([(point["x"], point["y"]) for point in of["keypoints"]]) for of in (found, person))
    distance = ((a - b) ** 2).sum(1)
    return float(np.exp(-distance / (2 * area * (2 * SIGMAS) ** 2))[there].mean())


def mean_similarity(found, expected):
    """Over the persons that the PNGs show; 0 for one that is missing."""
    values = []
    for persons, right in zip(found, expected, strict=True):
        left = list(persons)
        for person in right:
            best = max(left, key=lambda other: similarity(other, person), default=None)
            values.append(0.0 if best is None else similarity(best, person))
            if best is not None:
                left.remove(best)
    return sum(values) / len(values), len(values)


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["fast"])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--size", default="1280:1280", help="longest sides, as ffmpeg's scale takes them")
    parser.add_argument("clips", nargs="+")
    arguments = parser.parse_args()
    server = subprocess.Popen(
        [arguments.binary, "serve", "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        url = next(line.split("http://")[1].split()[0] for line in server.stderr if "listening on http://" in line)
        url = f"ws://{url}/v1/stream"
        subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)
        models = " | ".join(f"similarity, `{model}`" for model in arguments.models)
        print(f"| clip | sent as | kB a frame | of the JPEGs | {models} |\n" + "|---" * (4 + len(arguments.models)) + "|")
        for clip in arguments.clips:
            await measure(url, clip, arguments)
    finally:
        server.terminate()
        server.wait()


async def measure(url, clip, arguments):
    originals = pngs(clip, arguments.size, arguments.rate, arguments.frames)
    filmed = units(originals)
    kept = [number for number, unit in enumerate(filmed) if unit]
    originals = [originals[number] for number in kept]
    jpegs, filmed = [jpeg(png) for png in originals], [filmed[number] for number in kept]
    expected = {model: await poses(url, f"model={model}", originals) for model in arguments.models}
    width, height = (int.from_bytes(originals[0][at : at + 4], "big") for at in (16, 20))
    name = f"{Path(clip).stem}, {width}×{height}, {len(originals)} frames"
    whole = sum(map(len, jpegs))
    for how, messages, query in [("JPEG, quality 80", jpegs, ""), ("H.264", filmed, "&codec=h264")]:
        right = []
        for model, persons in expected.items():
            found = await poses(url, f"model={model}{query}", messages)
            right.append("{:.3f} ({})".format(*mean_similarity(found, persons)))
        size = sum(map(len, messages))
        cells = [name, how, f"{size / len(messages) / 1000:.1f}", f"1/{whole / size:.1f}", *right]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
