"""Tell who keeps a migration waiting. A statement that builds an index concurrently has no limit for that: it waits for
every transaction of its database, other tenants' too, as long as they take."""

from __future__ import annotations

import structlog

# So many looks at the same session in a row, of a second each.
TOLD_AFTER = 5

log = structlog.get_logger(__name__)


class Waiting:
    """Of one migration: who is in its way, look by look. Each session is told of once."""

    def __init__(self, tenant: str, track: str) -> None:
        self._tenant, self._track = tenant, track
        self._looks, self._session = 0, ""
        self._told: set[str] = set()
        self.blocker: str | None = None

    def seen(self, blocker: str | None) -> None:
        """Somebody, in words as `connecting.in_words` gives them, or nobody; the last one is remembered."""
        session = (blocker or "").partition(",")[0]
        self._looks = self._looks + 1 if session == self._session else 1
        self._session = session
        self.blocker = blocker or self.blocker
        if session and self._looks >= TOLD_AFTER and session not in self._told:
            self._told.add(session)
            log.warning(
                "migration_waits",
                tenant=self._tenant,
                track=self._track,
                blocked_by=blocker,
                remedy="it goes on when that session's transaction ends: end it, or let it finish",
            )
