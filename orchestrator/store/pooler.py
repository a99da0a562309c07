"""A PostgreSQL store is the server itself: behind a connection pooler nobody could lead it."""

from __future__ import annotations

from sqlalchemy.dialects import registry

from orchestrator.databases import poolers
from orchestrator.errors import StoreError
from orchestrator.store.faults import POOLED
from orchestrator.store.place import Place


async def refuse(place: Place) -> None:
    """Raise StoreError where a pooler answers in the store's place. What else is wrong with it, its first use tells."""
    if not place.postgresql:
        return
    _, given = registry.load("postgresql.asyncpg")().create_connect_args(place.url)
    arguments = {name: value for name, value in given.items() if not name.startswith("prepared_statement")}
    if place.options:
        arguments["dsn"] = f"postgresql://?{place.options}"
    if await poolers.answers(arguments, place.connect_seconds):
        raise StoreError(f"the store ({place}) {POOLED.what}", remedy=POOLED.remedy)
