"""The plans that are kept: whole, by digest, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio

from orchestrator.plan import manifest
from orchestrator.plan.manifest import Manifest, PlannedGroup
from orchestrator.registry.model import TargetKey
from orchestrator.store.engine import Store, open_store
from orchestrator.store.plans import KEPT
from tests.integration.store.samples import START

PLAN = Manifest(
    "downgrade",
    {"app": ("a", "b"), "dw": ()},
    {"app": {"env.py": "1"}, "dw": {}},
    {TargetKey("acme", "app"): "postgresql://h/acme", TargetKey("Zürich 🐘", "dw"): "sqlite://dbs/x"},
    (
        PlannedGroup("app", ("c",), "behind", ("c",), ("c",), "s", ("acme",)),
        PlannedGroup("dw", (), "unreachable", (), (), "", ("Zürich 🐘",)),
    ),
)


async def test_a_plan_is_found_by_its_digest(store: Store) -> None:
    digest = manifest.digest(PLAN)
    assert await store.plans.find(digest) is None
    for _ in range(2):  # made again, it is the same one
        await store.plans.keep(digest, PLAN, START)
    assert await store.plans.find(digest) == PLAN


async def test_plans_outlive_the_process_and_may_be_kept_by_several_at_once(url: str) -> None:
    async def keep() -> None:
        async with open_store(url) as store:
            for _ in range(5):
                await store.plans.keep("d", PLAN, START)

    async with open_store(url), anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(keep)
    async with open_store(url) as store:
        assert await store.plans.find("d") == PLAN


async def test_the_oldest_plans_are_let_go(store: Store) -> None:
    for number in range(KEPT + 2):
        await store.plans.keep(f"d{number}", replace(PLAN, direction=str(number)), START + timedelta(seconds=number))
    assert [await store.plans.find(f"d{number}") is None for number in (0, 1, 2, KEPT + 1)] == [
        True,
        True,
        False,
        False,
    ]
    await store.plans.keep("d2", PLAN, START + timedelta(hours=1))
    await store.plans.keep("more", PLAN, START + timedelta(hours=2))
    assert await store.plans.find("d2") == PLAN
    assert await store.plans.find("d3") is None
