"""The keys of who signs tokens, fetched over HTTPS: from whom this machine's authorities vouch for, and from nobody else."""

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from processes import Processes

AUDIENCE = "poses"
PATIENCE = 120


def openssl(*arguments, **options):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **options).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture
def authorities(tmp_path):
    """Two of them, and a certificate for `localhost` that the first one has signed."""
    for name in ("ours", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN={name}", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
            "-keyout", tmp_path / "server.key", "-out", tmp_path / "server.csr")
    (tmp_path / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", tmp_path / "server.csr", "-days", "2", "-CA", tmp_path / "ours.pem",
            "-CAkey", tmp_path / "ours.key", "-CAcreateserial", "-extfile", tmp_path / "names",
            "-out", tmp_path / "server.pem")
    return tmp_path


class Signer:
    """Somebody who signs tokens by EdDSA."""

    def __init__(self, folder, name):
        self.file = folder / f"{name}.ed25519"
        openssl("genpkey", "-algorithm", "ed25519", "-out", self.file)
        public = openssl("pkey", "-in", self.file, "-pubout", "-outform", "DER")[-32:]
        self.keys = {"keys": [{"kid": "k1", "kty": "OKP", "crv": "Ed25519", "x": base64url(public)}]}

    def token(self):
        claims = {"aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "door", "scope": "photo"}
        parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "kid": "k1"}, claims)]
        said = self.file.with_suffix(".said")
        said.write_text(".".join(parts))
        return ".".join([*parts, base64url(openssl("pkeyutl", "-sign", "-rawin", "-inkey", self.file, "-in", said))])


@contextmanager
def published(keys, folder):
    """Publishes keys over HTTPS as `localhost`. Its address, and how often somebody has asked."""
    asked = []

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps(keys).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *_):
            """Who does not trust the certificate hangs up."""

    server = Server(("127.0.0.1", 0), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://localhost:{server.server_port}/keys", asked
    server.shutdown()
    server.server_close()


@contextmanager
def gateway(keys, trusts, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(trusts))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    with Processes() as processes:
        options = ["--jwks", keys, "--jwt-audience", AUDIENCE, "--model", "lightning"]
        yield processes.gateway("serve", "--device", "cpu", *options)


def status(server, token):
    request = urllib.request.Request(f"{server.http}/v1/models", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_keys_of_whom_the_authorities_vouch_for(authorities, monkeypatch):
    signer, stranger = Signer(authorities, "signer"), Signer(authorities, "stranger")
    with published(signer.keys, authorities) as (address, asked):
        with gateway(address, authorities / "ours.pem", monkeypatch) as server:
            until = time.monotonic() + PATIENCE
            while status(server, signer.token()) != 200 and time.monotonic() < until:
                time.sleep(0.1)
            assert status(server, signer.token()) == 200
            assert status(server, stranger.token()) == 401
            assert asked[0] == "/keys"


def test_no_keys_of_whom_they_do_not_vouch_for(authorities, monkeypatch):
    signer = Signer(authorities, "signer")
    with published(signer.keys, authorities) as (address, asked):
        with gateway(address, authorities / "other.pem", monkeypatch) as server:
            # Asked for a key that it does not know it tries at once to fetch it.
            for _ in range(20):
                assert status(server, signer.token()) == 401
                time.sleep(0.1)
            assert not asked
