"""The Open Inference Protocol beside the native call: the same picture, the same server, turn by turn.

    cargo build --release --locked
    python3 benches/peers/doors.py --binary target/release/cloudpose

Each round asks one way and then the other for some seconds, with as many connections as the server has workers and one
more, and begins with the other way than the round before. It prints the median of each and of their ratio.
"""

import argparse
import base64
import http.client
import json
import re
import statistics
import struct
import subprocess
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def native(photo, model):
    return f"/v1/pose?model={model}", {"content-type": "image/jpeg"}, photo


def binary(photo, model, count=1):
    tensor = (struct.pack("<I", len(photo)) + photo) * count
    image = {"name": "image", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": len(tensor)}}
    head = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return f"/v2/models/{model}/infer", headers, head + tensor


def in_json(photo, model):
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(photo).decode()]}
    return f"/v2/models/{model}/infer", {"content-type": "application/json"}, json.dumps({"inputs": [image]}).encode()


def ask(address, request, until, counts):
    path, headers, body = request
    connection = http.client.HTTPConnection(address)
    done = 0
    while time.perf_counter() < until:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, answer.status
        done += 1
    counts.append(done)


def rate(address, request, connections, seconds):
    counts, began = [], time.perf_counter()
    threads = [
        threading.Thread(target=ask, args=(address, request, began + seconds, counts)) for _ in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == connections, "a connection failed"
    return sum(counts) / (time.perf_counter() - began)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--binary", type=Path, required=True)
    arguments.add_argument("--photo", type=Path, default=REPOSITORY / "ingest/web/sample.jpg")
    arguments.add_argument("--model", default="fast")
    arguments.add_argument("--connections", type=int, default=3)
    arguments.add_argument("--seconds", type=float, default=3)
    arguments.add_argument("--rounds", type=int, default=15)
    asked = arguments.parse_args()
    photo = asked.photo.read_bytes()
    command = [asked.binary, "serve", "--listen", "127.0.0.1:0", "--device", "cpu"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(found[1] for line in server.stderr if (found := re.search(r"listening on http://(\S+)", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        ways = {
            "POST /v1/pose": (native(photo, asked.model), 1),
            "infer, binary": (binary(photo, asked.model), 1),
            "infer, binary, 8 images": (binary(photo, asked.model, 8), 8),
            "infer, JSON": (in_json(photo, asked.model), 1),
        }
        rates = {way: [] for way in ways}
        rate(address, ways["POST /v1/pose"][0], asked.connections, 2)
        for turn in range(asked.rounds):
            for way in list(ways)[:: 1 if turn % 2 else -1]:
                request, images = ways[way]
                rates[way].append(images * rate(address, request, asked.connections, asked.seconds))
        base = rates["POST /v1/pose"]
        print("| way | images/s | of POST /v1/pose |\n|---|---|---|")
        for way, seen in rates.items():
            ratio = statistics.median(one / other for one, other in zip(seen, base))
            print(f"| {way} | {statistics.median(seen):.1f} | {ratio:.3f} |")
    finally:
        server.terminate()
        server.wait(30)


main()
