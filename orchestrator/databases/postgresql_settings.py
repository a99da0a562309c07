"""What sessions of PostgreSQL are set up with."""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.databases import postgresql_questions as sql
from orchestrator.databases import schemas
from orchestrator.databases.base import Place
from orchestrator.databases.quoting import literal
from orchestrator.sessions import Timeouts


def settings(place: Place) -> dict[str, str]:
    """Of every session that migrates."""
    limits, path = place.limits, schemas.search_path(place.target)
    given = {
        "lock_timeout": f"{limits.lock_timeout * 1000:.0f}ms",
        "statement_timeout": f"{limits.statement_timeout * 1000:.0f}ms",
        "idle_in_transaction_session_timeout": f"{limits.statement_timeout * 1000:.0f}ms",
    }
    return given if path is None else {**given, "search_path": path}


def timeouts(place: Place) -> Timeouts:
    limits = place.limits
    build = max(limits.build_timeout, limits.statement_timeout)
    return Timeouts(*(f"{it * 1000:.0f}ms" for it in (limits.lock_timeout, limits.statement_timeout, build)))


def applied(given: Mapping[str, str]) -> str:
    """Columns of a SELECT that apply the settings to the session."""
    columns = [f"pg_catalog.set_config('{name}', {literal(value)}, false)" for name, value in given.items()]
    return ", ".join([*columns, sql.CHECK_CLIENT])
