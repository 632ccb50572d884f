"""What users of the existing API run today, the plain way: FastAPI, uvicorn, LiteRT and OpenCV, one process.

    MODEL=lightning uvicorn existing_service:app
"""

import base64
import os
import threading
import time

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import graphs

LIMBS = [(0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (0, 6), (5, 7), (7, 9), (6, 8), (8, 10), (5, 6), (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16)]
MIN_SCORE = 0.3

interpreter = Interpreter(model_content=graphs.tflite(os.environ.get("MODEL", "lightning")))
interpreter.allocate_tensors()
INPUT, OUTPUT = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
SIDE = int(INPUT["shape"][1])
# FastAPI runs the handlers on threads, and an interpreter is for one at a time.
turn = threading.Lock()
app = FastAPI()


class ImageRequest(BaseModel):
    id: str
    image: str


def detect(request: ImageRequest):
    """The BGR image, 17 × [x, y, score] with x and y from 0 to 1, the boxes, and milliseconds of three steps."""
    begun = time.perf_counter()
    try:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(request.image), np.uint8), cv2.IMREAD_COLOR)
    except (ValueError, cv2.error):
        image = None
    if image is None:
        raise HTTPException(400, "Invalid base64 image")
    tensor = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), (SIDE, SIDE)).astype(INPUT["dtype"])[None]
    preprocessed = time.perf_counter()
    with turn:
        interpreter.set_tensor(INPUT["index"], tensor)
        interpreter.invoke()
        rows = interpreter.get_tensor(OUTPUT["index"])[0, 0]
    inferred = time.perf_counter()
    keypoints = [[float(x), float(y), float(score)] for y, x, score in rows]
    height, width = image.shape[:2]
    seen = np.array([keypoint for keypoint in keypoints if keypoint[2] > MIN_SCORE])
    boxes = []
    if len(seen):
        left, top = seen[:, 0].min() * width, seen[:, 1].min() * height
        right, bottom = seen[:, 0].max() * width, seen[:, 1].max() * height
        probability = float(seen[:, 2].mean())
        boxes = [{"x": left, "y": top, "width": right - left, "height": bottom - top, "probability": probability}]
    done = time.perf_counter()
    return image, keypoints, boxes, [1e3 * t for t in (preprocessed - begun, inferred - preprocessed, done - inferred)]


@app.post("/api/pose_detection")
def pose_detection(request: ImageRequest):
    _, keypoints, boxes, (preprocess, inference, postprocess) = detect(request)
    return {
        "id": request.id,
        "count": 1,
        "boxes": boxes,
        "keypoints": [keypoints],
        "speed_preprocess": preprocess,
        "speed_inference": inference,
        "speed_postprocess": postprocess,
    }


@app.post("/api/pose_detection_annotation")
def pose_detection_annotation(request: ImageRequest):
    image, keypoints, _, _ = detect(request)
    height, width = image.shape[:2]
    points = [(int(x * width), int(y * height)) for x, y, _ in keypoints]
    seen = [score > MIN_SCORE for _, _, score in keypoints]
    for a, b in LIMBS:
        if seen[a] and seen[b]:
            cv2.line(image, points[a], points[b], (0, 255, 0), 2)
    for point, is_seen in zip(points, seen):
        if is_seen:
            cv2.circle(image, point, 4, (0, 0, 255), -1)
    return {"id": request.id, "image": base64.b64encode(cv2.imencode(".jpg", image)[1].tobytes()).decode()}
