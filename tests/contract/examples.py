"""The examples in the description of the API: bodies as a running server takes and answers them.

    UPDATE_SNAPSHOTS=1 make contract

writes ingest/src/openapi/examples.json anew; the next build has it. Without that a test has the same conversations
again and compares of what kind all that is said is.
"""

import base64
import contextlib
import json
import socket
import time
from pathlib import Path

from exchange import FORM, JPEG, JSON, SAMPLE, base64_of, form, json_of, send
from processes import REPOSITORY, Processes
from websockets.sync.client import connect

FILE = REPOSITORY / "ingest/src/openapi/examples.json"
# A person in few bytes (from ingest/web/sample.jpg).
PERSON = base64_of((Path(__file__).parent / "person.webp").read_bytes())
# What a camera shows; written in its place, and in that of the address that was listened on.
PICTURES = REPOSITORY / "ingest/tests/images"
FOLDER, ADDRESS = "/srv/pictures", "127.0.0.1:60000"
# What is longer is cut: lines of text, texts in JSON (pictures in base64), lists of words (ImageNet's classes).
MOST_LINES = 4
MOST_LETTERS = 1000
MOST_WORDS = 20
ANY = "*"
# From here to the server that is asked for refusals.
MOST_CONNECTIONS = 8


class Recorder:
    """Calls a gateway, and writes down what is said that is text."""

    def __init__(self, gateway, calls):
        self.gateway = gateway
        self.calls = calls

    def __call__(self, method, path, body=None, *, at=None, headers=None, name=None):
        """Answers what is answered. `path` is as in the description, `at` as it is called if that differs."""
        sent = json.dumps(body) if isinstance(body, dict) else body
        headers = dict(headers or (JSON if isinstance(body, dict) else {}))
        status, told, answer = send(self.gateway, method, at or path, headers, sent)
        call = self.calls.setdefault(name or f"{method} {path}", {"responses": {}})
        kind = dict(told).get("content-type", "").split(";")[0]
        if isinstance(body, dict) and status < 400:
            call.setdefault("request", {}).setdefault("application/json", body)
        if (value := self.readable(kind, answer)) is not None:
            call["responses"].setdefault(str(status), {}).setdefault(kind, value)
        return value

    def readable(self, kind, answer):
        """A body as the example of it, if it is one for people."""
        if kind not in ("application/json", "application/problem+json", "application/jsonl", "text/plain"):
            return None
        text = answer.decode().replace(self.gateway.address, ADDRESS).replace(str(PICTURES), FOLDER)
        if kind == "text/plain":
            return "".join(text.splitlines(keepends=True)[:MOST_LINES])
        # Of lines of JSON the first stands for all.
        return cut(json.loads(text.splitlines()[0])) if text else None


def cut(value):
    match value:
        case dict():
            return {name: cut(item) for name, item in value.items()}
        case [str(), *_] if len(value) > MOST_WORDS:
            return [*value[:2], "…"]
        case list():
            return [cut(item) for item in value]
        case str() if len(value) > MOST_LETTERS:
            return value[:60] + "…"
    return value


def photos(call):
    """Single images."""
    call("POST", "/v1/pose", {"id": "photo-1", "image": PERSON})
    call("POST", "/v1/pose", b"", at="/v1/pose?quality=0", headers=JPEG)
    call("POST", "/v1/pose", b"", at="/v1/pose?model=yolo", headers=JPEG)
    call("POST", "/v1/pose", b"", headers=JPEG | {"accept": "text/html"})
    call("POST", "/v1/pose", b"", headers={"content-type": "text/plain"})
    call("POST", "/v1/pose", b"no image", headers=JPEG)
    for path in ("/api/pose_detection", "/api/pose_detection_annotation"):
        call("POST", path, {"id": "photo-1", "image": PERSON})
        call("POST", path, '{"id": "photo-1", "image": "aGVsbG8="}', headers=JSON)
        call("POST", path, '{"id": "photo-1"}', headers=JSON)
    call("GET", "/v1/models")
    call("GET", "/health")
    call("GET", "/ready")
    call("GET", "/metrics")


