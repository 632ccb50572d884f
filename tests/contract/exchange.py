"""One HTTP request and its answer, as a snapshot shows them."""

import base64
import http.client
import json

from normal import parse, picture
from processes import REPOSITORY

SAMPLE = (REPOSITORY / "ingest/web/sample.jpg").read_bytes()
CUT_OFF = SAMPLE[:-1000]
IMAGES = REPOSITORY / "ingest/tests/images"
JSON = {"content-type": "application/json"}
JPEG = {"content-type": "image/jpeg"}
# What every answer of a gateway has besides; snapshots show it as `secured`.
SECURITY = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
FORM = {"content-type": "multipart/form-data; boundary=b"}


def base64_of(image):
    return base64.b64encode(image).decode()


def json_of(**fields):
    return json.dumps(fields)


def form(name, image):
    head = f'--b\r\ncontent-disposition: form-data; name="{name}"; filename="photo.jpg"\r\n\r\n'
    return head.encode() + image + b"\r\n--b--\r\n"


def send(gateway, method, path, headers=None, body=None):
    """The status, headers and bytes of the answer."""
    connection = http.client.HTTPConnection(gateway.address, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        # A WebSocket has no body, and stays open.
        upgraded = answer.status == 101
        return answer.status, answer.getheaders(), b"" if upgraded else answer.read()
    finally:
        connection.close()


def exchange(gateway, method, path, headers=None, body=None):
    """The status, headers and body of the answer, with what they say parsed."""
    status, headers, answer = send(gateway, method, path, headers, body)
    shown = {name.lower(): value for name, value in sorted(headers)}
    assert len(shown) == len(headers), f"a header comes twice: {headers}"
    shown.pop("date", None)
    if length := shown.pop("content-length", None):
        assert method == "HEAD" or int(length) == len(answer)
    secured = SECURITY.items() <= shown.items()
    if secured:
        shown = {name: value for name, value in shown.items() if name not in SECURITY}
    body = contents(shown.get("content-type", ""), answer)
    return {"status": status, "headers": shown, "secured": secured, "body": body}


def contents(kind, body):
    if not body:
        return None
    if kind in ("application/json", "application/problem+json"):
        return parse(body.decode())
    if kind == "image/jpeg":
        return picture(body)
    if len(body) < 100:
        return body.decode()
    return "<long>"
