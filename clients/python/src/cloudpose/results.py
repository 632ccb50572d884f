"""What the server tells, as types. Fields that later servers add are in `json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas
    import supervision

Want: TypeAlias = Literal["pose", "overlay", "both"]
"""What comes back of an image or frame: what was found, the annotated JPEG, or both."""
Draw: TypeAlias = Literal["overlay", "skeleton", "redacted", "frame"]
"""How pictures are drawn."""


@dataclass(frozen=True, slots=True)
class Keypoint:
    """A joint, in pixels of the image from its top left corner. It may lie outside."""

    name: str
    x: float
    y: float
    score: float
    """0 to 1. Below about 0.3 it is a guess."""


@dataclass(frozen=True, slots=True)
class Box:
    """In pixels of the image, from its top left corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who was found."""

    score: float
    box: Box
    keypoints: tuple[Keypoint, ...]
    """All of the skeleton's, in its order."""
    track_id: int | None = None
    """Stays with a person of a stream, from the fourth or fifth frame on that shows them; always `None` in single images."""
    coarse: bool = False
    """True if they were seen from afar only: more people were there than the server looks at closely."""

    def __getitem__(self, name: str) -> Keypoint:
        for keypoint in self.keypoints:
            if keypoint.name == name:
                return keypoint
        raise KeyError(f"{name}; there are {', '.join(keypoint.name for keypoint in self.keypoints)}")


@dataclass(frozen=True, slots=True)
class Class:
    """What the whole image shows."""

    label: str
    score: float


@dataclass(frozen=True, slots=True, repr=False)
class PoseEvent:
    """What was found in one frame or image."""

    stream: str
    seq: int
    """Number of the frame within its session, from 1."""
    captured_at: datetime
    """When the server received it."""
    width: int
    height: int
    model: str
    device: str
    persons: tuple[Person, ...]
    """By falling score."""
    classes: tuple[Class, ...]
    """By falling score; of models that tell what an image shows."""
    skeleton: str
    """Whose keypoints the persons have."""
    timings_ms: Mapping[str, float]
    json: Mapping[str, Any] = field(repr=False, compare=False)
    """As it came."""

    @staticmethod
    def read(said: Mapping[str, Any]) -> PoseEvent:
        """Reads the JSON of docs/events.md."""
        return PoseEvent(
            stream=said["stream"],
            seq=said["seq"],
            captured_at=datetime.fromtimestamp(said["captured_at"] / 1000, timezone.utc),
            width=said["width"],
            height=said["height"],
            model=said["model"],
            device=said["device"],
            persons=tuple(_person(person) for person in said.get("persons", ())),
            classes=tuple(Class(told["label"], told["score"]) for told in said.get("classes", ())),
            skeleton=said.get("skeleton", COCO.name),
            timings_ms=said.get("timings_ms", {}),
            json=said,
        )

    def __repr__(self) -> str:
        found = f"{len(self.persons)} persons" if not self.classes else self.classes[0].label
        return f"<PoseEvent {self.stream} {self.seq}: {found}, {self.width}×{self.height}, {self.model}>"

    def to_supervision(self) -> supervision.KeyPoints:
        """See `cloudpose.to_supervision`."""
        from .convert import to_supervision

        return to_supervision(self)

    def to_detections(self) -> supervision.Detections:
        """See `cloudpose.to_detections`."""
        from .convert import to_detections

        return to_detections(self)

    def to_coco(self, image_id: int | str) -> list[dict[str, Any]]:
        """See `cloudpose.to_coco`."""
        from .convert import to_coco

        return to_coco({image_id: self})

    def to_pandas(self) -> pandas.DataFrame:
        """See `cloudpose.to_pandas`."""
        from .convert import to_pandas

        return to_pandas([self])


def check_event(event: object, instead: str) -> None:
    """Raises `TypeError` if it is no event, and says what to write instead."""
    if not isinstance(event, PoseEvent):
        raise TypeError(f"a {type(event).__name__} is no event; write {instead}")


def _person(said: Mapping[str, Any]) -> Person:
    box = said["box"]
    return Person(
        score=said["score"],
        box=Box(box["x"], box["y"], box["width"], box["height"]),
        keypoints=tuple(Keypoint(k["name"], k["x"], k["y"], k["score"]) for k in said["keypoints"]),
        track_id=said.get("track_id"),
        coarse=said.get("coarse", False),
    )


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The keypoints of a model's persons, and which of them are joined."""

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]

    @staticmethod
    def read(said: Mapping[str, Any]) -> Skeleton:
        """Reads what `GET /v1/models` says of one."""
        keypoints = tuple(keypoint["name"] for keypoint in said["keypoints"])
        return Skeleton(said["name"], keypoints, tuple((a, b) for a, b in said["limbs"]))


COCO = Skeleton(
    "coco-17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    (
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("nose", "left_shoulder"),
        ("nose", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow"),
        ("right_elbow", "right_wrist"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_hip", "left_knee"),
        ("left_knee", "left_ankle"),
        ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"),
    ),
)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server's workers serve."""

    id: str
    title: str
    summary: str
    task: str
    """`pose` or `classify`."""
    input: str
    source: str
    licence: str
    skeleton: Skeleton | None = field(repr=False)
    labels: tuple[str, ...] = field(repr=False)

    @staticmethod
    def read(said: Mapping[str, Any]) -> Model:
        """Reads an entry of `GET /v1/models`."""
        skeleton = said.get("skeleton")
        return Model(
            id=said["id"],
            title=said["title"],
            summary=said.get("summary", ""),
            task=said["task"],
            input=said["input"],
            source=said["source"],
            licence=said["licence"],
            skeleton=None if skeleton is None else Skeleton.read(skeleton),
            labels=tuple(said.get("labels", ())),
        )


@dataclass(frozen=True, slots=True)
class LiveStream:
    """A stream that somebody sends now."""

    stream: str
    state: str
    """`live`, or `silent` if no frame was done in the last two seconds."""
    model: str
    width: int
    height: int
    since: datetime
    fps: float
    sessions: int
    watchers: int

    @staticmethod
    def read(said: Mapping[str, Any]) -> LiveStream:
        """Reads an entry of `GET /v1/streams`."""
        return LiveStream(
            stream=said["stream"],
            state=said["state"],
            model=said["model"],
            width=said["width"],
            height=said["height"],
            since=datetime.fromtimestamp(said["since"] / 1000, timezone.utc),
            fps=said["fps"],
            sessions=said["sessions"],
            watchers=said["watchers"],
        )


@dataclass(frozen=True, slots=True)
class Watched:
    """A frame of a stream that somebody else sends."""

    seq: int
    pose: PoseEvent | None
    """`None` if only pictures were asked for."""
    picture: bytes | None = field(repr=False)
    """The annotated JPEG, if pictures were asked for."""
    lost: int
    """Frames that this client was too slow to take, so far."""

    @property
    def persons(self) -> tuple[Person, ...]:
        return () if self.pose is None else self.pose.persons
