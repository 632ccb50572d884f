"""Results in the forms of other libraries, taken by these libraries."""

import numpy as np
import pytest
import supervision as sv
from cloudpose import Client, to_coco, to_detections, to_pandas, to_supervision
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@pytest.fixture(scope="module")
def server_url(server):
    return server.http


@pytest.fixture
def event(server_url, sample):
    return Client(server_url).pose(sample, model="fast")


@pytest.fixture
def nobody(server_url, sample):
    return Client(server_url).pose(sample, model="fast", min_score=1)


def test_supervision_draws_them(event, nobody, sample):
    scene = np.asarray(Image.open(sample)).copy()
    points, boxes = to_supervision(event), event.to_detections()
    assert points.xy.shape == (3, 17, 2) and points.keypoint_confidence.shape == (3, 17)
    assert boxes.xyxy.shape == (3, 4) and list(boxes.tracker_id) == [-1, -1, -1]
    drawn = sv.EdgeAnnotator().annotate(scene.copy(), points)
    boxed = sv.BoxAnnotator().annotate(scene.copy(), boxes)
    assert (drawn != scene).any() and (boxed != scene).any()
    assert len(to_supervision(nobody)) == len(to_detections(nobody)) == 0
    assert len(points[points.detection_confidence > 2]) == 0


def test_supervision_leaves_out_what_is_not_seen(server_url, sample):
    points = to_supervision(Client(server_url).pose(sample, model="accurate"))
    assert 0 < points.visible.sum() < points.visible.size
    assert (points.visible == (points.keypoint_confidence >= 0.3)).all()
    # The third person's face is beyond the picture's edge.
    drawn = sv.VertexAnnotator().annotate(np.zeros((1072, 804, 3), np.uint8), points)
    points.visible = None
    assert drawn.sum() < sv.VertexAnnotator().annotate(np.zeros((1072, 804, 3), np.uint8), points).sum()


def test_pycocotools_evaluates_them(event, nobody, tmp_path):
    results = to_coco({7: event, 8: nobody})
    assert [r["image_id"] for r in results] == [7, 7, 7] and results == event.to_coco(7)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 7}],
        "categories": [{"id": 1, "keypoints": []}],
        "annotations": [
            {**r, "id": n, "area": r["bbox"][2] * r["bbox"][3], "iscrowd": 0, "num_keypoints": 17,
             "keypoints": [v if i % 3 < 2 else 2 for i, v in enumerate(r["keypoints"])]}
            for n, r in enumerate(results, 1)
        ],
    }  # fmt: skip
    truth.createIndex()
    judged = COCOeval(truth, truth.loadRes(results), "keypoints")
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    assert judged.stats[0] == pytest.approx(1)


def test_what_is_no_event_is_told_with_what_to_write(event, server_url, sample):
    frames = list(Client(server_url).stream([sample], model="fast"))
    for wrong in (frames, {"a": frames[0]}, frames[0], [None], iter(frames)):
        with pytest.raises(TypeError, match=r"no event; write to_pandas\(frame.pose for frame in frames if frame.pose\)"):
            to_pandas(wrong)
    for wrong in ([event], event):
        with pytest.raises(TypeError, match=r"write to_coco\({image_id: event}\)"):
            to_coco(wrong)
    with pytest.raises(TypeError, match=r"a Frame is no event; write to_coco\({image_id: frame.pose}\)"):
        to_coco({1: frames[0]})
    assert len(to_pandas(frame.pose for frame in frames if frame.pose)) == 3 * 17


def test_pandas_has_a_row_a_keypoint(event, nobody):
    table = to_pandas([event, nobody])
    assert len(table) == 3 * 17 and set(table["person"]) == {0, 1, 2} and table["track_id"].isna().all()
    noses = table[table["keypoint"] == "nose"]
    assert list(noses["x"]) == [person["nose"].x for person in event.persons]
    assert list(nobody.to_pandas().columns) == list(to_pandas(event).columns) == list(table.columns)
    named = to_pandas({"door.jpg": event, "empty.jpg": nobody, "gate.jpg": event})
    assert list(named["name"]) == ["door.jpg"] * 51 + ["gate.jpg"] * 51 and list(named.columns)[1:] == list(table.columns)
    assert list(to_pandas({}).columns) == list(named.columns)
