"""Does to a `cloudpose serve` of its own on loopback what hostile clients do, and prints what happened as a table.

Every attack is bounded, gets a fresh server, and is followed by a photo that must be answered.
"""

import argparse
import base64
import http.server
import json
import os
import re
import resource
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pictures

REPOSITORY = Path(__file__).parents[2]
PHOTO = REPOSITORY / "ingest/web/sample.jpg"
MIB = 1 << 20


class Server:
    """A `cloudpose serve`, and what it costs."""

    def __init__(self, binary, *options):
        command = [binary, "serve", "--device", "cpu", "--listen", "127.0.0.1:0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"listening on (https?)://([\d.]+):(\d+)", line):
                self.secure, self.address = found[1] == "https", (found[2], int(found[3]))
                break
        else:
            sys.exit(f"{binary} does not start")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.begun = time.monotonic()
        self.cpu = self._cpu()

    def _cpu(self):
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, name):
        found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[1]) // 1024 if found else None

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def limit(self, which, value):
        resource.prlimit(self.process.pid, which, (value, value))

    def costs(self):
        if self.process.poll() is not None:
            return None
        return self.memory("VmHWM"), self._cpu() - self.cpu, time.monotonic() - self.begun

    def stop(self):
        begun = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)
        return time.monotonic() - begun

    def connect(self, buffer=None, protocol="http/1.1"):
        client = socket.socket()
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(30)
        client.connect(self.address)
        if not self.secure:
            return client
        # Whose certificate it is matters to nobody here.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([protocol])
        return context.wrap_socket(client)

    def ask(self, body=None, kind="image/jpeg", path="/v1/pose?model=lightning", accept="application/json"):
        """The status and the body of an answer, or why there is none."""
        try:
            with self.connect() as client:
                client.sendall(request(body, kind, path, accept, "close"))
                return answer(client)
        except OSError as error:
            return type(error).__name__, b""

    def healthy(self):
        status, _ = self.ask(PHOTO.read_bytes())
        return status

    def websocket(self, query="", buffer=None):
        client = self.connect(buffer)
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET /v1/stream{query} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(1)
        return client


