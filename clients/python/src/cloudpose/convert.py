"""Results in the forms that other libraries take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from .errors import CloudPoseError
from .results import PoseEvent, check_event

if TYPE_CHECKING:
    import pandas
    import supervision

# COCO's category of people.
_PERSON = 1
# Keypoints from this score are drawn, here as everywhere else.
_SEEN = 0.3


def to_supervision(event: PoseEvent) -> supervision.KeyPoints:
    """supervision's `KeyPoints`: `xy` [persons, keypoints, 2], `keypoint_confidence`, `detection_confidence`; `visible`, which
    its annotators draw, are those from a score of 0.3; track ids (-1 if there is none) in `data["tracker_id"]`."""
    _need_supervision()
    import numpy as np
    import supervision

    if not event.persons:
        return supervision.KeyPoints.empty()
    persons = event.persons
    scores = np.array([[k.score for k in person.keypoints] for person in persons], np.float32)
    return supervision.KeyPoints(
        xy=np.array([[(k.x, k.y) for k in person.keypoints] for person in persons], np.float32),
        class_id=np.zeros(len(persons), int),
        keypoint_confidence=scores,
        detection_confidence=np.array([person.score for person in persons], np.float32),
        visible=scores >= _SEEN,
        data={"tracker_id": _tracks(event)},
    )


def to_detections(event: PoseEvent) -> supervision.Detections:
    """supervision's `Detections`: the persons' boxes as `xyxy`, scores, and track ids (-1 if there is none)."""
    _need_supervision()
    import numpy as np
    import supervision

    if not event.persons:
        return supervision.Detections.empty()
    boxes = [person.box for person in event.persons]
    return supervision.Detections(
        xyxy=np.array([(box.x, box.y, box.x + box.width, box.y + box.height) for box in boxes], np.float32),
        confidence=np.array([person.score for person in event.persons], np.float32),
        class_id=np.zeros(len(boxes), int),
        tracker_id=_tracks(event),
        data={"class_name": np.array(["person"] * len(boxes))},
    )


def _need_supervision() -> None:
    if not all(find_spec(name) for name in ("numpy", "supervision")):
        raise CloudPoseError("this needs supervision: pip install 'cloudpose[supervision]'")


def _tracks(event: PoseEvent) -> Any:
    import numpy as np

    return np.array([-1 if person.track_id is None else person.track_id for person in event.persons])


def to_coco(events: Mapping[int, PoseEvent] | Mapping[str, PoseEvent] | Mapping[int | str, PoseEvent]) -> list[dict[str, Any]]:
    """Results for COCO's keypoint evaluation, of events by `image_id`: a list as pycocotools' `loadRes` takes it.

    As in what detectors hand in, the third number of a keypoint is its score.
    """
    if not isinstance(events, Mapping):
        kind = type(events).__name__
        raise TypeError(f"a {kind} does not say of which images its events are; write to_coco({{image_id: event}})")
    for event in events.values():
        check_event(event, "to_coco({image_id: frame.pose})")
    return [
        {
            "image_id": image_id,
            "category_id": _PERSON,
            "keypoints": [number for k in person.keypoints for number in (k.x, k.y, k.score)],
            "bbox": [person.box.x, person.box.y, person.box.width, person.box.height],
            "score": person.score,
        }
        for image_id, event in events.items()
        for person in event.persons
    ]


def to_pandas(events: PoseEvent | Iterable[PoseEvent] | Mapping[Any, PoseEvent]) -> pandas.DataFrame:
    """One row a keypoint: `stream`, `seq`, `captured_at`, `person` (by falling score, from 0), `track_id`, `person_score`,
    `keypoint`, `x`, `y`, `score`; of a mapping with its keys before them, as `name`."""
    try:
        import pandas
    except ImportError:
        raise CloudPoseError("tables need pandas: pip install 'cloudpose[pandas]'") from None

    if isinstance(events, Mapping):
        table = to_pandas(events.values())
        joints = [sum(len(person.keypoints) for person in event.persons) for event in events.values()]
        table.insert(0, "name", [name for name, count in zip(events, joints, strict=True) for _ in range(count)])
        return table
    columns = ["stream", "seq", "captured_at", "person", "track_id", "person_score", "keypoint", "x", "y", "score"]
    rows = [
        (event.stream, event.seq, event.captured_at, n, person.track_id, person.score, k.name, k.x, k.y, k.score)
        for event in _each(events)
        for n, person in enumerate(event.persons)
        for k in person.keypoints
    ]
    return pandas.DataFrame(rows, columns=columns).astype({"track_id": "Int64"})


def _each(events: PoseEvent | Iterable[PoseEvent]) -> Iterator[PoseEvent]:
    for event in events if isinstance(events, Iterable) else [events]:
        check_event(event, "to_pandas(frame.pose for frame in frames if frame.pose)")
        yield event
