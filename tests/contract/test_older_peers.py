"""Messages of roles that were started before an update: workers and gateways take them as they were.

They stand here as they were sent, and are never changed: a field that came later is not in them.
"""

import asyncio
import json
from base64 import b64encode

import pytest
from broker import by_subject, connected, stored
from conversation import greeted
from exchange import JSON, SAMPLE, base64_of, json_of, send
from normal import Normal, parse

JOINT = '{"x":400.0,"y":500.0,"vx":0.0,"vy":0.0,"score":0.9}'
TRACKS = (
    '{"at":1700000000000,"width":804,"height":1072,"tracks":[{"key":KEY,"id":ID,"seen_at":1700000000000,"size":600.0,'
    f'"joints":[{",".join([JOINT] * 17)}]}}]}}'
)
# As a worker begins it, and as it is after some frames.
NEW, KNOWN = TRACKS.replace("KEY", "0").replace("ID", "null"), TRACKS.replace("KEY", "3").replace("ID", "2")
FRAME = (
    '{"stream":"cam","seq":7,"kind":"KIND","reply":{"gateway":"gw-old","session":"s-old"},"received_at":1700000000100,'
    '"deadline_ms":10000,"want":"WANT","model":"lightning","quality":60,"min_score":0.2,"smooth":true'
)
NAMES = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist "
    "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
).split()
KEYPOINTS = ",".join(f'{{"name":"{name}","x":64.0,"y":128.0,"score":0.75}}' for name in NAMES)
POSE = (
    '{"stream":"photo","seq":1,"captured_at":1700000000100,"width":1024,"height":512,"model":"multipose","device":'
    '"cpu","persons":[{"track_id":null,"score":0.5,"box":{"x":32.0,"y":64.0,"width":50.5,"height":60.0},"keypoints":['
    f'{KEYPOINTS}]}}],"timings_ms":'
    '{"queue":1.5,"decode":2.5,"preprocess":0.5,"inference":10.0,"postprocess":0.25}}'
)
# That event as the existing API tells it.
DETECTION = (
    '{"id":"a","count":1,"boxes":[{"x":32.0,"y":64.0,"width":50.5,"height":60.0,"probability":0.5}],"keypoints":[['
    f"{','.join(['[0.0625,0.25,0.75]'] * 17)}]],"
    '"speed_preprocess":3.0,"speed_inference":10.0,"speed_postprocess":0.25}'
)
OVERLAY = b"\xff\xd8 the annotated picture"
REASONS = """superseded expired undecodable infer_failed annotate_failed late client_gone bus_lost queue_full
too_large bus_down shutting_down""".split()
FRAMES = {
    "live": ("infer.live", 2, {"Cloudpose-Frame": FRAME + f',"prior":{KNOWN}}}'}),
    "still": ("infer.still", 2, {"Cloudpose-Frame": FRAME + "}"}),
    "handed back too late": (
        "infer.still",
        1,
        {"Cloudpose-Frame": FRAME + "}", "Cloudpose-Attempt": "2", "Cloudpose-Since": "1700000000200000000"},
    ),
    "annotate": ("annotate.still", 1, {"Cloudpose-Frame": FRAME + "}", "Cloudpose-Pose": POSE}),
}


async def worked_on(system, lane, count, headers):
    heard = asyncio.Queue()
    async with connected(system) as client:
        for subject in ("cloudpose.results.gw-old.s-old", "cloudpose.poses.cam"):
            await client.subscribe(subject, cb=heard.put)
        await client.flush()
        kind, want = lane.split(".")[1], "overlay" if lane.startswith("annotate") else "pose"
        headers = headers | {
            "Cloudpose-Frame": headers["Cloudpose-Frame"].replace("KIND", kind).replace("WANT", want)
        }
        await client.jetstream().publish(f"cloudpose.{lane}.cam", SAMPLE, headers=headers)
        return by_subject([await asyncio.wait_for(heard.get(), 60) for _ in range(count)])


@pytest.mark.parametrize("name", FRAMES)
def test_worker_takes_a_frame(system, snapshots, name):
    done = Normal()(asyncio.run(worked_on(system, *FRAMES[name])))
    snapshots.check(f"older-frame-{name.replace(' ', '-')}", done)


def done(tracks="null"):
    return f'{{"done":{{"pose":{POSE},"tracks":{tracks}}}}}'


async def reply(client, message, body, overlay=b""):
    """Answers the frame in `message` as a worker does."""
    header = json.loads(message.headers["Cloudpose-Frame"])
    gateway, session = header["reply"]["gateway"], header["reply"]["session"]
    result = f'{{"reply":{{"gateway":"{gateway}","session":"{session}"}},"seq":{header["seq"]},"body":{body}}}'
    await client.publish(f"cloudpose.results.{gateway}.{session}", overlay, headers={"Cloudpose-Result": result})


async def answered(workless, path, body, accept="*/*"):
    """What a client is answered whose image ended with `body`: the status, and the bytes."""
    async with connected(workless) as client:
        await client.jetstream().purge_stream("cloudpose-infer-still")
        request = ("POST", path, JSON | {"accept": accept}, json_of(id="a", image=base64_of(SAMPLE)))
        answer = asyncio.create_task(asyncio.to_thread(send, workless, *request))
        await reply(client, await stored(client, "cloudpose-infer-still", "cloudpose.infer.still.*"), body, OVERLAY)
        status, _, body = await answer
        return status, body


@pytest.mark.parametrize(
    "path, accept, expected",
    [
        ("/v1/pose", "application/json", POSE.encode()),
        ("/v1/pose", "image/jpeg", OVERLAY),
        ("/api/pose_detection", "*/*", DETECTION.encode()),
        ("/api/pose_detection_annotation", "*/*", b'{"id":"a","image":"%s"}' % b64encode(OVERLAY)),
    ],
)
def test_gateway_answers_with_a_result(workless, path, accept, expected):
    assert asyncio.run(answered(workless, path, done(), accept)) == (200, expected)


def test_gateway_answers_with_what_went_wrong(workless, snapshots):
    seen = {}
    for reason in REASONS:
        for path in ["/v1/pose", "/api/pose_detection"]:
            body = f'{{"dropped":{{"reason":"{reason}","detail":"why"}}}}'
            status, answer = asyncio.run(answered(workless, path, body))
            seen[f"{path} {reason}"] = {"status": status, "body": parse(answer.decode())}
    snapshots.check("older-result-dropped", seen)


def test_gateway_hands_a_result_to_its_session(workless):
    async def session():
        async with (
            connected(workless) as client,
            greeted(workless, "?stream=older&want=both&max_age_ms=10000") as talk,
        ):
            priors = []
            for _ in range(2):
                await client.jetstream().purge_stream("cloudpose-infer-live")
                await talk.socket.send(SAMPLE)
                frame = await stored(client, "cloudpose-infer-live", "cloudpose.infer.live.older")
                priors.append(json.loads(frame.headers["Cloudpose-Frame"])["prior"])
                await reply(client, frame, done(NEW), OVERLAY)
                result = await talk.socket.recv()
                assert f'"pose":{POSE}' in result and '"overlay":true' in result
                assert await talk.socket.recv() == OVERLAY
            return priors

    first, second = asyncio.run(session())
    assert first["tracks"] == [], "nobody is known yet"
    assert second == json.loads(NEW.replace('"key":0', '"key":1')), "the tracks come with the next frame, numbered"
