"""Reading the heads of many targets: one target's surprise is that target's."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import StoreError, TargetError
from orchestrator.execute.migrate import Migrator
from orchestrator.execute.survey import Surveyor
from orchestrator.registry.model import Registry, Shard, Target


class Reading:
    """A migrator whose targets' databases are named after what reading them raises."""

    def __init__(self, errors: dict[str, Exception]) -> None:
        self._errors = errors

    async def read_heads(self, registry: Registry, target: Target) -> tuple[str, ...]:
        if target.tenant in self._errors:
            raise self._errors[target.tenant]
        return ("one",)


async def _read(errors: dict[str, Exception]) -> dict[str, Any]:
    targets = tuple(Target(name, "app", "pg", name) for name in ("acme", "globex", "initech"))
    registry = Registry(Path("/x"), "test", {}, {"pg": Shard("pg", make_url("postgresql://u@h"))}, targets, {})
    seen: dict[str, Any] = {}

    def found(target: Target, heads: tuple[str, ...] | None, error: TargetError | None) -> None:
        seen[target.tenant] = error or heads

    await Surveyor(cast(Migrator, Reading(errors)), 2).read(registry, targets, found, seconds=5)
    return seen


async def test_a_bug_with_one_target_is_told_and_the_others_are_read() -> None:
    seen = await _read({"globex": ZeroDivisionError("oops")})
    assert (seen["acme"], seen["initech"]) == (("one",), ("one",))
    assert seen["globex"].kind == "bug"
    assert "ZeroDivisionError: oops" in seen["globex"].message
    assert not seen["globex"].retriable


async def test_a_failing_store_is_not_hidden() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await _read({"globex": StoreError("gone")})
    assert raised.group_contains(StoreError)


async def test_what_became_known_meanwhile_is_passed_over() -> None:
    targets = tuple(Target(name, "app", "pg", name) for name in ("acme", "globex", "initech"))
    registry = Registry(Path("/x"), "test", {}, {"pg": Shard("pg", make_url("postgresql://u@h"), 1)}, targets, {})
    seen: list[str] = []
    surveyor = Surveyor(cast(Migrator, Reading({})), 1)

    def found(target: Target, heads: tuple[str, ...] | None, error: TargetError | None) -> None:
        seen.append(target.tenant)

    await surveyor.read(registry, targets, found, seconds=5, is_known=lambda target: "acme" in seen)
    assert seen == ["acme"]


async def test_who_can_make_nothing_of_a_target_s_heads_is_told_of_it_once_more_as_of_a_bug() -> None:
    targets = tuple(Target(name, "app", "pg", name) for name in ("acme", "globex"))
    registry = Registry(Path("/x"), "test", {}, {"pg": Shard("pg", make_url("postgresql://u@h"))}, targets, {})
    seen: dict[str, Any] = {}

    def found(target: Target, heads: tuple[str, ...] | None, error: TargetError | None) -> None:
        if target.tenant == "acme" and error is None:
            raise AssertionError("no plan")
        seen[target.tenant] = error or heads

    await Surveyor(cast(Migrator, Reading({})), 2).read(registry, targets, found, seconds=5)
    assert seen["acme"].kind == "bug"
    assert seen["globex"] == ("one",)
