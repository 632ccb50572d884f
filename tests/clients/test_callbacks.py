"""Jobs and callbacks with the Python client, against a running server."""

import http.server
import subprocess
import threading
import time

import pytest
from cloudpose import BadCallback, Client, Problem, verify_callback
from processes import CLOUDPOSE, Processes


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent. Answers 410 at `/gone`."""

    heard = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.heard.append((self.path, self.headers, body))
        self.send_response(410 if self.path == "/gone" else 204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def calling(tmp_path_factory):
    """`cloudpose serve` that keeps jobs and calls this machine. Its `key` is who receives told."""
    folder = tmp_path_factory.mktemp("calling")
    secret = folder / "secret"
    secret.write_text("0123456789abcdef0123456789abcdef\n")
    options = ["--store", folder / "store", "--callback-secret-file", secret, "--callback-allow", "127.0.0.0/8"]
    told = [CLOUDPOSE, "jobs", "callback-key", "--callback-secret-file", secret]
    with Processes() as processes:
        gateway = processes.gateway("serve", "--device", "cpu", "--model", "lightning", *options)
        gateway.key = subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()
        gateway.other = subprocess.run([*told, "--tenant", "acme"], check=True, capture_output=True, text=True).stdout.strip()
        yield gateway


def until(client, id, state):
    end = time.monotonic() + 60
    while (job := client.jobs.status(id)).callback.state != state:
        assert time.monotonic() < end, job
        time.sleep(0.05)
    return job


def test_who_receives_a_callback_can_tell_who_sent_it(calling, receiver, sample, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    with Client(calling.http) as client:
        job = client.jobs.submit([sample, bad], callback=f"{receiver}/done")
        assert (job.items, job.callback.state, job.callback.tries) == (2, "waiting", 0)
        job = until(client, job.id, "delivered")
        good, bad = client.jobs.results(job)
        assert (good.name, len(good.event.persons) > 0, good.error) == (sample.name, True, None)
        assert bad.event is None and bad.error.reason == "undecodable"
    [(headers, body)] = [(headers, body) for path, headers, body in Receiver.heard if path == "/done"]
    said = verify_callback(headers, body, calling.key)
    assert (said["type"], said["data"]["id"], said["data"]["failed"]) == ("job.done", job.id, 1)
    assert verify_callback(dict(headers), body, [calling.other, calling.key]) == said

    def refused(headers=headers, body=body, secret=calling.key, **how):
        with pytest.raises(BadCallback):
            verify_callback(headers, body, secret, **how)

    refused(secret=calling.other)
    refused(body=body + b" ")
    refused(tolerance=-1)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        changed = {key.lower(): value for key, value in headers.items()}
        refused({key: value for key, value in changed.items() if key != name})
        for value in ("", "x", changed[name] + "0", "v1a," + changed[name], "v1,ä"):
            refused(changed | {name: value})
    several = {key.lower(): value for key, value in headers.items()}
    several["webhook-signature"] = f"v1,AAAA {several['webhook-signature']} v1a,BBBB"
    assert verify_callback(several, body, calling.key) == said
    with pytest.raises(ValueError, match="whsec_"):
        verify_callback(headers, body, "secret")


def test_callbacks_that_nobody_took_are_listed_and_sent_again(calling, receiver, sample):
    with Client(calling.http) as client:
        job = until(client, client.jobs.submit(sample, callback=f"{receiver}/gone").id, "failed")
        assert "410" in job.callback.last_error
        assert [dead.id for dead in client.jobs.newest(callback="failed")] == [job.id]
        assert client.jobs.call_again(job).callback.state == "waiting"
        assert job.id in [one.id for one in client.jobs.newest()]
        until(client, job.id, "failed")
    assert len([path for path, _, _ in Receiver.heard if path == "/gone"]) == 2
    with Client(calling.http) as client, pytest.raises(Problem) as told:
        client.jobs.submit(sample, callback="http://10.0.0.1/")
    assert told.value.type == "urn:cloudpose:problem:bad-callback"
