"""The plans that were made last: what they said, by digest."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from orchestrator.plan import manifest as manifests
from orchestrator.plan.manifest import Manifest
from orchestrator.store import inserting
from orchestrator.store.changes import Written
from orchestrator.store.connections import Connections
from orchestrator.store.rows import storable_json
from orchestrator.store.tables import plans
from orchestrator.store.writer import Writer

# A plan over 10,000 targets is a megabyte. Of one that is no longer kept, the digest still tells which part differs.
KEPT = 50


class StorePlans:
    """Keeps what plans said; any number of processes may."""

    def __init__(self, connections: Connections, writer: Writer) -> None:
        self._connections, self._writer = connections, writer

    async def keep(self, digest: str, manifest: Manifest, made_at: datetime) -> None:
        """Keep a plan, as the newest; the oldest are let go. Raises StoreError."""
        row = {"digest": digest, "made_at": made_at, "manifest": storable_json(manifests.as_json(manifest))}
        await self._writer.alone(lambda connection: _keep(connection, row))

    async def find(self, digest: str) -> Manifest | None:
        """What the plan said; None when it was made elsewhere, or long ago."""
        wanted = select(plans.c.manifest).where(plans.c.digest == digest)
        found = await self._connections.read(lambda connection: connection.execute(wanted).scalar_one_or_none())
        return None if found is None else manifests.from_json(found)


def _keep(connection: Connection, row: dict[str, Any]) -> Written[None]:
    again = {"made_at": row["made_at"], "manifest": row["manifest"]}
    put = inserting.into(connection, plans).values(row)
    connection.execute(put.on_conflict_do_update(index_elements=["digest"], set_=again))
    newest = select(plans.c.digest).order_by(plans.c.made_at.desc(), plans.c.digest).limit(KEPT)
    connection.execute(delete(plans).where(plans.c.digest.not_in(newest)))
    return Written(None)
