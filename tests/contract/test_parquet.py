"""`cloudpose record --to DIR`: every event once in Parquet files that other programs read, whoever dies meanwhile."""

import asyncio
import json
import signal
import subprocess
import time
from datetime import datetime, timezone

import duckdb
import nats
from processes import CLOUDPOSE, Processes

JOINTS = ["nose", "left_eye"]
# Five seconds before an hour begins.
BEGIN = int(datetime(2026, 11, 26, 22, 59, 55, tzinfo=timezone.utc).timestamp() * 1000)


def event(seq, stream="door", **output):
    joints = [{"name": name, "x": float(seq), "y": index + 0.5, "score": 0.75} for index, name in enumerate(JOINTS)]
    box = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    timings = dict.fromkeys(["queue", "decode", "preprocess", "inference", "postprocess"], 1.0)
    head = {"stream": stream, "seq": seq, "captured_at": BEGIN + 100 * seq, "width": 640, "height": 480}
    found = output or {"persons": [{"track_id": 7, "score": 0.5, "box": box, "keypoints": joints}] * (seq % 3)}
    return head | {"model": "fast", "device": "cpu"} | found | {"timings_ms": timings}


async def publish(url, events, tenant=""):
    client = await nats.connect(url)
    for event in events:
        kind = "classes" if "classes" in event else "poses"
        subject = f"cloudpose.{tenant}{kind}.{event['stream']}"
        await client.publish(subject, json.dumps(event).encode(), headers={"Cloudpose-Session": "s-1"})
    await client.drain()


class Recorder:
    def __init__(self, nats_url, folder):
        options = ["--nats", nats_url, "--to", folder, "--every", "1s", "--ops-listen", "127.0.0.1:0"]
        command = [CLOUDPOSE, "record", *map(str, options)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if "record: ready" in line:
                # It must never wait for us to read.
                subprocess.Popen(["cat"], stdin=self.process.stderr, stdout=subprocess.DEVNULL)
                return
        raise RuntimeError("it does not begin")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(60)


def rows(folder, query, partitions="hive_partitioning = true"):
    files = f"read_parquet('{folder}/**/*.parquet', {partitions})"
    return duckdb.connect().execute(query.replace("FILES", files)).fetchall()


def count(folder):
    return rows(folder, "SELECT count(*) FROM FILES")[0][0] if list(folder.glob("tenant=*/**/*.parquet")) else 0


def until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_events_are_read_as_they_were_by_hour_and_stream(tmp_path):
    folder = tmp_path / "poses"
    classes = [{"label": "helmet", "score": 0.75}, {"label": "cap", "score": 0.25}]
    with Processes() as processes:
        url = processes.nats(tmp_path / "nats")
        recorder = Recorder(url, folder)
        asyncio.run(publish(url, [event(seq) for seq in range(1, 101)]))
        # A worker died after it had published it: it comes again.
        asyncio.run(publish(url, [event(3)]))
        asyncio.run(publish(url, [event(1, "gate", classes=classes)], "tenants.acme."))
        # It writes what it holds.
        until(lambda: count(folder) > 0)
        assert recorder.end() == 0
        assert count(folder) == 101
    hours = rows(folder, "SELECT tenant, stream, date, hour, count(*) FROM FILES GROUP BY ALL ORDER BY ALL")
    day = datetime(2026, 11, 26).date()
    assert [(*row[:2], row[2], int(row[3]), row[4]) for row in hours] == [
        ("acme", "gate", day, 22, 1),
        ("default", "door", day, 22, 49),
        ("default", "door", day, 23, 51),
    ]
    columns = "epoch_ms(captured_at), session, seq, width, height, model, device, skeleton, classes, class_scores"
    (helmet,) = rows(folder, f"SELECT {columns} FROM FILES WHERE stream = 'gate'")
    assert helmet == (BEGIN + 100, "s-1", 1, 640, 480, "fast", "cpu", None, ["helmet", "cap"], [0.75, 0.25])
    assert rows(folder, "SELECT persons FROM FILES WHERE stream = 'gate'") == [(None,)]
    (nobody, one, two) = rows(folder, "SELECT persons, joints FROM FILES WHERE stream = 'door' AND seq IN (3, 4, 5) ORDER BY seq")
    assert (nobody, one[1], len(two[0])) == (([], None), JOINTS, 2)
    person = one[0][0]
    assert person == {
        "track_id": 7, "score": 0.5, "x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "coarse": False,
        "joint_x": [4.0, 4.0], "joint_y": [0.5, 1.5], "joint_score": [0.75, 0.75],
    }  # fmt: skip
    noses = "SELECT p.joint_x[list_position(joints, 'nose')] FROM (SELECT joints, unnest(persons) AS p FROM FILES WHERE seq = 5)"
    assert rows(folder, noses) == [(5.0,), (5.0,)]


def test_every_event_is_there_once_whoever_dies(tmp_path):
    folder, each = tmp_path / "poses", 500
    with Processes() as processes:
        url = processes.nats(tmp_path / "nats")
        recorder, sent = Recorder(url, folder), 0
        # Before it has written anything, right behind a file, and somewhere in between.
        for wait in (lambda: None, lambda: until(lambda: count(folder) > 0), lambda: time.sleep(0.5)):
            asyncio.run(publish(url, [event(seq) for seq in range(sent + 1, sent + each + 1)]))
            sent += each
            wait()
            assert recorder.end(signal.SIGKILL) == -signal.SIGKILL
            recorder = Recorder(url, folder)
        until(lambda: count(folder) >= sent)
        assert recorder.end() == 0
    total = rows(folder, "SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM FILES")
    assert total == [(sent, sent, 1, sent)]
    assert not list((folder / ".unfinished").glob("*.part"))


def test_a_second_one_stands_by_and_a_folder_that_says_no_ends_it(tmp_path):
    folder = tmp_path / "poses"
    with Processes() as processes:
        url = processes.nats(tmp_path / "nats")
        first = Recorder(url, folder)
        command = [CLOUDPOSE, "record", "--nats", url, "--to", folder, "--ops-listen", "127.0.0.1:0"]
        second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        seen = []
        for line in second.stderr:
            seen.append(line)
            if "standing by" in line:
                break
        assert not any("record: ready" in line for line in seen)
        first.end(signal.SIGKILL)
        assert any("record: ready" in line for line in iter(second.stderr.readline, ""))
        second.terminate()
        assert second.wait(60) == 0
        file = tmp_path / "file"
        file.touch()
        refused = subprocess.run([*command[:5], file, *command[6:]], capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 1 and "cannot use" in refused.stderr, refused.stderr
