"""CloudPose's client: people and their joints in photos and live video."""

from .callbacks import verify_callback
from .cameras import AsyncCameras, Camera, Cameras
from .client import AsyncClient, Client
from .convert import to_coco, to_detections, to_pandas, to_supervision
from .drawing import draw
from .errors import BadCallback, CloudPoseError, ConnectionLost, Problem, SessionError
from .events import Events
from .images import ImageLike
from .jobs import AsyncJobs, Callback, Job, JobFailure, JobResult, Jobs
from .results import (
    COCO,
    Box,
    Class,
    Keypoint,
    LiveStream,
    Model,
    Person,
    PoseEvent,
    Skeleton,
    Watched,
)
from .stream import Frame, Stream
from .watch import Watch

__all__ = [
    "COCO",
    "AsyncCameras",
    "AsyncClient",
    "AsyncJobs",
    "BadCallback",
    "Box",
    "Callback",
    "Camera",
    "Cameras",
    "Class",
    "Client",
    "CloudPoseError",
    "ConnectionLost",
    "Events",
    "Frame",
    "ImageLike",
    "Job",
    "JobFailure",
    "JobResult",
    "Jobs",
    "Keypoint",
    "LiveStream",
    "Model",
    "Person",
    "PoseEvent",
    "Problem",
    "SessionError",
    "Skeleton",
    "Stream",
    "Watch",
    "Watched",
    "draw",
    "to_coco",
    "to_detections",
    "to_pandas",
    "to_supervision",
    "verify_callback",
]
