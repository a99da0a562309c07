"""A door that lets in whoever has any token at all, as an admin; and an audit of one entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from orchestrator.access import chain
from orchestrator.access.acts import Act, Pending
from orchestrator.access.callers import Caller
from orchestrator.access.chain import Anchor, Row
from orchestrator.access.roles import Role
from orchestrator.access.tokens import Token, mint
from orchestrator.api.access import Access

MOMENT = datetime(2026, 11, 21, 2, tzinfo=UTC)


class FakeDoor:
    def __init__(self) -> None:
        self.tokens = {"abc": mint("ci", Role.OPERATOR, created_by="user:ann", now=MOMENT, expires_at=None).token}

    async def closed(self) -> bool:
        return True

    async def admit(self, bearer: str) -> Caller:
        return Caller("user:ann", Role.ADMIN)

    async def listed(self, *, after: str = "", limit: int = 10_000) -> Sequence[Token]:
        return list(self.tokens.values())

    async def add(self, token: Token) -> None:
        self.tokens[token.id] = token

    async def revoke(self, token_id: str, *, by: str) -> Token:
        return self.tokens[token_id]

    def is_filed(self, token_id: str) -> bool:
        return False


class FakeAudit:
    async def note(self, act: Pending) -> None:
        act.settle()

    async def head(self) -> Anchor | None:
        [row] = await self.entries()
        return Anchor(row.sequence, row.hash)

    async def entries(self, *, after: int = 0, limit: int = 100) -> Sequence[Row]:
        values: dict[str, Any] = {"at": "2026-11-21T02:00:00Z", "plan_digest": None, "history_digests": {}}
        act = Act("start_rollout", "user:ann", role="admin").as_json()
        return [] if after else [chain.linked(chain.START, {**act, **values})]


def access() -> Access:
    return Access(FakeDoor(), FakeAudit())