def tensors(call):
    """The Open Inference Protocol."""
    for path in ("", "/health/live", "/health/ready", "/models/stats"):
        call("GET", f"/v2{path}")
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [PERSON]}
    infer = "/v2/models/{model}/infer"
    asked = {"id": "photo-1", "inputs": [image], "outputs": [{"name": "keypoints"}, {"name": "count"}]}
    call("POST", infer, asked, at=infer.format(model="lightning"))
    call("POST", infer, "{}", at=infer.format(model="lightning"), headers=JSON)
    call("POST", infer, "{}", at=infer.format(model="yolo"), headers=JSON)
    call("POST", infer, "{}", at=infer.format(model="lightning"), headers=JSON | {"content-encoding": "br"})
    text = json.dumps({"inputs": [image | {"data": ["aGVsbG8="]}]})
    call("POST", infer, text, at=infer.format(model="lightning"), headers=JSON)
    for what in ("", "/ready", "/config", "/stats"):
        for model in ("lightning", "yolo"):
            call("GET", "/v2/models/{model}" + what, at=f"/v2/models/{model}{what}")
    call("POST", "/v2/repository/index")
    load = "/v2/repository/models/{model}/load"
    call("POST", load, {"parameters": {"config": "{}"}}, at=load.format(model="lightning"))
    for what in ("load", "unload"):
        path = "/v2/repository/models/{model}/" + what
        for model in ("lightning", "yolo"):
            call("POST", path, at=path.format(model=model))


def predictions(call):
    """The calls of inference-sdk."""
    image = {"type": "base64", "value": PERSON}
    call("GET", "/info")
    call("GET", "/model/registry")
    call("POST", "/model/add", {"model_id": "lightning"})
    call("POST", "/model/add", "{}", headers=JSON)
    call("POST", "/model/add", '{"model_id": "yolo"}', headers=JSON)
    call("POST", "/model/remove")
    call("POST", "/model/clear")
    for path in ("/infer/keypoints_detection", "/infer/object_detection"):
        call("POST", path, {"model_id": "lightning", "image": image, "confidence": 0.4})
    for path in ("/infer/keypoints_detection", "/infer/object_detection", "/infer/classification"):
        call("POST", path, "{}", headers=JSON)
        call("POST", path, json.dumps({"model_id": "yolo", "image": image}), headers=JSON)
        for model in ("lightning", "efficientnet-lite0"):
            text = json.dumps({"model_id": model, "image": image | {"value": "aGVsbG8="}})
            call("POST", path, text, headers=JSON)


def jobs(call):
    hand_in, status = "/v1/jobs", "/v1/jobs/{job}"
    job = call("POST", hand_in, form("file", SAMPLE), at=f"{hand_in}?want=both", headers=FORM)["id"]
    call("POST", hand_in, b"", at=f"{hand_in}?model=yolo", headers=JPEG)
    call("POST", hand_in, b"", headers={"content-type": "text/plain"})
    call("POST", hand_in, form("picture", SAMPLE), headers=FORM)
    call("POST", hand_in, b"", at=f"{hand_in}?want=all", headers=JPEG)
    again = f"{status}/callback"
    # Nobody is there: it is waiting.
    called = call("POST", hand_in, SAMPLE, at=f"{hand_in}?callback=http://127.0.0.1:9/done", headers=JPEG)["id"]
    call("POST", again, at=f"/v1/jobs/{job}/callback")
    until(lambda: json.loads(send(call.gateway, "GET", f"/v1/jobs/{called}")[2])["callback"]["tries"] == 1)
    call("GET", hand_in, at=f"{hand_in}?callback=waiting")
    call("GET", hand_in, at=f"{hand_in}?callback=lost")
    call("POST", again, at=f"/v1/jobs/{called}/callback")
    call("POST", again, at="/v1/jobs/job-0/callback")
    call("DELETE", status, at=f"/v1/jobs/{called}")
    until(lambda: json.loads(send(call.gateway, "GET", f"/v1/jobs/{job}")[2])["state"] == "done")
    for what in ("", "/results", "/items/{item}/overlay", "/items/{item}/thumbnail"):
        for name in (job, "job-0"):
            path = status + what
            call("GET", path, at=path.format(job=name, item=1))
    call("GET", f"{status}/results", at=f"/v1/jobs/{job}/results?limit=0")
    bad = call("POST", hand_in, b"no image", headers=JPEG)["id"]
    until(lambda: json.loads(send(call.gateway, "GET", f"/v1/jobs/{bad}")[2])["state"] == "done")
    call("GET", f"{status}/items/{{item}}/thumbnail", at=f"/v1/jobs/{bad}/items/1/thumbnail")
    call("DELETE", status, at=f"/v1/jobs/{job}")
    call("DELETE", status, at=f"/v1/jobs/{job}")
    image = call("POST", "/upload", form("file", base64.b64decode(PERSON)), headers=FORM)["image_id"]
    call("POST", "/upload", form("file", b"no image"), headers=FORM)
    until(lambda: json.loads(send(call.gateway, "GET", f"/status/{image}")[2])["status"] == "completed")
    for name in (image, "job-0"):
        call("GET", "/status/{image_id}", at=f"/status/{name}")


