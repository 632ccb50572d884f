"""Skeletons on pixels, with NumPy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import images
from .errors import CloudPoseError
from .images import ImageLike, Order
from .results import COCO, Person, PoseEvent, Skeleton, check_event

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .images import Array

# Told apart by people who see colours differently too (Okabe and Ito, 2008), without black.
_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167), (0, 114, 178))


def draw(
    image: ImageLike,
    event: PoseEvent | None,
    *,
    min_score: float = 0.3,
    skeleton: Skeleton = COCO,
    order: Order = "rgb",
) -> Array:
    """A copy of the image's pixels ([height, width, 3], uint8) with the persons' skeletons, each in the colour of its track.

    `image` is what `pose()` takes; files need Pillow. Nothing is drawn if `event` is `None`, as of a frame that was dropped.
    Keypoints below `min_score` are left out. Persons of a model of your own have the limbs of its `skeleton`.
    """
    if event is not None:
        check_event(event, "draw(frame.image, frame.pose)")
    try:
        import numpy as np
    except ImportError:
        raise CloudPoseError("drawing needs NumPy: pip install 'cloudpose[video]'") from None

    drawn = images.decode(image, order)
    if event is None:
        return drawn
    # Pixels of another size than those that were sent.
    scale = np.array([drawn.shape[1] / event.width, drawn.shape[0] / event.height])
    width = max(1.5, min(drawn.shape[:2]) / 220)
    for n, person in enumerate(event.persons):
        red, green, blue = _COLOURS[(n if person.track_id is None else person.track_id) % len(_COLOURS)]
        colour = np.array((red, green, blue) if order == "rgb" else (blue, green, red), np.float32)
        _person(drawn, person, min_score, skeleton, (scale, width, colour))
    return drawn


def _person(
    drawn: Array,
    person: Person,
    min_score: float,
    skeleton: Skeleton,
    pen: tuple[npt.NDArray[np.float64], float, npt.NDArray[np.float32]],
) -> None:
    import numpy as np

    scale, width, colour = pen
    seen = {k.name: np.array((k.x, k.y)) * scale for k in person.keypoints if k.score >= min_score}
    for a, b in skeleton.limbs:
        if a in seen and b in seen:
            _line(drawn, seen[a], seen[b], width, colour)
    for at in seen.values():
        _line(drawn, at, at, 1.6 * width, colour)


def _line(
    drawn: Array, a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], radius: float, colour: npt.NDArray[np.float32]
) -> None:
    """Blends what is nearer than `radius` to the line between two points; its edge is one pixel soft."""
    import numpy as np

    height, width = drawn.shape[:2]
    low = np.floor(np.minimum(a, b) - radius - 1).astype(int)
    high = np.ceil(np.maximum(a, b) + radius + 2).astype(int)
    left, top = np.clip(low, 0, (width, height))
    right, bottom = np.clip(high, 0, (width, height))
    if left >= right or top >= bottom:
        return
    x = np.arange(left, right)[None, :] - a[0]
    y = np.arange(top, bottom)[:, None] - a[1]
    dx, dy = b - a
    along = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
    distance = np.hypot(x - along * dx, y - along * dy)
    cover = np.clip(radius + 0.5 - distance, 0, 1)[:, :, None].astype(np.float32)
    part = drawn[top:bottom, left:right]
    part[:] = np.rint(part * (1 - cover) + colour * cover).astype(np.uint8)
