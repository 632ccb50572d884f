"""Calls made up from the description of the API: each is answered as that says, and none with an error of ours."""

import subprocess
import sys
from pathlib import Path

from processes import REPOSITORY, Processes

# Made-up requests a call, beside those of the examples and of every edge that the description has. The same in every run.
MOST = 5
SCOPES = "photo,stream,watch,cameras,jobs,admin"
# No schema can say of bytes that they are an image, or of a text that it is an address.
UNCHECKED = "positive_data_acceptance"


def test_every_call_is_answered_as_the_description_says(tmp_path):
    with Processes() as processes:
        key = processes.key(SCOPES, tmp_path / "keys.json")
        # One photo is found in its examples, so that calls with these have something to tell of.
        camera = ["--camera", f"door=file:{REPOSITORY / 'ingest/tests/images'}"]
        secret = tmp_path / "secret"
        secret.write_text("0123456789abcdef0123456789abcdef")
        store = ["--store", tmp_path / "store", "--max-job-items", "10", "--callback-secret-file", secret]
        options = ["--device", "cpu", "--model", "lightning", "--keys", tmp_path / "keys.json", *store, *camera]
        call_everything(processes.gateway("serve", *options).http, key, tmp_path)


def call_everything(gateway, key, folder):
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{gateway}/openapi.json",
        "--header", f"Authorization: Bearer {key}", "--request-timeout", "30",
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", MOST,
        "--generation-deterministic", "--no-color", "--exclude-checks", UNCHECKED,
        # These go on for ever: WebSockets, and pictures one after the other.
        "--exclude-path", "/v1/stream", "--exclude-path-regex", r"/watch$|\.mjpeg$",
        "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