def live(call):
    """Streams and cameras."""
    with connect(f"{call.gateway.websocket}?stream=door") as socket:
        socket.recv()
        socket.send(SAMPLE)
        socket.recv()
        call("GET", "/v1/streams")
    call("GET", "/v1/stream", at="/v1/stream")
    call("GET", "/v1/streams/{stream}.mjpeg", at="/v1/streams/nowhere.mjpeg")
    call("GET", "/v1/streams/{stream}.mjpeg", at="/v1/streams/nowhere.mjpeg?fps=-1")
    call("GET", "/v1/streams/{stream}/watch", at="/v1/streams/door/watch")
    call("POST", "/v1/tickets", {"stream": "door"})
    call("POST", "/v1/tickets", "[1]", headers=JSON)
    add, one = "/v1/cameras", "/v1/cameras/{stream}"
    # The gateway's own photo, again and again.
    camera = {"stream": "yard", "url": f"http://{call.gateway.address}/sample.jpg", "fps": 5}
    call("POST", add, camera)
    call.calls[f"POST {add}"]["request"]["application/json"] = camera | {"url": f"http://{ADDRESS}/sample.jpg"}
    call("POST", add, camera)
    call("POST", add, camera | {"stream": "attic", "url": "gopher://attic"})
    call("POST", add, camera | {"stream": "attic", "model": "yolo"})
    until(lambda: json.loads(send(call.gateway, "GET", "/v1/cameras/yard")[2])["state"] == "live")
    call("GET", add)
    for stream in ("yard", "nowhere"):
        call("GET", one, at=f"/v1/cameras/{stream}")
        call("PATCH", one, {"fps": 2.5}, at=f"/v1/cameras/{stream}")
    call("PATCH", one, {"fps": 0}, at="/v1/cameras/yard")
    call("PATCH", one, {"fps": 2}, at="/v1/cameras/gate")
    call("DELETE", one, at="/v1/cameras/gate")
    for _ in range(2):
        call("DELETE", one, at="/v1/cameras/yard")


def classes(call):
    """What single images show."""
    call("POST", "/v1/classify", {"id": "photo-1", "image": PERSON})
    for query, kind in (("?top=0", "image/jpeg"), ("?model=yolo", "image/jpeg"), ("?model=lightning", "image/jpeg"), ("", "text/plain")):
        call("POST", "/v1/classify", b"", at=f"/v1/classify{query}", headers={"content-type": kind})
    call("POST", "/v1/classify", b"no image", headers=JPEG)
    call("POST", "/predict", form("file", SAMPLE), headers=FORM)
    call("POST", "/predict", form("picture", SAMPLE), headers=FORM)
    call("POST", "/predict", b"", headers={"content-type": "multipart/form-data"})
    call("POST", "/predict", b"", headers={"content-type": "text/plain"})
    image = {"type": "base64", "value": PERSON}
    call("POST", "/infer/classification", {"model_id": "efficientnet-lite0", "image": image, "max_detections": 3})
    for path in ("/infer/keypoints_detection", "/infer/object_detection"):
        call("POST", path, json.dumps({"model_id": "efficientnet-lite0", "image": image}), headers=JSON)


