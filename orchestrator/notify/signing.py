"""Signatures of webhooks, as the Standard Webhooks specification has them: receivers have libraries for it.

Signed with HMAC-SHA256 is `<webhook-id>.<webhook-timestamp>.<body>`, the bytes of the body as they were sent.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from orchestrator.registry.notifications import decoded

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
# Receivers refuse what is older, or from later, than this.
REPLAY_SECONDS = 300.0


def signed(secret: str, delivery: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that go with a body; `timestamp` in seconds since 1970.

    >>> headers = signed("0123456789abcdef", "ntf_1", 1767323045, b"{}")
    >>> headers["webhook-signature"]
    'v1,wgptzkE1h9N/puy+icIuFgWbdwPFtg6NoFuUDSPTMk4='
    """
    return {ID: delivery, TIMESTAMP: str(timestamp), SIGNATURE: f"v1,{_mac(secret, delivery, str(timestamp), body)}"}


def verified(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a request is ours and fresh: what a receiver does. `headers` have their names in small letters.

    >>> headers = signed("0123456789abcdef", "ntf_1", 1767323045, b"{}")
    >>> verified("0123456789abcdef", headers, b"{}", now=1767323045 + 10)
    True
    >>> verified("0123456789abcdef", headers, b"{ }", now=1767323045 + 10)
    False
    >>> verified("0123456789abcdef", headers, b"{}", now=1767323045 + 301)
    False
    """
    delivery, timestamp = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > REPLAY_SECONDS:
        return False
    ours = f"v1,{_mac(secret, delivery, timestamp, body)}"
    given = headers.get(SIGNATURE, "").split(" ")
    return any(hmac.compare_digest(ours.encode(), one.encode()) for one in given)


def _mac(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    content = f"{delivery}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(decoded(secret), content, hashlib.sha256).digest()).decode()
