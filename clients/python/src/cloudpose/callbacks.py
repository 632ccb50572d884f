"""Callbacks of jobs, for those who receive them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from email.message import Message
from typing import Any

from .errors import BadCallback

_PREFIX = "whsec_"


def verify_callback(
    headers: Mapping[str, str] | Message, body: bytes, secret: str | list[str], *, tolerance: float = 300.0
) -> dict[str, Any]:
    """What a callback says, if whoever has `secret` signed it and it was sent now: as `GET /v1/jobs/{id}` tells it, in `"data"`.

    `headers` are the request's, in whatever case, and `body` its bytes as they came. `secret` is what
    `cloudpose jobs callback-key` prints (`whsec_…`), or several while it changes. A callback may come twice: its
    `webhook-id` is the same then. One that was sent more than `tolerance` seconds ago, or that much ahead, is refused, so
    that nobody sends an old one again. Raises `BadCallback`.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    try:
        id, timestamp, signatures = (sent[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as missing:
        raise BadCallback(f"the header {missing.args[0]} is missing") from None
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20):
        raise BadCallback("webhook-timestamp is no time")
    if abs(time.time() - int(timestamp)) > tolerance:
        raise BadCallback("it was sent too long ago, or the clocks differ")
    secrets = [secret] if isinstance(secret, str) else secret
    signed = f"{id}.{timestamp}.".encode() + body
    expected = [hmac.new(_key(secret), signed, hashlib.sha256).digest() for secret in secrets]
    found = [_decoded(signature[3:]) for signature in signatures.split(" ") if signature.startswith("v1,")]
    # All are compared: how long it takes says nothing.
    if not any([hmac.compare_digest(one, other) for one in expected for other in found]):
        raise BadCallback("none of its signatures is by the secret's key")
    said = json.loads(body)
    if not isinstance(said, dict):
        raise BadCallback("it says nothing of a job")
    return said


def _key(secret: str) -> bytes:
    key = _decoded(secret.removeprefix(_PREFIX))
    if not secret.startswith(_PREFIX) or not key:
        raise ValueError("a secret begins with whsec_ and goes on in base64; `cloudpose jobs callback-key` prints it")
    return key


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
