"""Roles of fleets: those that all tenants have, those that each has of its own, and who migrates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.databases.embedded import Server
from orchestrator.registry.model import Target
from orchestrator.service.drifting import Compared, Question
from tests import engine
from tests.engine import registry_of, running, shard_of
from tests.integration.drift.test_fleets import project, standings
from tests.servers import MakeDatabases, unique_names

pytestmark = pytest.mark.anyio


async def drop(pg: Server, databases: Sequence[str], roles: Sequence[str]) -> None:
    for name in databases:
        for role in roles:
            await engine.execute(pg, name, f"REASSIGN OWNED BY {role} TO CURRENT_USER", f"DROP OWNED BY {role}")
    await engine.execute(pg, "postgres", *(f"DROP ROLE {role}" for role in roles))


async def compared(pg: Server, targets: Sequence[Target], folder: Path, question: Question | None = None) -> Compared:
    async with running(registry_of([project(folder)], [shard_of(pg)], targets)) as fleet:
        await fleet.rollout()
        return await fleet.service.drifting.compare(question or Question())


async def test_a_shard_whose_user_is_the_owner_is_as_one_whose_user_is_not(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    databases, [own] = await make_databases(3), unique_names(1, "own")
    await engine.execute(pg, "postgres", f"CREATE ROLE {own} LOGIN PASSWORD 'p'")
    for name in databases:
        await engine.execute(pg, "postgres", f'ALTER DATABASE "{name}" OWNER TO {own}')
    ours = shard_of(pg)
    theirs = replace(ours, name="theirs", url=ours.url.set(username=own, password="p"))
    targets = [Target(f"t{n}", "app", "theirs", name) for n, name in enumerate(databases)]
    try:
        async with running(registry_of([project(tmp_path)], [ours, theirs], targets)) as fleet:
            await fleet.rollout()
            for name in databases:
                await engine.execute(pg, name, "GRANT SELECT ON orders TO pg_monitor")
            moved = (replace(targets[0], shard=ours.name), *targets[1:])
            fleet.source.current = replace(fleet.source.current, targets=moved)
            found = await fleet.service.drifting.compare(Question())
    finally:
        await drop(pg, databases, [own])
    assert set(standings(found).values()) == {"equal"}


async def test_a_role_that_all_tenants_have_is_no_tenants_own_whatever_one_of_them_is_called(
    pg: Server, make_databases: MakeDatabases, tmp_path: Path
) -> None:
    """Each has a role of its own besides, and one has another tenant's, which is drift."""
    databases, token = await make_databases(4), unique_names(1, "x")[0].split("_")[1]
    tenants = [f"app{token}", f"b{token}", f"zoo{token}", f"c{token}"]
    common, owned = f"app{token}_readonly", [f"login_{tenant}" for tenant in tenants]
    targets = [Target(tenant, "app", "pg", name) for tenant, name in zip(tenants, databases, strict=True)]
    await engine.execute(pg, "postgres", *(f"CREATE ROLE {role}" for role in (common, *owned)))
    registry = registry_of([project(tmp_path)], [shard_of(pg)], targets)
    try:
        async with running(registry) as fleet:
            await fleet.rollout()
            for name, role in zip(databases, owned, strict=True):
                await engine.execute(pg, name, f"GRANT SELECT ON orders TO {common}, {role}, pg_monitor")
                await engine.execute(
                    pg, name, f"CREATE POLICY po ON orders TO {role}, {common}, pg_monitor USING (true)"
                )
            found = await fleet.service.drifting.compare(Question())
            assert set(standings(found).values()) == {"equal"}

            await engine.execute(pg, databases[1], f"GRANT SELECT ON orders TO {owned[0]}")
            found = await fleet.service.drifting.compare(Question())
            assert [tenant for tenant, told in standings(found).items() if told == "drifted"] == [tenants[1]]
            await engine.execute(pg, databases[1], f"REVOKE SELECT ON orders FROM {owned[0]}")

            await engine.execute(pg, databases[0], f"REVOKE SELECT ON orders FROM {common}")
            found = await fleet.service.drifting.compare(Question())
            assert [tenant for tenant, told in standings(found).items() if told == "drifted"] == [tenants[0]]
            [difference] = found.differences.values()
            assert difference.total == 2
            assert common in str(difference.lines[0])
            assert "login_<tenant>" in str(difference.lines[0])
    finally:
        await drop(pg, databases, [common, *owned])