def request(body, kind, path, accept="application/json", connection="keep-alive"):
    body = body or b""
    method = "POST" if body else "GET"
    return (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\naccept: {accept}\r\n"
        f"connection: {connection}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def answer(client):
    received = b""
    while data := client.recv(1 << 16):
        received += data
    if not received:
        return "no answer", b""
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def frame(opcode, payload, fin=True, claimed=None):
    """A client's WebSocket frame, with a mask of nothing."""
    length = claimed or len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 1 << 16:
        head += bytes([0x80 | 126]) + struct.pack(">H", length)
    else:
        head += bytes([0x80 | 127]) + struct.pack(">Q", length)
    return head + bytes(4) + payload


def message(client):
    """The next message of the server: its opcode and payload."""
    def exactly(count):
        data = b""
        while len(data) < count:
            if not (more := client.recv(count - len(data))):
                raise ConnectionError("closed")
            data += more
        return data

    first, length = exactly(2)
    if length == 126:
        (length,) = struct.unpack(">H", exactly(2))
    elif length == 127:
        (length,) = struct.unpack(">Q", exactly(8))
    return first & 15, exactly(length)


def open_still(clients):
    """How many of these connections the server has not ended."""
    count = 0
    for client in clients:
        client.setblocking(False)
        try:
            while client.recv(1 << 16):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            count += 1
        except OSError:
            pass
    return count


def said(status, body):
    try:
        return f"{status}: {json.loads(body)['detail'][:120]}"
    except (ValueError, KeyError, TypeError):
        return str(status)


# Each attack takes a way to start a server, and answers the server and what happened.


def webp_metadata(start, scale):
    server = start()
    server.limit(resource.RLIMIT_AS, (server.memory("VmSize") + 2048) * MIB)
    return server, said(*server.ask(pictures.long_metadata(), "image/webp"))


def webp_canvas(start, scale):
    server = start()
    return server, said(*server.ask(pictures.small_canvas(), "image/webp"))


def webp_groups(start, scale):
    server = start()
    return server, said(*server.ask(pictures.many_groups(), "image/webp"))


def jpeg_scans(start, scale):
    server = start()
    outcome = [said(*server.ask(pictures.many_scans())) for _ in range(scale(10, 2))]
    return server, outcome[-1]


def long_text(start, scale):
    server = start()
    client = server.websocket()
    message(client)
    client.sendall(frame(1, b'{"type":"' + b"x" * 8_000_000 + b'"}'))
    _, text = message(client)
    return server, f"an error of {len(text)} bytes"


def deaf_posts(start, scale):
    server = start("--still-deadline", "1m")
    noise, clients = pictures.noise(), []
    for _ in range(scale(8, 2)):
        client = server.connect(1 << 16)
        client.sendall(request(noise, "image/png", "/v1/pose?model=lightning&quality=100", "image/jpeg"))
        clients.append(client)
    # Until each is being answered.
    for client in clients:
        client.recv(1)
    begun, before = time.monotonic(), server.files()
    time.sleep(scale(30, 10))
    left = len(clients) - (before - server.files())
    return server, f"{left} of {len(clients)} held after {time.monotonic() - begun:.0f} s"


def slow_reader(start, scale):
    server = start()
    client = server.websocket("?want=overlay&quality=100&model=lightning", 1 << 16)
    client.settimeout(60)
    message(client)
    client.sendall(frame(2, pictures.noise()))
    got, limit = 0, scale(1 << 30, 4 * MIB)
    try:
        while got < limit:
            data = client.recv(64 << 10)
            if not data:
                break
            got += len(data)
            time.sleep(len(data) / 300_000)
            if data.endswith(b"\xff\xd9"):
                return server, f"all {got / 1e6:.1f} MB read at 0.3 MB/s"
    except OSError:
        pass
    return server, f"cut after {got / 1e6:.1f} MB" if got < limit else f"{got / 1e6:.1f} MB read at 0.3 MB/s"


def deaf_pings(start, scale):
    server = start()
    client = server.websocket()
    client.settimeout(10)
    flood, sent, begun = frame(9, b"x" * 125) * 1000, 0, time.monotonic()
    why = "all taken"
    try:
        while time.monotonic() - begun < scale(7, 3) and sent < 600 * MIB:
            sent += client.send(flood)
    except OSError as error:
        why = type(error).__name__
    return server, f"{sent / 1e6:.0f} MB of pings taken in {time.monotonic() - begun:.0f} s ({why})"


def unfinished(start, scale):
    server = start()
    clients = []
    for _ in range(scale(40, 12)):
        client = server.websocket()
        message(client)
        try:
            client.sendall(frame(2, bytes(15 * MIB), fin=False))
        except OSError:
            pass
        clients.append(client)
    begun = time.monotonic()
    while time.monotonic() - begun < scale(65, 2):
        for client in clients:
            try:
                client.sendall(frame(10, b"here"))
            except OSError:
                pass
        time.sleep(0.5)
    left = open_still(clients)
    return server, f"{left} of {len(clients)} still there after {time.monotonic() - begun:.0f} s"


def half_heads(start, scale):
    server = start()
    clients = [server.connect() for _ in range(scale(300, 50))]
    for client in clients[::2]:
        client.sendall(b"POST /v1/pose HTTP/1.1\r\nhost: x\r\n")
    time.sleep(13)
    left = open_still(clients)
    return server, f"{left} of {len(clients)} still there after 13 s"


def half_bodies(start, scale):
    server = start("--max-sessions", "100")
    clients = [server.connect() for _ in range(100)]
    for client in clients:
        client.sendall(request(bytes(100_000), "image/jpeg", "/v1/pose")[:-50_000])
    time.sleep(1)
    other = server.healthy()
    return server, f"another client's photo: {other}"


def no_files_left(start, scale):
    server = start()
    server.limit(resource.RLIMIT_NOFILE, server.files() + 50)
    clients = [server.connect() for _ in range(60)]
    time.sleep(0.5)
    cpu = server.costs()[1]
    clients[-1].settimeout(3)
    try:
        clients[-1].sendall(request(None, "text/plain", "/health"))
        told = answer(clients[-1])[0]
    except OSError as error:
        told = type(error).__name__
    time.sleep(2)
    busy = server.costs()[1] - cpu
    [client.close() for client in clients]
    time.sleep(0.5)
    return server, f"told {told}, {busy:.1f} CPU s in the next 2–5 s; afterwards /health says {server.ask(None, path='/health')[0]}"


def terminated(start, scale):
    server = start()
    clients = [server.connect() for _ in range(20)]
    for client in clients[::2]:
        client.sendall(b"POST /v1/pose HTTP/1.1\r\nhost: x\r\n")
    time.sleep(0.5)
    costs = server.costs()
    return server, f"exits {server.stop():.1f} s after SIGTERM", costs


def traces(start, scale):
    exported = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            exported.append(len(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{collector.server_address[1]}"
    server = start("--otlp-endpoint", endpoint, "--trace-share", "0")
    for _ in range(10):
        with server.connect() as client:
            head = request(PHOTO.read_bytes(), "image/jpeg", "/v1/pose?model=lightning", connection="close")
            trace = f"traceparent: 00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01\r\n\r\n".encode()
            client.sendall(head.replace(b"\r\n\r\n", b"\r\n" + trace, 1))
            answer(client)
    costs = server.costs()
    server.stop()
    return server, f"{sum(exported)} bytes of spans exported for 10 photos at a share of 0", costs


def over_tls(start):
    """A server that speaks TLS, with a certificate of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        made = [*command.split(), "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
        subprocess.run(made, check=True, capture_output=True)
        return start("--tls-cert", f"{folder}/cert.pem", "--tls-key", f"{folder}/key.pem")


def half_handshakes(start, scale):
    server = over_tls(start)
    clients = [socket.create_connection(server.address) for _ in range(scale(300, 50))]
    for client in clients[::2]:
        # The head of a ClientHello of 512 bytes.
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    time.sleep(13)
    left = open_still(clients)
    return server, f"{left} of {len(clients)} still there after 13 s"


def tls_pings(start, scale):
    return deaf_pings(lambda *options: over_tls(lambda *tls: start(*options, *tls)), scale)


# RFC 9113, section 6: the types of frames, and some flags.
HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, CONTINUATION = 1, 3, 4, 8, 9
END_STREAM, END_HEADERS = 1, 4
# GET / by https, from HPACK's static table (RFC 7541, appendix A), of authority x.
GET = b"\x82\x87\x84\x41\x01x"


def h2_frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2(server):
    client = server.connect(protocol="h2")
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + h2_frame(SETTINGS))
    return client


def h2_resets(start, scale):
    """Rapid reset, CVE-2023-44487."""
    server = over_tls(start)
    client, sent = http2(server), 0
    client.settimeout(10)
    try:
        for stream in range(1, 2 * scale(100_000, 20_000), 2):
            client.sendall(
                h2_frame(HEADERS, END_HEADERS | END_STREAM, stream, GET) + h2_frame(RST_STREAM, 0, stream, bytes(4))
            )
            sent += 1
    except OSError:
        return server, f"cut off after {sent} requests or less that were given up"
    return server, f"all {sent} requests taken that were given up"


def h2_headers(start, scale):
    """Headers that never end, CVE-2024-27316 and others."""
    server = over_tls(start)
    client, sent = http2(server), 0
    client.settimeout(10)
    try:
        client.sendall(h2_frame(HEADERS, END_STREAM, 1, GET))
        while sent < scale(256, 64) * MIB:
            # Names and values of 1000 bytes that no table keeps.
            field = b"\x00\x7f\xe9\x06" + b"n" * 1000 + b"\x7f\xe9\x06" + b"v" * 1000
            client.sendall(h2_frame(CONTINUATION, 0, 1, field * 8))
            sent += len(field) * 8
    except OSError:
        return server, f"cut off after {sent / 1e6:.1f} MB of headers or less"
    return server, f"{sent / 1e6:.0f} MB of headers taken"


def h2_deaf(start, scale):
    """Many answers at once, for whose bytes there is no window."""
    server = over_tls(start)
    begun, clients = time.monotonic(), []
    for _ in range(scale(50, 10)):
        client = http2(server)
        # A window of nothing: SETTINGS_INITIAL_WINDOW_SIZE is 4.
        client.sendall(h2_frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        for stream in range(1, 200, 2):
            client.sendall(h2_frame(HEADERS, END_HEADERS | END_STREAM, stream, GET))
        clients.append(client)
    time.sleep(scale(15, 8))
    left = open_still(clients)
    return server, f"{left} of {len(clients)} still there after {time.monotonic() - begun:.0f} s"


def detect(binary):
    """What `cloudpose detect` does with names: not an attack on a server."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for at in ("a", "b", "names"):
            (folder / at).mkdir()
            (folder / at / "x.jpg").write_bytes(PHOTO.read_bytes())
        forged = folder / "names" / "y\nforged: 9 people\x1b[2J.jpg"
        forged.write_bytes(PHOTO.read_bytes())
        run = lambda *paths, to: subprocess.run(
            [binary, "detect", "--model", "lightning", *paths, "-o", to], capture_output=True, text=True
        )
        twice = run(folder / "a/x.jpg", folder / "b/x.jpg", to=folder / "out")
        written = len(list((folder / "out").glob("*"))) if (folder / "out").exists() else 0
        yield "`detect -o` with two inputs of one name", f"exits {twice.returncode}, {written} written"
        precious = folder / "precious"
        precious.write_text("kept")
        (folder / "links").mkdir()
        (folder / "links/x.jpg").symlink_to(precious)
        run(folder / "a/x.jpg", to=folder / "links")
        kept = precious.read_bytes() == b"kept"
        yield "`detect -o`, a symbolic link at the target", "not followed" if kept else "followed: another file is overwritten"
        shown = run(forged, to=folder / "shown").stdout
        harm = "\n" in shown.rstrip("\n") or "\x1b" in shown
        yield "`detect`, a newline and an escape in a name", "passed on to the terminal" if harm else "escaped"


ATTACKS = [
    ("WebP of 88 bytes, metadata claim 4 GiB, memory limited", webp_metadata),
    ("WebP of 4.5 MB, canvas 64×64, picture 16383×16383", webp_canvas),
    ("WebP of 3.8 MB, 65,536 Huffman groups", webp_groups),
    ("progressive JPEGs of 2 kB, 64 scans over 4096×4096", jpeg_scans),
    ("8 MB of text", long_text),
    ("POSTs of noise, annotated, answers never read", deaf_posts),
    ("an overlay read steadily", slow_reader),
    ("pings, pongs never read", deaf_pings),
    ("messages of 15 MiB never finished, with pongs", unfinished),
    ("silence and half heads", half_heads),
    ("100 half bodies, 100 seats", half_bodies),
    ("more connections than files", no_files_left),
    ("SIGTERM beside silence and half heads", terminated),
    ("`traceparent` with the sampled flag", traces),
    ("TLS: silence and half handshakes", half_handshakes),
    ("TLS: pings, pongs never read", tls_pings),
    ("HTTP/2: requests that are given up at once", h2_resets),
    ("HTTP/2: headers that never end", h2_headers),
    ("HTTP/2: 100 requests of each connection, no window for answers", h2_deaf),
]


def rows(binary, short=False, names=None):
    """What was sent, what happened, and what it cost: (MiB at the peak, CPU seconds, seconds) or None if it died."""
    scale = (lambda long, brief: brief) if short else (lambda long, brief: long)
    for what, attack in ATTACKS:
        if names and attack.__name__ not in names:
            continue
        server, happened, *costs = attack(lambda *options: Server(binary, *options), scale)
        costs = costs[0] if costs else server.costs()
        if costs and server.process.poll() is None:
            happened += f"; a photo afterwards: {server.healthy()}"
        elif server.process.returncode:
            happened += f"; the server died ({server.process.returncode})"
        server.stop()
        yield what, happened, costs


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=Path, default=REPOSITORY / "target/release/cloudpose")
    parser.add_argument("--short", action="store_true", help="smaller and shorter, for a first look")
    parser.add_argument("--only", nargs="*", help="names of attacks, like deaf_pings")
    arguments = parser.parse_args()
    print("| what was sent | what happened | peak MiB | CPU s | s |\n|---|---|---|---|---|")
    for what, happened, costs in rows(arguments.binary, arguments.short, arguments.only):
        numbers = "{} | {:.1f} | {:.0f}".format(*costs) if costs else "– | – | –"
        print(f"| {what} | {happened} | {numbers} |", flush=True)
    if not arguments.only:
        for what, happened in detect(arguments.binary):
            print(f"| {what} | {happened} | | | |", flush=True)


if __name__ == "__main__":
    main()
