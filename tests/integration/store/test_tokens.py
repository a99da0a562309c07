"""Tokens in the store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.access import acts, tokens
from orchestrator.access.acts import Act
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Minted
from orchestrator.errors import NotFoundError
from orchestrator.store.engine import Store
from tests.integration.store.samples import run_sql

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def minted(name: str = "ci", role: Role = Role.OPERATOR) -> Minted:
    return tokens.mint(name, role, created_by="terminal:ann", now=NOW, expires_at=NOW + timedelta(days=90))


async def test_a_token_comes_back_as_it_was_made_and_its_secret_is_nowhere(url: str, store: Store) -> None:
    made = minted()
    assert await store.tokens.closed_by() is None
    with acts.acting(Act("create_token", "terminal:ann")):
        await store.tokens.add(made.token)
    assert await store.tokens.closed_by() == "token"
    assert await store.tokens.find(made.token.id) == made.token
    assert await store.tokens.find("a" * 16) is None
    [row] = await store.audit.entries()
    assert row.values["details"].items() >= {"token": made.token.id, "name": "ci", "role": "operator"}.items()
    secret = made.text.split("_", 2)[2]
    for table in ("tokens", "audit", "events", "commands"):
        assert secret not in str(await run_sql(url, f"SELECT * FROM {table}"))


async def test_a_revoked_token_stays_as_it_was_revoked_first(store: Store) -> None:
    made = minted()
    await store.tokens.add(made.token)
    with acts.acting(Act("revoke_token", "user:root")):
        first = await store.tokens.revoke(made.token.id, by="user:root", at=NOW)
    with acts.acting(Act("revoke_token", "user:other")):
        again = await store.tokens.revoke(made.token.id, by="user:other", at=NOW + timedelta(days=1))
    assert first == again
    assert (again.revoked_by, again.state(NOW)) == ("user:root", "revoked")
    assert tokens.judged(made.text, again, NOW) == "revoked"
    assert [row.values["by"] for row in await store.audit.entries()] == ["user:root"]
    assert await store.tokens.closed_by() == "token"
    with pytest.raises(NotFoundError):
        await store.tokens.revoke("a" * 16, by="user:root", at=NOW)


async def test_what_a_leader_has_closed_stays_closed(store: Store) -> None:
    for _ in range(2):
        await store.tokens.close(NOW)
    assert await store.tokens.closed_by() == "leader"
    assert list(await store.audit.entries()) == []


async def test_the_latest_use_stays_whoever_tells_of_it_last(store: Store) -> None:
    made = minted()
    await store.tokens.add(made.token)
    later = NOW + timedelta(minutes=5)
    await store.tokens.used({made.token.id: later, "f" * 16: NOW})
    await store.tokens.used({made.token.id: NOW})
    found = await store.tokens.find(made.token.id)
    assert found is not None
    assert found.last_used_at == later
    assert await store.tokens.uses() == {made.token.id: later, "f" * 16: NOW}


async def test_they_are_listed_in_pages(store: Store) -> None:
    made = sorted([minted() for _ in range(5)], key=lambda one: one.token.id)
    for one in made:
        await store.tokens.add(one.token)
    first = await store.tokens.all(limit=3)
    rest = await store.tokens.all(after=first[-1].id)
    assert [one.id for one in (*first, *rest)] == [one.token.id for one in made]