def refusals(call, key):
    """What any call may answer."""

    def refused(status, *request, **how):
        call(*request, **how, name=ANY)
        assert str(status) in call.calls[ANY]["responses"]

    shown = {"authorization": f"Bearer {key}"}
    refused(401, "GET", "/v1/models")
    refused(403, "POST", "/v1/jobs", headers=shown)
    refused(413, "POST", "/v1/pose", b"\xff" * 100_001, headers=JPEG | shown)
    call.calls[ANY]["responses"]["408"] = {"application/problem+json": half_a_body(call.gateway, "/v1/pose", key)}
    infer = "/v2/models/{model}/infer"
    large = base64_of(b"\xff" * 100_001)
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [large]}
    asked = {"model_id": "lightning", "image": {"type": "base64", "value": large}}
    bodies = {"/model/add": " " * 100_000, infer: json_of(inputs=[tensor])}
    for what in ("keypoints_detection", "object_detection", "classification"):
        bodies[f"/infer/{what}"] = json_of(**asked)
    existing = [f"/api/pose_detection{what}" for what in ("", "_annotation")]
    with connect(call.gateway.websocket, additional_headers=shown):
        for path in ("/v1/pose", "/v1/classify", "/predict", *existing, *bodies):
            if path != "/model/add":
                call("POST", path, "{}", at=path.format(model="lightning"), headers=JSON | shown)
    for path, body in bodies.items():

        def is_too_large():
            call("POST", path, body, at=path.format(model="lightning"), headers=JSON | shown)
            return "413" in call.calls[f"POST {path}"]["responses"]

        # The only seat is free a moment after the answer before was read here.
        until(is_too_large)
    for path in bodies:
        at = path.format(model="lightning")
        slow = half_a_body(call.gateway, at, key)
        call.calls[f"POST {path}"]["responses"]["408"] = {"application/json": slow}
    with contextlib.ExitStack() as others:

        def is_crowded():
            # One may have been turned away because an earlier connection still had its place: another takes it then.
            others.enter_context(socket.create_connection(call.gateway.address.rsplit(":", 1)))
            return send(call.gateway, "GET", "/health")[0] == 429

        until(is_crowded)
        refused(429, "GET", "/health")


def half_a_body(gateway, path, key):
    """What is answered to one: nothing that `send` could do."""
    with socket.create_connection(gateway.address.rsplit(":", 1), timeout=60) as slow:
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nconnection: close\r\n"
        slow.sendall(f"{head}content-type: image/jpeg\r\ncontent-length: 100\r\n\r\n".encode())
        return json.loads(slow.makefile("rb").read().split(b"\r\n\r\n", 1)[1])


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def record(folder):
    """All examples, as they are in the file."""
    calls = {}
    with Processes() as processes:
        serve = ["serve", "--device", "cpu"]
        camera = ["--camera", f"gate=file:{PICTURES}", "--camera-allow", "127.0.0.1"]
        secret = folder / "secret"
        secret.write_text("0123456789abcdef0123456789abcdef")
        jobs_of = ["--store", folder / "store", "--callback-secret-file", secret, "--callback-allow", "127.0.0.1"]
        gateway = processes.gateway(*serve, "--model", "lightning", *jobs_of, *camera)
        for topic in (photos, classes, tensors, predictions, jobs, live):
            topic(Recorder(gateway, calls))
        storeless = Recorder(processes.gateway(*serve, "--model", "efficientnet-lite0"), calls)
        for path in ("/api/pose_detection", "/api/pose_detection_annotation"):
            storeless("POST", path, json.dumps({"id": "photo-1", "image": PERSON}), headers=JSON)
        for path in ("/v1/jobs", "/upload"):
            storeless("POST", path, form("file", SAMPLE), headers=FORM)
        for what in ("", "/results", "/items/{item}/overlay", "/items/{item}/thumbnail"):
            path = "/v1/jobs/{job}" + what
            storeless("GET", path, at=path.format(job="job-0", item=1))
        storeless("DELETE", "/v1/jobs/{job}", at="/v1/jobs/job-0")
        storeless("GET", "/v1/jobs")
        storeless("POST", "/v1/jobs/{job}/callback", at="/v1/jobs/job-0/callback")
        storeless("GET", "/status/{image_id}", at="/status/job-0")
        key = processes.key("photo,stream", folder / "keys.json")
        bounds = ["--max-sessions", "1", "--max-image-bytes", "100000", "--receive-timeout", "1s"]
        strict = processes.gateway(
            *serve, "--model", "lightning", "--keys", folder / "keys.json", *bounds,
            "--max-connections-per-address", str(MOST_CONNECTIONS),
        )
        refusals(Recorder(strict, calls), key)
    return calls


def kind_of(value):
    """What a program must know of a value: names and types. Of what may be absent it knows when it comes."""
    match value:
        case dict():
            return {name: kind_of(item) for name, item in value.items()}
        case list():
            return [kind_of(item) for item in value[:1]]
        case bool() | None:
            return value
        case int() | float():
            return "number"
    return type(value).__name__
