"""Locust, with which users of the existing API test how much it holds."""

import csv
import os
import subprocess
import sys
from pathlib import Path


def test_users_of_the_existing_api_are_answered(server, sample, tmp_path):
    command = [
        Path(sys.executable).with_name("locust"), "--headless", "--locustfile", Path(__file__).with_name("locustfile.py"),
        "--host", server.http, "--users", "4", "--spawn-rate", "4", "--run-time", "5s", "--csv", tmp_path / "told",
    ]  # fmt: skip
    done = subprocess.run(command, env=os.environ | {"PHOTO": str(sample)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stdout + done.stderr
    calls = {row["Name"]: row for row in csv.DictReader((tmp_path / "told_stats.csv").open())}
    for path in ["/api/pose_detection", "/api/pose_detection_annotation", "Aggregated"]:
        assert int(calls[path]["Request Count"]) > 0 and calls[path]["Failure Count"] == "0"
