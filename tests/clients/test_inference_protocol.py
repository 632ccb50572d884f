"""The Open Inference Protocol, as Triton's and KServe's own clients speak it."""

import base64
import gzip
import io
import subprocess
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from cloudpose import Client
from conftest import OTHERS
from PIL import Image
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server):
    return triton.InferenceServerClient(server.address)


def files(*images):
    tensor = triton.InferInput("image", [len(images)], "BYTES")
    tensor.set_data_from_numpy(np.array(images, object))
    return [tensor]


def test_what_is_said_of_server_and_models(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("fast", "1")
    assert not client.is_model_ready("yolo") and not client.is_model_ready("fast", "2")
    assert client.get_server_metadata()["extensions"] == [
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "statistics",
    ]
    told = client.get_model_metadata("fast")
    assert told["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    assert told["outputs"][0] == {"name": "keypoints", "datatype": "FP32", "shape": [-1, -1, 17, 3]}
    assert client.get_model_config("efficientnet-lite0")["output"][0]["data_type"] == "TYPE_STRING"
    index = client.get_model_repository_index()
    assert {"name": "fast", "version": "1", "state": "READY", "reason": ""} in index
    client.load_model("fast")
    with pytest.raises(InferenceServerException, match="use one of fast"):
        client.load_model("yolo")
    with pytest.raises(InferenceServerException, match="neither a configuration nor files"):
        client.load_model("fast", config="{}")
    with pytest.raises(InferenceServerException, match="neither a configuration nor files"):
        client.load_model("fast", config="{}", files={"file:1/model.onnx": bytes(100_000)})
    with pytest.raises(InferenceServerException, match="stays"):
        client.unload_model("fast")


def test_which_keypoint_is_which(server, client, sample):
    said = client.get_model_config("fast")["parameters"]
    [person, *_] = Client(server.http).pose(sample.read_bytes(), model="fast").persons
    assert said["keypoints"]["string_value"].split(",") == [point.name for point in person.keypoints]
    assert "5-7" in said["limbs"]["string_value"].split(",")
    assert client.get_model_config("efficientnet-lite0")["parameters"] == {}


def test_what_is_not_there_is_said(client):
    with pytest.raises(InferenceServerException, match="extensions there are binary_tensor_data") as refused:
        client.get_system_shared_memory_status()
    assert refused.value.status() == "404"


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_poses_are_those_of_the_native_call(server, client, sample, packed):
    photo = sample.read_bytes()
    event = Client(server.http).pose(photo, model="fast")
    found = client.infer("fast", files(photo, photo), request_id="7", request_compression_algorithm=packed)
    keypoints = found.as_numpy("keypoints")
    assert found.get_response()["id"] == "7" and keypoints.shape == (2, 3, 17, 3)
    expected = [[(k.x, k.y, k.score) for k in person.keypoints] for person in event.persons]
    np.testing.assert_allclose(keypoints[1], expected, rtol=1e-6)
    boxes = [(p.box.x, p.box.y, p.box.width, p.box.height) for p in event.persons]
    np.testing.assert_allclose(found.as_numpy("boxes")[0], boxes, rtol=1e-6)
    np.testing.assert_allclose(found.as_numpy("scores")[0], [p.score for p in event.persons], rtol=1e-6)
    assert list(found.as_numpy("count")) == [3, 3]


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_pixels_and_files_are_the_same(client, sample):
    pixels = np.asarray(Image.open(sample).resize((402, 536)))
    pictures = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
    expected = client.infer("fast", files(*map(png, pictures)))
    assert all(expected.as_numpy("count") > 0)
    tensor = triton.InferInput("image", [2, *pixels.shape], "UINT8")
    for binary in [True, False]:
        tensor.set_data_from_numpy(np.stack(pictures), binary_data=binary)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ["count", "keypoints"]]
        found = client.infer("fast", [tensor], outputs=outputs)
        assert found.as_numpy("scores") is None
        for name in ["count", "keypoints"]:
            np.testing.assert_allclose(found.as_numpy(name), expected.as_numpy(name), rtol=0, atol=1e-3)


def test_nobody_and_classes(client, sample):
    photo = sample.read_bytes()
    nobody = client.infer("fast", files(photo), parameters={"min_score": 1.0})
    assert nobody.as_numpy("count")[0] == 0 and nobody.get_output("keypoints")["shape"] == [1, 0, 17, 3]
    told = client.infer("efficientnet-lite0", files(photo), parameters={"top": 3})
    assert told.as_numpy("classes").shape == (1, 3) and told.as_numpy("classes")[0, 0] == b"balance beam, beam"
    assert told.as_numpy("scores")[0, 0] > told.as_numpy("scores")[0, 1]


def test_statistics(client, sample):
    def stats():
        [told] = client.get_inference_statistics("fast")["model_stats"]
        sums = told["inference_stats"]
        parts = [sums[part] for part in ["queue", "compute_input", "compute_infer", "compute_output"]]
        assert {part["count"] for part in parts} == {sums["success"]["count"]}
        assert sum(part["ns"] for part in parts) <= sums["success"]["ns"]
        assert sums["cache_hit"] == sums["cache_miss"] == {"count": 0, "ns": 0}
        return told["inference_count"], sums["success"]["count"]

    images, requests = stats()
    client.infer("fast", files(sample.read_bytes(), sample.read_bytes()))
    assert stats() == (images + 2, requests + 1)
    assert {told["name"] for told in client.get_inference_statistics()["model_stats"]} >= {"fast", "accurate"}


def test_requests_beside_one_another(client, sample):
    with triton.InferenceServerClient(client._client_stub.host + f":{client._client_stub.port}", concurrency=4) as many:
        running = [many.async_infer("fast", files(sample.read_bytes())) for _ in range(6)]
        assert [len(request.get_result().as_numpy("scores")[0]) for request in running] == [3] * 6


def test_refusals_say_what_to_do(server, client, sample):
    for inputs, words in [
        (files(sample.read_bytes(), b"no image"), "image 1: .*JPEG"),
        (files(*[b"x"] * 33), "at most 32"),
    ]:
        with pytest.raises(InferenceServerException, match=words):
            client.infer("fast", inputs)
    with pytest.raises(InferenceServerException, match="there is no output"):
        client.infer("fast", files(sample.read_bytes()), outputs=[triton.InferRequestedOutput("masks")])
    with pytest.raises(InferenceServerException, match='"minscore" is not known; use min_score'):
        client.infer("fast", files(sample.read_bytes()), parameters={"minscore": 0.5})
    [plain] = files("no base64!")
    plain.set_data_from_numpy(np.array(["no base64!"], object), binary_data=False)
    with pytest.raises(InferenceServerException, match="image 0 is no base64: .*files in base64"):
        client.infer("fast", [plain])
    with pytest.raises(InferenceServerException, match="looks like base64"):
        client.infer("fast", files(base64.b64encode(sample.read_bytes())))
    with pytest.raises(InferenceServerException, match="the body has more than .* files as BYTES"):
        pixels = triton.InferInput("image", [8, 1080, 1920, 3], "UINT8")
        pixels.set_data_from_numpy(np.zeros([8, 1080, 1920, 3], np.uint8))
        client.infer("fast", [pixels])
    bomb = httpx.post(
        f"{server.http}/v2/models/fast/infer",
        content=gzip.compress(bytes(1 << 28)),
        headers={"content-encoding": "gzip"},
    )
    assert bomb.status_code == 413 and "unpacks" in bomb.json()["error"]


def test_time_a_request_has(client, sample):
    with pytest.raises(InferenceServerException, match="within 1ms; .*`timeout`") as refused:
        client.infer("accurate", files(*[sample.read_bytes()] * 8), timeout=1_000)
    assert refused.value.status() == "504"
    assert client.infer("fast", files(sample.read_bytes()), timeout=30_000_000).as_numpy("count")[0] == 3


def test_json_alone(server, sample):
    image = base64.b64encode(sample.read_bytes()).decode()
    body = {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}]}
    answer = httpx.post(f"{server.http}/v2/models/fast/versions/1/infer", json=body, timeout=60).json()
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert answer["model_version"] == "1" and outputs["count"]["data"] == [3]
    assert len(outputs["keypoints"]["data"]) == 3 * 17 * 3


