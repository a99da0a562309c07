"""What concerns the daemon as a whole: its schedules, a freeze of the fleet, its tokens and its audit."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, cast

from orchestrator.client import shapes
from orchestrator.client.connection import PAGE, Connection, place


class Administration(Connection):
    """A connection that asks for them. Tokens and the audit are shown to admins only."""

    async def schedules(self, *, upcoming: int = 3) -> list[shapes.Schedule]:
        """Each with so many of its next runs, and its latest one."""
        answer = await self._ask("GET", "/api/v1/schedules", params={"upcoming": upcoming})
        return cast(list[shapes.Schedule], answer["items"])

    async def schedule(self, name: str, *, upcoming: int = 5, runs: int = 20) -> shapes.Schedule:
        asked = {"upcoming": upcoming, "runs": runs}
        return cast(shapes.Schedule, await self._ask("GET", place("schedules", name), params=asked))

    async def switch_schedule(self, name: str, *, enabled: bool) -> shapes.Schedule:
        verb = "enable" if enabled else "disable"
        return cast(shapes.Schedule, await self._ask("POST", place("schedules", name, verb)))

    async def run_schedule(self, name: str) -> shapes.Run:
        """Start it now; what that came to."""
        return cast(shapes.Run, await self._ask("POST", place("schedules", name, "run")))

    async def frozen(self) -> shapes.Freeze:
        return cast(shapes.Freeze, await self._ask("GET", "/api/v1/freeze"))

    async def freeze(self, reason: str) -> shapes.Freeze:
        """Let nothing start any more, on the whole fleet."""
        return cast(shapes.Freeze, await self._ask("POST", "/api/v1/freeze", json={"reason": reason}))

    async def lift_freeze(self) -> shapes.Freeze:
        return cast(shapes.Freeze, await self._ask("DELETE", "/api/v1/freeze"))

    async def tokens(self) -> list[shapes.Token]:
        """All of them, without their secrets."""
        return [token async for token in self._pages("/api/v1/tokens", {})]

    async def create_token(self, name: str, role: str, expires_seconds: float | None = None) -> shapes.NewToken:
        """Its secret is in this answer, and nowhere else."""
        asked = {"name": name, "role": role, "expires_seconds": expires_seconds}
        return cast(shapes.NewToken, await self._ask("POST", "/api/v1/tokens", json=asked))

    async def revoke_token(self, token_id: str) -> shapes.Token:
        return cast(shapes.Token, await self._ask("POST", place("tokens", token_id, "revoke")))

    async def audit(self, *, after: int = 0) -> AsyncGenerator[dict[str, Any], None]:
        """The entries that follow `after`, oldest first, as they are hashed but for `hash`."""
        async for entry in self._pages("/api/v1/audit", {"after": after}):
            yield entry

    async def audit_page(self, *, after: int = 0) -> shapes.AuditPage:
        """Some of the entries that follow `after`, oldest first; none where there are no more."""
        asked = {"after": after, "limit": PAGE}
        return cast(shapes.AuditPage, await self._ask("GET", "/api/v1/audit", params=asked))
