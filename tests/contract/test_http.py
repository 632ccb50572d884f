"""Every HTTP call of the gateway and of the workers, but those of the existing API."""

import asyncio
import time

import pytest
from exchange import CUT_OFF, FORM, IMAGES, JPEG, JSON, SAMPLE, base64_of, exchange, form, json_of, send
from normal import Normal
from processes import REPOSITORY
from websockets.asyncio.client import connect

POSE = "/v1/pose"
CLASSIFY = "/v1/classify"
CALLS = [POSE, CLASSIFY, "/predict", "/v1/stream", "/api/pose_detection", "/api/pose_detection_annotation"]
PAGES = ["/health", "/ready", "/metrics", "/openapi.json", "/"]
ASSETS = {
    path: REPOSITORY / "ingest" / path
    for path in sorted(
        [f"web/{file.name}" for file in (REPOSITORY / "ingest/web").iterdir() if file.suffix != ".txt"]
        + [f"docs/{file.name}" for file in (REPOSITORY / "ingest/docs").iterdir()]
    )
} | {"docs/asyncapi.yaml": REPOSITORY / "docs/asyncapi.yaml"}
# Where those are that are not at their own names.
AT = {"web/index.html": "/", "docs/docs.html": "/docs", "docs/messages.html": "/docs/messages"}
CLIENT = {
    f"/client/{file.name}": file
    for file in sorted((REPOSITORY / "clients/js").iterdir())
    if file.suffix in (".html", ".js", ".ts")
}
HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def answers(gateway, requests):
    normal = Normal()
    return {name: normal(exchange(gateway, *request)) for name, request in requests.items()}


def post(query, headers, body):
    return ("POST", POSE + query, headers, body)


def test_poses_of_an_image_in_every_form(gateway, snapshots):
    encoded = base64_of(SAMPLE)
    requests = {
        "raw JPEG": post("", JPEG, SAMPLE),
        "raw PNG": post("", {"content-type": "image/png"}, (IMAGES / "small.png").read_bytes()),
        "raw WebP": post("", {"content-type": "image/webp"}, (IMAGES / "small.webp").read_bytes()),
        "form": post("?model=lightning", FORM, form("file", SAMPLE)),
        "JSON": post("?model=lightning", JSON, json_of(id="photo-1", image=encoded)),
        "JSON without id": post("?model=lightning", JSON, json_of(image=encoded)),
        "JSON with a data URL": post("?model=lightning", JSON, json_of(image=f"data:image/jpeg;base64,{encoded}")),
        "thunder": post("?model=thunder", JPEG, SAMPLE),
        "nobody is that sure": post("?min_score=1", JPEG, SAMPLE),
    }
    snapshots.check("http-pose", answers(gateway, requests))


def classify(query, headers, body):
    return ("POST", CLASSIFY + query, headers, body)


def test_classes_of_an_image_in_every_form(gateway, snapshots):
    requests = {
        "raw JPEG": classify("", JPEG, SAMPLE),
        "raw PNG": classify("?top=1", {"content-type": "image/png"}, (IMAGES / "small.png").read_bytes()),
        "form": classify("?top=2", FORM, form("file", SAMPLE)),
        "JSON": classify("?model=efficientnet-lite0&top=3", JSON, json_of(id="photo-1", image=base64_of(SAMPLE))),
        "existing call": ("POST", "/predict", FORM, form("file", SAMPLE)),
    }
    snapshots.check("http-classify", answers(gateway, requests))
    told = exchange(gateway, *requests["raw JPEG"])["body"]["classes"]
    assert [found["label"] for found in told][0] == "balance beam, beam"


def test_every_problem_with_a_request_for_classes(gateway, snapshots):
    requests = {
        query: classify(query, JPEG, SAMPLE)
        for query in ["?model=yolo", "?model=multipose", "?top=0", "?top=1001", "?top=many", "?min_score=0.1"]
    }
    requests |= {
        "not an image": classify("", JPEG, b"not an image"),
        "existing call, missing field": ("POST", "/predict", FORM, form("picture", SAMPLE)),
        "existing call, not an image": ("POST", "/predict", FORM, form("file", b"not an image")),
    }
    snapshots.check("http-classify-problems", answers(gateway, requests))


def test_models(gateway, snapshots):
    snapshots.check("http-models", answers(gateway, {"GET /v1/models": ("GET", "/v1/models")}))


def test_annotated_picture(gateway, snapshots):
    requests = {
        "accept: image/jpeg": post("", JPEG | {"accept": "image/jpeg"}, SAMPLE),
        "quality=30": post("?quality=30", JPEG | {"accept": "image/*"}, SAMPLE),
    }
    snapshots.check("http-picture", answers(gateway, requests))


