"""Derive the key of a password once, not for every connection.

PostgreSQL's SCRAM asks a client for 4,096 rounds of SHA-256 over password and salt (RFC 5802, `Hi`): 2 ms of the event
loop's time, which nothing else can use, of the 5 ms that connecting costs us. The salt is the role's, the same for
every connection until its password is set anew, so the result is too. libpq keeps such keys as well (its
`scram_client_key`, PostgreSQL 18).
"""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import asyncpg
import asyncpg.protocol.protocol as protocol

KEYS = 1024
# Releases before this one do the rounds themselves.
FIRST_RELEASE = (0, 32)

_kept: dict[bytes, bytes] = {}


def install() -> None:
    """Let asyncpg, which has no setting for it, derive keys through `derived`; calling it again changes nothing.

    An asyncpg that does it differently is left as it is: connecting works all the same, and costs what it did.
    """
    if _release() >= FIRST_RELEASE and getattr(protocol, "hashlib", None) is hashlib:
        names = {name: getattr(hashlib, name) for name in dir(hashlib) if not name.startswith("_")}
        protocol.hashlib = SimpleNamespace(**{**names, "pbkdf2_hmac": derived})


def derived(algorithm: str, password: bytes, salt: bytes, rounds: int) -> bytes:
    """As `hashlib.pbkdf2_hmac`, from what is kept. The password itself is not kept."""
    asked = hashlib.sha256(repr((algorithm, password, salt, rounds)).encode()).digest()
    if asked not in _kept:
        if len(_kept) >= KEYS:
            _kept.clear()
        _kept[asked] = hashlib.pbkdf2_hmac(algorithm, password, salt, rounds)
    return _kept[asked]


def _release() -> tuple[int, ...]:
    return tuple(int(part) for part in asyncpg.__version__.split(".")[:2])
