"""Roboflow's client against a server: inference_sdk_client.py URL PHOTO [KEY]. It runs with what others.txt lists."""

import json
import sys

import supervision as sv
from inference_sdk import InferenceConfiguration, InferenceHTTPClient


def why_not(client, photo: str, model: str) -> str:
    try:
        client.infer(photo, model_id=model)
    except Exception as error:
        return str(error)
    raise AssertionError(model)


def main(url: str, photo: str, key: str | None = None) -> None:
    client = InferenceHTTPClient(api_url=url, api_key=key)
    client.configure(InferenceConfiguration(api_key_transport="header", keypoint_confidence_threshold=0.0))
    told = {"server": client.get_server_info().name}
    told["models"] = {model.model_id: model.task_type for model in client.list_loaded_models().models}
    told["added"] = len(client.load_model("fast").models)
    found = client.infer(photo, model_id="fast")
    points = sv.KeyPoints.from_inference(found)
    told["points"] = points.xy.tolist()
    told["boxes"] = sv.Detections.from_inference(found).xyxy.tolist()
    client.configure(InferenceConfiguration(api_key_transport="header", confidence_threshold=1.0, max_batch_size=2))
    told["nobody"] = [len(one["predictions"]) for one in client.infer([photo, photo], model_id="fast")]
    client.configure(InferenceConfiguration(api_key_transport="header"))
    told["top"] = client.infer(photo, model_id="efficientnet-lite0")["top"]
    client.configure(InferenceConfiguration(api_key_transport="header", confidence_threshold=0.1))
    told["sure"] = len(client.infer(photo, model_id="efficientnet-lite0")["predictions"])
    client.configure(InferenceConfiguration(api_key_transport="header", confidence_threshold=0.9))
    unsure = client.infer(photo, model_id="efficientnet-lite0")
    told["unsure"] = (len(unsure["predictions"]), unsure["top"])
    told["refused"] = [why_not(client, photo, "yolo"), why_not(client, "no-such-photo.jpg", "fast")]
    print(json.dumps(told))


main(*sys.argv[1:])
