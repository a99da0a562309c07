"""One key for all connections of a role: the same answer, computed once."""

from __future__ import annotations

import hashlib
import secrets

import asyncpg
import asyncpg.protocol.protocol as protocol
import pytest

from orchestrator.databases import scram
from orchestrator.databases.embedded import Server
from tests.servers import MakeDatabases

KEEPS = tuple(int(part) for part in asyncpg.__version__.split(".")[:2]) >= (0, 32)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, bytes]:
    """The keys that are kept, none at first."""
    fresh: dict[bytes, bytes] = {}
    monkeypatch.setattr(scram, "_kept", fresh)
    return fresh


async def test_a_role_that_gets_a_new_password_is_let_in_with_it_and_no_longer_with_the_old_one(
    pg: Server, make_databases: MakeDatabases, kept: dict[bytes, bytes]
) -> None:
    scram.install()
    (database,) = await make_databases(1)
    role = f"r_{secrets.token_hex(4)}"

    async def connects(password: str) -> bool:
        try:
            connection = await asyncpg.connect(pg.url(database), user=role, password=password)
        except asyncpg.InvalidPasswordError:
            return False
        await connection.close()
        return True

    owner = await asyncpg.connect(pg.url(database))
    await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
    kept.clear()
    try:
        assert [await connects("first"), await connects("first"), await connects("second")] == [True, True, False]
        await owner.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        assert [await connects("first"), await connects("second")] == [False, True]
    finally:
        await owner.execute(f"DROP ROLE {role}")
        await owner.close()
    # Two passwords under the first salt, two under the second; the second connection derived nothing.
    assert len(kept) == (4 if KEEPS else 0)


def test_a_key_is_derived_once_for_each_password_salt_and_number_of_rounds(
    kept: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [("sha256", b"secret", b"salt", 2), ("sha256", b"secret", b"salt", 3), ("sha256", b"other", b"salt", 2)]
    expected = [hashlib.pbkdf2_hmac(*arguments) for arguments in asked]
    assert [scram.derived(*arguments) for arguments in asked] == expected
    monkeypatch.delattr(hashlib, "pbkdf2_hmac")
    assert [scram.derived(*arguments) for arguments in asked] == expected
    assert not [part for part in kept if b"secret" in part]


def test_what_is_kept_has_a_bound(kept: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scram, "KEYS", 2)
    for number in range(5):
        scram.derived("sha256", b"secret", bytes([number]), 1)
        assert len(kept) <= 2


def test_an_asyncpg_that_does_it_differently_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "hashlib", "something else", raising=False)
    scram.install()
    assert protocol.hashlib == "something else"
    monkeypatch.setattr(protocol, "hashlib", hashlib)
    monkeypatch.setattr(asyncpg, "__version__", "0.31.0")
    scram.install()
    assert protocol.hashlib is hashlib