def test_every_problem_with_a_request(gateway, snapshots):
    encoded = base64_of(SAMPLE)
    requests = {
        query: post(query, JPEG, SAMPLE)
        for query in ["?model=yolo", "?quality=0", "?quality=high", "?min_score=1.5", "?min_score=NaN", "?size=3"]
    }
    requests |= {
        "not acceptable": post("", JPEG | {"accept": "text/html"}, SAMPLE),
        "other content type": post("", {"content-type": "text/plain"}, SAMPLE),
        "no content type": post("", {}, SAMPLE),
        "bad JSON": post("", JSON, "{"),
        "bad JSON field": post("", JSON, '{"image": 5}'),
        "bad form": post("", {"content-type": "multipart/form-data"}, b"x"),
        "bad base64": post("", JSON, json_of(image="!!!!")),
        "missing image": post("", JSON, json_of(id="a")),
        "missing field": post("", FORM, form("picture", SAMPLE)),
        "bad id": post("", JSON, json_of(id="a b", image=encoded)),
        "empty image": post("", JPEG, b""),
        "not an image": post("", JPEG, b"not an image"),
        "image cut off": post("", JPEG, CUT_OFF),
        "not a websocket": ("GET", "/v1/stream"),
        "not found": ("GET", "/nowhere"),
        "deep not found": ("GET", "/v1/nowhere"),
    }
    snapshots.check("http-problems", answers(gateway, requests))


def test_wrong_methods(gateway, snapshots):
    wrong = {path: "POST" if path in PAGES or path == "/v1/stream" else "GET" for path in CALLS + PAGES}
    requests = {f"{method} {path}": (method, path) for path, method in wrong.items()}
    snapshots.check("http-methods", answers(gateway, requests))


def test_upgrade_to_a_websocket(gateway, snapshots):
    snapshots.check("http-upgrade", exchange(gateway, "GET", "/v1/stream", HANDSHAKE))


def test_pages(gateway, snapshots):
    requests = {f"GET {path}": ("GET", path) for path in PAGES if path != "/openapi.json"}
    requests |= {"HEAD /health": ("HEAD", "/health"), "GET / by a browser": ("GET", "/", {"accept": "text/html"})}
    snapshots.check("http-pages", answers(gateway, requests))


def test_assets(alone, snapshots):
    seen = {}
    for path, file in ASSETS.items():
        at = AT.get(path, f"/{path.removeprefix('web/')}")
        request = ("GET", at, {"accept": "text/html"})
        assert send(alone, *request)[2] == file.read_bytes(), path
        seen[at] = exchange(alone, *request)
    for at, file in CLIENT.items():
        assert send(alone, "GET", at)[2] == file.read_bytes(), at
        seen[at] = exchange(alone, "GET", at)
    snapshots.check("http-assets", seen)


def without_words(value):
    """A description without what is only for people. Examples of bodies are looked at by test_openapi.py."""
    match value:
        case dict():
            words = [key for key in ("description", "summary", "version") if isinstance(value.get(key), str)]
            words += ["example"] if "schema" in value else []
            return {key: without_words(item) for key, item in value.items() if key not in words}
        case list():
            return [without_words(item) for item in value]
    return value


def test_openapi_document(alone, snapshots):
    answer = exchange(alone, "GET", "/openapi.json")
    snapshots.check("http-openapi", answer | {"body": without_words(answer["body"])})


def test_too_large_a_body(narrow, snapshots):
    large = b"\xff" * 100_001
    requests = {
        "raw": post("", JPEG, large),
        "form": post("", FORM, form("file", large)),
        "form, beyond all limits": post("", FORM, form("file", 2 * large)),
        "JSON": post("", JSON, json_of(image=base64_of(large))),
        "JSON, beyond all limits": post("", JSON, json_of(image=base64_of(2 * large))),
    }
    snapshots.check("http-too-large", answers(narrow, requests))


async def while_connected(gateway, talk):
    async with connect(gateway.websocket) as socket:
        await socket.recv()
        return await asyncio.to_thread(talk)


def test_no_room(narrow, snapshots):
    requests = {
        "POST /v1/pose": post("", JPEG, SAMPLE),
        "POST /api/pose_detection": ("POST", "/api/pose_detection", JSON, json_of(id="a", image="")),
        "GET /v1/stream": ("GET", "/v1/stream", HANDSHAKE),
    }
    snapshots.check("http-no-room", asyncio.run(while_connected(narrow, lambda: answers(narrow, requests))))


@pytest.mark.parametrize("role", ["infer", "annotate"])
def test_workers_pages(system, snapshots, role):
    requests = {f"GET {path}": ("GET", path) for path in ["/health", "/ready", "/metrics", "/"]}
    worker = type(system)(system.workers[role])
    # It listens before its models are loaded.
    while send(worker, "GET", "/ready")[0] != 200:
        time.sleep(0.1)
    snapshots.check("http-worker", answers(worker, requests))