def test_keys(locked, sample):
    client = triton.InferenceServerClient(locked.address)
    with pytest.raises(InferenceServerException) as refused:
        client.infer("fast", files(sample.read_bytes()))
    assert refused.value.status() == "401" and refused.value.message().startswith("show a key: ")
    # KServe's client reads no words otherwise.
    assert httpx.get(f"{locked.http}/v2/models/fast").headers["content-type"] == "application/json"
    with pytest.raises(InferenceServerException, match="no such key is known"):
        client.get_model_metadata("fast", headers={"Authorization": "Bearer cpk_of_nobody"})
    stream = {"Authorization": f"Bearer {locked.keys['stream']}"}
    with pytest.raises(InferenceServerException, match="lacks the scope"):
        client.infer("fast", files(sample.read_bytes()), headers=stream)
    assert not client.is_model_ready("fast")
    bearer = {"Authorization": f"Bearer {locked.keys['photo']}"}
    assert client.infer("fast", files(sample.read_bytes()), headers=bearer).as_numpy("count")[0] == 3


def test_kserve_client(server, sample):
    program = Path(__file__).with_name("kserve_client.py")
    done = subprocess.run([OTHERS, program, server.http, sample], capture_output=True, text=True, timeout=240)
    assert done.stdout == "True True True\n(1, 3, 17, 3) [3]\n", done.stderr
