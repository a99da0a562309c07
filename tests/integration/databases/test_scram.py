"""One key for all connections of a role: the same answer, computed once."""

from __future__ import annotations

import hashlib
import secrets
from types import SimpleNamespace

import asyncpg
import asyncpg.protocol.protocol as protocol
import pytest

from orchestrator.databases import scram
from orchestrator.databases.embedded import Server
from tests.servers import MakeDatabases


async def test_a_role_that_gets_a_new_password_is_let_in_with_it_and_no_longer_with_the_old_one(
    pg: Server, make_databases: MakeDatabases
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
    try:
        await owner.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
        assert [await connects("first"), await connects("first"), await connects("second")] == [True, True, False]
        await owner.execute(f"ALTER ROLE {role} PASSWORD 'second'")
        assert [await connects("first"), await connects("second")] == [False, True]
        await owner.execute(f"DROP ROLE {role}")
    finally:
        await owner.close()


def test_a_key_is_derived_once_for_each_password_salt_and_number_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    derived = []

    def derive(*arguments: object) -> bytes:
        derived.append(arguments)
        return hashlib.pbkdf2_hmac(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(protocol, "hashlib", hashlib)
    monkeypatch.setattr(scram, "hashlib", SimpleNamespace(pbkdf2_hmac=derive))
    scram.install()
    scram.install()
    asked = [("sha256", b"secret", b"salt", 2), ("sha256", b"secret", b"salt", 3), ("sha256", b"other", b"salt", 2)]
    answers = [protocol.hashlib.pbkdf2_hmac(*arguments) for arguments in asked + asked]
    assert answers == [hashlib.pbkdf2_hmac(*arguments) for arguments in asked + asked]
    assert derived == asked


def test_an_asyncpg_that_does_it_differently_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(protocol, "hashlib")
    scram.install()
    assert not hasattr(protocol, "hashlib")
