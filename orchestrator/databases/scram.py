"""Derive the key of a password once, not for every connection.

PostgreSQL's SCRAM asks a client for 4,096 rounds of SHA-256 over password and salt (RFC 5802, `Hi`): 2 ms of the event
loop's time, which nothing else can use, and as much as all else that connecting costs us. The salt is the role's, the
same for every connection until its password is set anew, so the result is too. libpq keeps such keys as well (its
`scram_client_key`, PostgreSQL 18). What is kept is worth as much as the password, which is in memory anyway.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from types import ModuleType, SimpleNamespace

import asyncpg.protocol.protocol as protocol

KEYS = 1024


def install() -> None:
    """Let asyncpg, which has no setting for it, derive keys through a cache; calling it again changes nothing.

    An asyncpg that does it differently is left as it is: connecting works all the same.
    """
    used = getattr(protocol, "hashlib", None)
    if not isinstance(used, ModuleType):
        return
    names = {name: getattr(used, name) for name in dir(used) if not name.startswith("_")}
    protocol.hashlib = SimpleNamespace(**{**names, "pbkdf2_hmac": lru_cache(KEYS)(hashlib.pbkdf2_hmac)})
