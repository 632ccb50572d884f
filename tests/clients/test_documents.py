"""Programs in documents, as a reader copies them, against a server."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import OTHERS, REPOSITORY

# What the pieces of docs/python.md take for given.
GIVEN = """
from collections.abc import Iterator
from typing import Any
import numpy as np
from cloudpose import Client, Frame, draw, video
source: list[str]
client = Client()

def drawn(frame: Frame) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return draw(frame.image, frame.pose)
"""
ADDRESS = "127.0.0.1:60000"
# Which program of a document, the file that it writes, and what it says.
PROGRAMS = [
    ("README.md", 0, "annotated.mp4", ""),
    ("README.md", 1, "out.jpg", "1 3 people"),
    ("clients/python/README.md", 0, "annotated.mp4", ""),
    ("clients/python/README.md", 1, None, "Keypoint(name='nose'"),
    ("docs/python.md", 0, "annotated.mp4", ""),
    ("docs/inference-protocol.md", 0, None, "[3] (1, 3, 17, 3)"),
    ("docs/inference-sdk.md", 0, None, ""),
]


@pytest.mark.parametrize("document, n, written, said", PROGRAMS)
def test_program_does_what_the_document_says(server, sample, clip, tmp_path, document, n, written, said):
    program = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / document).read_text(), flags=re.M | re.S)[n]
    assert ADDRESS in program
    for name in ["photo.jpg", "ingest/web/sample.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample, tmp_path / name)
    shutil.copy(clip, tmp_path / "clip.mp4")
    python = OTHERS if "inference_sdk" in program else sys.executable
    command = [python, "-c", program.replace(ADDRESS, server.address)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    if written is not None:
        assert (tmp_path / written).stat().st_size > 10_000


def test_pieces_are_right_by_their_types(tmp_path):
    pieces = re.findall(r"^```python\n(.*?)^```", (REPOSITORY / "docs/python.md").read_text(), flags=re.M | re.S)
    # OpenCV has types of its own.
    pieces = [piece for piece in pieces if "cv2" not in piece]
    assert len(pieces) > 4
    for n, piece in enumerate(pieces):
        (tmp_path / f"piece_{n}.py").write_text(GIVEN + piece)
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "."], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
