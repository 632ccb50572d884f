"""What the fuzzer begins with: pictures and clips of the tests, and a request or message of each kind.

    python3 fuzz/seeds.py FOLDER
"""

import base64
import json
import struct
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PICTURES = sorted([*(REPOSITORY / "pixels/tests/data").glob("*.*"), *(REPOSITORY / "ingest/tests/images").iterdir()])
CLIPS = sorted((REPOSITORY / "video/tests/clips").glob("*.mp4"))
JPEG = (REPOSITORY / "ingest/tests/images/small.jpg").read_bytes()
ADDRESS = {"gateway": "g", "session": "s"}
TIMES = {"queue": 0, "decode": 1, "preprocess": 0, "inference": 2, "postprocess": 0}


def request(method: str, path: str, body: bytes = b"", kind: str = "", **headers: str) -> bytes:
    if body:
        headers |= {"content-length": str(len(body)), "content-type": kind or "application/json"}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nhost: h\r\n{lines}\r\n".encode() + body


def form(**fields: bytes) -> tuple[bytes, str]:
    parts = [f'--b\r\ncontent-disposition: form-data; name="{name}"; filename="a.jpg"\r\n\r\n'.encode() + value + b"\r\n"
             for name, value in fields.items()]
    return b"".join(parts) + b"--b--\r\n", "multipart/form-data; boundary=b"


def http():
    """One request for each address that takes something."""
    text = base64.b64encode(JPEG).decode()
    tensors = json.dumps({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES"}]}).encode()
    said = lambda value: json.dumps(value).encode()
    yield request("POST", "/v1/pose?model=fast&want=both&min_score=0.5&quality=70", JPEG, "image/jpeg", traceparent="00-1-2-01")
    yield request("POST", "/v1/pose", said({"image": text}))
    yield request("POST", "/v1/pose", *form(file=JPEG))
    yield request("POST", "/v1/classify?top=3", JPEG, "image/jpeg")
    yield request("POST", "/v1/jobs?want=both", *form(file=JPEG), idempotency_key="k")
    yield request("POST", "/upload", *form(file=JPEG))
    yield request("POST", "/predict", *form(file=JPEG))
    yield request("POST", "/api/pose_detection", said({"id": "1", "image": text}))
    yield request("POST", "/api/pose_detection_annotation", said({"id": "1", "image": text}))
    yield request("POST", "/v1/tickets", said({"scopes": ["stream"]}), authorization="Bearer x")
    yield request("POST", "/v1/cameras", said({"stream": "door", "url": "rtsp://10.0.0.1/a", "fps": 5}))
    yield request("PATCH", "/v1/cameras/door", said({"fps": 2}))
    yield request("POST", "/v2/models/fast/infer",
                  said({"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [text]}]}))
    yield request("POST", "/v2/models/fast/infer", tensors + struct.pack("<I", len(JPEG)) + JPEG, "application/octet-stream",
                  inference_header_content_length=str(len(tensors)))
    yield request("POST", "/infer/keypoints_detection", said({"model_id": "fast/1", "image": [{"type": "base64", "value": text}]}))
    yield request("POST", "/v1/pose", f"{len(JPEG):x}\r\n".encode() + JPEG + b"\r\n0\r\n\r\n", transfer_encoding="chunked")
    for path in ("/v1/streams", "/v1/streams/cam?fps=5&draw=skeleton", "/v1/jobs/job-1/results?after=1&limit=2",
                 "/v1/jobs/job-1/items/1/overlay", "/status/1", "/v2/models/fast/config", "/docs", "/openapi.json"):
        yield request("GET", path, range="bytes=0-", if_none_match="x", accept="*/*", origin="http://h")


def websocket():
    yield b"stream=cam&want=both&mode=complete&credits=1\n" + b"".join(
        bytes([kind, len(said)]) + said
        for kind, said in ((0, b'{"type":"configure","want":"both","draw":"skeleton","model":"fast","quality":70,"drops":true}'),
                           (4, JPEG[:255]), (5, b"ping"), (0, b'{"type":"end"}'), (7, b"\x03\xe8bye")))
    yield b"codec=h264&max_age_ms=500&smooth=true\n" + bytes([4, 40]) + b"\x01" + bytes(8) + b"\0\0\0\x01\x67\x42\xc0\x1e" + bytes(23)


def messages():
    person = {"id": 1, "score": 0.9, "box": {"left": 0.1, "top": 0.1, "width": 0.5, "height": 0.5},
              "keypoints": [{"x": 0.5, "y": 0.5, "score": 0.9}] * 17}
    event = {"stream": "cam", "seq": 3, "captured_at": 1, "width": 64, "height": 48, "model": "m", "device": "cpu",
             "timings_ms": TIMES}
    poses, classes = event | {"skeleton": "coco-17", "persons": [person]}, event | {"classes": [{"name": "a", "score": 0.5}]}
    header = {"kind": "live", "reply": ADDRESS, "stream": "cam", "seq": 1, "captured_at": 1, "received_at": 1, "deadline_ms": 500,
              "want": "both", "model": "fast", "quality": 80, "caller": {"tenant": "a"}}
    yield from (b"\0" + json.dumps(header).encode(), b"\2" + json.dumps(poses).encode(), b"\2" + json.dumps(classes).encode())
    yield b"\1" + json.dumps({"reply": ADDRESS, "seq": 1, "done": {"event": poses}}).encode()
    yield b"\1" + json.dumps({"reply": {"job": "j"}, "seq": 1, "dropped": {"reason": "expired", "detail": ""}}).encode()
    yield b"\5" + json.dumps({"worker": "w", "models": [], "slots": 2}).encode()
    yield b"\6" + b'{"type":"configure","drops":true,"want":"both"}'
    yield b"\7" + b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def live_video():
    for clip in CLIPS:
        data = clip.read_bytes()
        yield struct.pack(">H", 60000) + data[-60000:]
    yield struct.pack(">H", 24) + b"\0\0\0\x01\x67\x42\xc0\x1e\xd9\0\xa0\x47\xfe\x88\0\0\0\x01\x68\xce\x3c\x80"


def main(folder: Path):
    seeds = {
        "image": [path.read_bytes() for path in PICTURES],
        "video": [path.read_bytes() for path in CLIPS],
        "live_video": live_video(),
        "http": http(),
        "websocket": websocket(),
        "messages": messages(),
        "manifest": [b"\0" + (REPOSITORY / "models/manifest.json").read_bytes(),
                     *(b"\1" + path.read_bytes() for path in sorted((REPOSITORY / "infer/tests").rglob("*.onnx")))],
    }
    for target, inputs in seeds.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(inputs):
            (folder / target / f"{number:02}").write_bytes(seed)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
