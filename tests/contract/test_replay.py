"""`cloudpose capture`, `replay` and `diff`: frames of a live stream are kept, run again, and compared."""

import asyncio
import base64
import contextlib
import json
import re
import signal
import subprocess
import tarfile
import threading
import time
from html.parser import HTMLParser

from processes import CLOUDPOSE, REPOSITORY, Processes
from websockets.asyncio.client import connect

VIDEO = REPOSITORY / "infer/tests/video/two_people.mjpeg"
CLIP = REPOSITORY / "video/tests/clips/high_b_frames.mp4"
# It has no thumbnails inside.
FRAMES = [b"\xff\xd8\xff" + rest for rest in VIDEO.read_bytes().split(b"\xff\xd8\xff")[1:]]


def cloudpose(*arguments, code=0):
    done = subprocess.run([CLOUDPOSE, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stderr
    return done


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


@contextlib.contextmanager
def live(gateway, stream, headers=None):
    """Sends the video again and again, 10 frames a second, to whoever watches."""
    begun, over = threading.Event(), threading.Event()

    async def send():
        query = f"?stream={stream}&model=fast&max_age_ms=10000"
        async with connect(gateway.websocket + query, additional_headers=headers) as socket:
            reading = asyncio.create_task(read(socket))
            while not over.is_set():
                for frame in FRAMES:
                    if over.is_set():
                        break
                    await socket.send(frame)
                    await asyncio.sleep(0.1)
            reading.cancel()

    async def read(socket):
        async for _ in socket:
            begun.set()

    sender = threading.Thread(target=lambda: asyncio.run(send()))
    sender.start()
    assert begun.wait(60)
    try:
        yield
    finally:
        over.set()
        sender.join(60)


def kept(clip):
    """The frames of a clip, and their events."""
    with tarfile.open(clip) as archive:
        members = {member.name: archive.extractfile(member).read() for member in archive}
    count = len(members) // 2
    assert list(members) == [f"{n:06}.{suffix}" for n in range(1, count + 1) for suffix in ("jpg", "json")]
    images = [members[f"{n:06}.jpg"] for n in range(1, count + 1)]
    return images, [json.loads(members[f"{n:06}.json"]) for n in range(1, count + 1)]


def test_a_stream_is_kept_as_it_came_run_again_and_compared(gateway, tmp_path):
    clip = tmp_path / "clip.tar"
    with live(gateway, "kept"):
        # About ten frames.
        cloudpose("capture", "--server", gateway.http, "--stream", "kept", "--max-bytes", 350_000, "-o", clip)
    images, events = kept(clip)
    assert len(images) > 3
    for image, event in zip(images, events, strict=True):
        assert image == FRAMES[(event["seq"] - 1) % len(FRAMES)], "byte for byte, and with its own event"
        assert (event["stream"], event["model"]) == ("kept", "fast")

    outputs = [tmp_path / name for name in ("fast.jsonl", "again.jsonl")]
    for output in outputs:
        cloudpose("replay", clip, "--model", "fast", "-o", output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes(), "the same every time"
    replayed = lines(outputs[0].read_text())
    assert [line["frame"] for line in replayed] == list(range(1, len(images) + 1))
    assert [line["captured_at"] for line in replayed] == [event["captured_at"] for event in events]
    assert [len(line["persons"]) for line in replayed] == [len(event["persons"]) for event in events]

    told = json.loads(cloudpose("diff", clip, outputs[0], "--json").stdout)
    total = told["total"]
    assert (told["a"]["models"], total["frames"]) == (["fast"], len(images))
    assert (total["lost"], total["found"], total["frames_only_in_a"], total["frames_only_in_b"]) == (0, 0, 0, 0)
    # The server knew what came before the clip, and smoothed by it.
    assert total["oks"]["median"] > 0.95

    same = cloudpose("diff", outputs[0], outputs[1]).stdout
    assert "Both find the same" in same and "exactly in the same place" in same, same


def test_a_clip_of_who_was_killed_has_what_came_until_then(alone, tmp_path):
    clip = tmp_path / "clip.tar"
    with live(alone, "killed"):
        command = [CLOUDPOSE, "capture", "--server", alone.http, "--stream", "killed", "-o", clip]
        capture = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not clip.exists() or clip.stat().st_size < 100_000:
            time.sleep(0.01)
        capture.kill()
        capture.wait()
    done = cloudpose("replay", clip, "--model", "fast")
    assert "was cut off while it was written" in done.stderr
    assert len(lines(done.stdout)) > 1


def test_a_clip_is_whole_when_somebody_has_enough(alone, tmp_path):
    clip = tmp_path / "clip.tar"
    refused = cloudpose("capture", "--server", alone.http, "--stream", "enough", "-o", clip, code=1).stderr
    assert "nobody sends enough now" in refused and not clip.exists(), refused
    with live(alone, "enough"):
        command = [CLOUDPOSE, "capture", "--server", alone.http, "--stream", "enough", "-o", clip]
        capture = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not clip.exists() or clip.stat().st_size < 100_000:
            time.sleep(0.01)
        capture.send_signal(signal.SIGINT)
        said = capture.communicate(timeout=60)[1]
        assert capture.returncode == 0 and "frames in" in said, said
        assert "cut off" not in cloudpose("replay", clip, "--model", "fast").stderr
        # It is not written over.
        again = cloudpose("capture", "--server", alone.http, "--stream", "enough", "-o", clip, code=1)
        assert "choose another name" in again.stderr
        timed = cloudpose("capture", "--server", alone.http, "--stream", "enough", "--for", "1s", "-o", tmp_path / "timed.tar")
        assert "before the time" not in timed.stderr
        small = tmp_path / "small.tar"
        done = cloudpose("capture", "--server", alone.http, "--stream", "enough", "--max-bytes", 150_000, "-o", small)
        assert "--max-bytes was reached" in done.stderr and small.stat().st_size <= 150_000
        assert len(kept(small)[0]) >= 1


def test_who_may_not_see_frames_keeps_none(tmp_path):
    clip = tmp_path / "clip.tar"
    with Processes() as processes:
        gateway = processes.gateway("serve", "--device", "cpu", "--draw-only", "redacted")
        capture = ["capture", "--server", gateway.http, "-o", clip, "--stream"]
        with live(gateway, "private"):
            refused = cloudpose(*capture, "private", code=1).stderr
        assert "draw=redacted; frame is not to be had" in refused, refused

        keys = tmp_path / "keys.json"
        made = cloudpose("keys", "new", "sender", "--scopes", "stream", "--keys", keys).stdout
        key = re.search(r"cpk_\S+", made)[0]
        closed = processes.gateway("serve", "--device", "cpu", "--keys", keys)
        with live(closed, "private", {"authorization": f"Bearer {key}"}):
            capture[2] = closed.http
            assert "401" in cloudpose(*capture, "private", code=1).stderr
            refused = cloudpose(*capture, "private", "--key", key, code=1).stderr
            assert "403" in refused and "watch" in refused, refused
    assert not clip.exists()


def test_videos_and_folders_are_run_again_too_here_or_by_a_server(alone, tmp_path):
    for number, frame in enumerate(FRAMES[:5]):
        (tmp_path / f"{number}.jpg").write_bytes(frame)
    folder = lines(cloudpose("replay", tmp_path, "--model", "fast").stdout)
    video = lines(cloudpose("replay", VIDEO, "--model", "fast").stdout)
    assert [line["persons"] for line in folder] == [line["persons"] for line in video[:5]]
    assert len(lines(cloudpose("replay", CLIP, "--model", "fast").stdout)) == 24

    done = cloudpose("replay", VIDEO, "--model", "fast", "--server", alone.http)
    by_server = {line["frame"]: line for line in lines(done.stdout)}
    sent, worked_on = map(int, re.search(r"(\d+) frames sent, (\d+) done", done.stderr).groups())
    assert (sent, worked_on) == (100, len(by_server)) and worked_on > 3
    assert all(by_server[n]["captured_at"] == video[n - 1]["captured_at"] for n in by_server)
    refused = cloudpose("replay", VIDEO, "--model", "nothing", "--server", alone.http, code=1).stderr
    assert "unknown model nothing" in refused, refused


class Links(HTMLParser):
    """What a page asks for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def handle_starttag(self, tag, attrs):
        self.asked += [(tag, value) for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_shows_the_frames_that_differ_most_and_asks_nobody(tmp_path):
    results = {model: tmp_path / f"{model}.jsonl" for model in ("fast", "accurate")}
    for model, output in results.items():
        cloudpose("replay", VIDEO, "--model", model, "-o", output)
    page = tmp_path / "page.html"
    said = cloudpose("diff", *results.values(), "-o", page).stdout
    assert re.search(r"B \(accurate\) finds everybody whom A \(fast\) finds, and \d+ more", said), said
    html = page.read_text()
    links = Links()
    links.feed(html)
    assert links.asked and all(tag == "img" and value.startswith("data:image/jpeg;base64,") for tag, value in links.asked)
    assert "<script" not in html and "url(" not in html and "@import" not in html
    worst = json.loads(cloudpose("diff", *results.values(), "--json").stdout)["worst"]
    assert len(links.asked) == 2 * len(worst) > 2
    pictures = [base64.b64decode(value.split(",")[1]) for _, value in links.asked]
    assert all(picture[:2] == b"\xff\xd8" for picture in pictures) and len(set(pictures)) == len(pictures)
    assert all(f"<b>{frame['frame']}</b>" in html for frame in worst)

    # Without the frames there are the numbers.
    moved = tmp_path / "moved.jsonl"
    moved.write_text(results["fast"].read_text().replace(str(VIDEO), "gone.mjpeg"))
    done = cloudpose("diff", moved, moved, "-o", page)
    assert "Both find the same" in done.stdout
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text("")
    assert "there is no result in it" in cloudpose("diff", nothing, moved, code=1).stderr


def test_photos_are_compared_by_their_names(tmp_path):
    photos = REPOSITORY / "infer/tests/golden/images"
    found = tmp_path / "photos.jsonl"
    found.write_text(cloudpose("detect", photos, "--json", "--model", "fast").stdout)
    told = json.loads(cloudpose("diff", found, found, "--json").stdout)
    assert told["total"]["frames"] == len(list(photos.glob("*.jpg")))
    assert told["total"]["lost"] == told["total"]["found"] == 0
