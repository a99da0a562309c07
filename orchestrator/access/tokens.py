"""Bearer tokens: how they look, how they are kept, and when they count. Pure but for the randomness of a new one.

A token is `orc_<id>_<secret>`. The id is public: it finds the entry, and stands in lists and in the log. The secret is
256 bits from the system's generator, and only its hash is kept. Plain SHA-256 is right for that: slow hashes (bcrypt,
argon2) protect what people think up and others can guess. 256 random bits cannot be guessed at any speed, and a slow
hash would give everybody who sends nonsense a tenth of a second of the daemon's processor.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from orchestrator.access import callers
from orchestrator.access.callers import Caller
from orchestrator.access.roles import Role

SHAPE = re.compile(r"orc_(?P<id>[a-z2-7]{16})_(?P<secret>[A-Za-z0-9_-]{43})")
ID = re.compile(r"[a-z2-7]{16}")
HASH = re.compile(r"sha256:[0-9a-f]{64}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
NAME_RULE = "a name begins with a letter or digit and holds only these and . _ @ -, at most 64"
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"
_NOBODYS = f"sha256:{'0' * 64}"
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

State = Literal["active", "expired", "revoked"]
Source = Literal["store", "file"]
Refusal = Literal["unknown", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. `source`: `store`, or `file` for one that ORCHESTRATOR_TOKENS_FILE names."""

    id: str
    name: str
    role: Role
    hash: str
    expires_at: datetime | None = None
    created_at: datetime | None = None
    created_by: str | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    last_used_at: datetime | None = None
    source: Source = "store"

    @property
    def caller(self) -> Caller:
        return Caller(f"{callers.USER}{self.name}", self.role)

    def state(self, now: datetime) -> State:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token. `text` is the secret itself: it is shown once, and kept nowhere."""

    text: str
    token: Token

    def __repr__(self) -> str:
        return f"Minted({self.token.id})"


def mint(name: str, role: Role, *, created_by: str, now: datetime, expires_at: datetime | None) -> Minted:
    """Raises ValueError when the name cannot be one."""
    if not NAME.fullmatch(name):
        raise ValueError(NAME_RULE)
    number = "".join(secrets.choice(_ID_LETTERS) for _ in range(16))
    text = f"orc_{number}_{secrets.token_urlsafe(32)}"
    return Minted(text, Token(number, name, role, hashed(text), expires_at, now, created_by))


def hashed(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def id_of(text: str) -> str | None:
    """The public id of what looks like a token; None for anything else, which need not be looked up."""
    match = SHAPE.fullmatch(text)
    return match["id"] if match else None


def judged(text: str, found: Token | None, now: datetime) -> Token | Refusal:
    """The token that `text` is, or why it does not count.

    Whether it is another one's, expired or revoked is told only to who has the secret. The comparison takes the same
    time wherever the hashes differ, and is made also when no token has that id.
    """
    same = hmac.compare_digest(hashed(text), found.hash if found is not None else _NOBODYS)
    if found is None or not same:
        return "unknown"
    state = found.state(now)
    return found if state == "active" else state


def lifetime(text: str) -> timedelta | None:
    """How long a token counts, from `90d`, `12h`, `2w`; None for `never`. Raises ValueError.

    >>> lifetime("90d"), lifetime("never")
    (datetime.timedelta(days=90), None)
    """
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    if match is None:
        raise ValueError("write it like 90d, 12h or 4w, or `never`")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
