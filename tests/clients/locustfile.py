"""A load test as users of the existing API have it: everybody reads a picture, and has it looked at and annotated."""

import base64
import os
import uuid
from pathlib import Path

from locust import HttpUser, between, task


class Visitor(HttpUser):
    wait_time = between(0.05, 0.1)

    def on_start(self):
        self.image = base64.b64encode(Path(os.environ["PHOTO"]).read_bytes()).decode()

    @task(2)
    def detect(self):
        name = str(uuid.uuid4())
        answer = self.client.post("/api/pose_detection", json={"id": name, "image": self.image}).json()
        assert answer["id"] == name and answer["count"] == len(answer["boxes"]) == len(answer["keypoints"])
        assert {"speed_preprocess", "speed_inference", "speed_postprocess"} <= answer.keys()

    @task
    def annotate(self):
        name = str(uuid.uuid4())
        with self.client.post(
            "/api/pose_detection_annotation", json={"id": name, "image": self.image}, catch_response=True
        ) as response:
            picture = base64.b64decode(response.json()["image"])
            if not picture.startswith(b"\xff\xd8"):
                response.failure("the annotated picture is no JPEG")
