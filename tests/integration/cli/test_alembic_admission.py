"""What `orchestrator alembic` asks of the store before it changes a database. In the test's own process: what would
run is only noted."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import anyio
import pytest
import yaml

from orchestrator.access.chain import Row
from orchestrator.errors import ConfigurationError, FrozenError, StateError
from orchestrator.events import now
from orchestrator.service import alembic_command
from orchestrator.service.wiring import assembled
from orchestrator.settings import Settings, load
from orchestrator.store.engine import open_store
from tests.integration.cli.conftest import Project
from tests.workers import SharedWorkers


@pytest.fixture
def settings(project: Project) -> Settings:
    return load(config=project.folder / "tenants.yaml", store_url=f"sqlite:///{project.folder / 'store.db'}")


@pytest.fixture
def begun(project: Project, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What was in the audit, each time that a child would have started."""
    found: list[list[str]] = []

    async def noted(*arguments: Any) -> int:
        stored = "store.db" in os.listdir(project.folder)
        found.append([row.hash for row in await audited(settings)] if stored else [])
        return 0

    monkeypatch.setattr(alembic_command, "_in_child", noted)
    monkeypatch.setattr(alembic_command, "assembled", partial(assembled, workers=SharedWorkers()))
    return found


async def audited(settings: Settings) -> list[Row]:
    async with open_store(settings.store_url.get_secret_value()) as store:
        return list(await store.audit.entries())


async def alembic(settings: Settings, *arguments: str, override: str | None = None) -> int:
    return await alembic_command.run(settings, lambda registry: "app", "t001", arguments, override)


def shut(project: Project) -> None:
    file = project.folder / "tenants.yaml"
    content = yaml.safe_load(file.read_text())
    content["windows"] = {"never": {"blackouts": [{"from": "2000-01-01", "to": "2400-01-01"}]}}
    file.write_text(yaml.safe_dump(content))


async def test_a_change_is_recorded_before_it_begins_beside_a_daemon(
    settings: Settings, begun: list[list[str]]
) -> None:
    async with open_store(settings.store_url.get_secret_value()) as daemon, daemon.driver_lock(lambda reason: None):
        with anyio.fail_after(60):
            assert await alembic(settings, "-x", "password=hunter2", "upgrade", "head") == 0
    [row] = await audited(settings)
    assert begun == [[row.hash]]
    assert (row.values["action"], row.values["outcome"]) == ("alembic", "done")
    assert row.values["by"].startswith("terminal:")
    arguments = ["-x", "password=***", "upgrade", "head"]
    assert row.values["details"] == {"tenant": "t001", "track": "app", "arguments": arguments}


async def test_a_command_that_looks_leaves_the_store_alone(
    project: Project, settings: Settings, begun: list[list[str]]
) -> None:
    assert await alembic(settings, "current") == 0
    assert begun == [[]]
    assert "store.db" not in os.listdir(project.folder)


async def test_a_frozen_fleet_is_not_changed(settings: Settings, begun: list[list[str]]) -> None:
    async with open_store(settings.store_url.get_secret_value()) as store:
        await store.freeze.set("anna", "incident 7", now())
    with pytest.raises(FrozenError, match=r"frozen by anna .*: incident 7"):
        await alembic(settings, "upgrade", "head", override="no windows, but frozen all the same")
    assert begun == []
    [row] = await audited(settings)
    assert (row.values["action"], row.values["outcome"]) == ("alembic", "refused")
    assert "incident 7" in row.values["reason"]
    assert await alembic(settings, "current") == 0


async def test_outside_of_its_windows_a_tenant_is_changed_only_with_a_reason(
    project: Project, settings: Settings, begun: list[list[str]]
) -> None:
    shut(project)
    with pytest.raises(StateError, match="t001 may not be changed now: waiting for window never"):
        await alembic(settings, "upgrade", "head")
    with pytest.raises(ConfigurationError, match="says no reason"):
        await alembic(settings, "upgrade", "head", override=" ")
    assert begun == []
    assert await alembic(settings, "downgrade", "base", override="CVE-2026-1") == 0
    refused, done = await audited(settings)
    assert (refused.values["outcome"], done.values["outcome"]) == ("refused", "done")
    assert done.values["details"]["override"] == "CVE-2026-1"
