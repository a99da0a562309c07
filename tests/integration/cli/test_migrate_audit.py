"""What a terminal's `migrate` leaves in the audit, in the test's own process."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest
import yaml

from orchestrator.api.ports import RolloutView
from orchestrator.rollout.state import Request, RolloutState
from orchestrator.service import foreground
from orchestrator.service.wiring import assembled
from orchestrator.settings import load
from orchestrator.store.engine import open_store
from tests.integration.cli.conftest import Project
from tests.workers import SharedWorkers


@pytest.mark.parametrize("interrupts", [True, False])
async def test_what_was_asked_for_and_its_abort_are_recorded(
    interrupts: bool, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "assembled", partial(assembled, workers=SharedWorkers()))
    file = project.folder / "tenants.yaml"
    content = yaml.safe_load(file.read_text())
    waves = [{"name": "first", "count": 1, "soak": "1h"}, {"name": "rest"}]
    content["strategies"] = {"careful": {"waves": waves} if interrupts else {"approval": True}}
    file.write_text(yaml.safe_dump(content))
    url, interrupted = f"sqlite:///{project.folder / 'store.db'}", anyio.Event()

    def started(view: RolloutView) -> None:
        if interrupts:
            interrupted.set()

    request, settings = Request("app", "alpha", "tenant=t00*", "careful"), load(config=file, store_url=url)
    with anyio.fail_after(60):
        view = await foreground.migrate(
            settings, request, started=started, listen=lambda event: None, interrupted=interrupted
        )
    assert view.rollout.state is RolloutState.ABORTED
    async with open_store(url) as store:
        entries: list[dict[str, Any]] = [row.values for row in await store.audit.entries()]
    asked, aborted = entries
    assert (asked["action"], aborted["action"]) == ("migrate", "abort_rollout")
    assert asked["details"] == {
        "track": "app",
        "to": "alpha",
        "select": "tenant=t00*",
        "strategy": "careful",
        "direction": "upgrade",
    }
    assert (aborted["by"], aborted["rollout"]) == (asked["by"], asked["rollout"]) == (asked["by"], view.rollout.id)
    assert (aborted["details"]["reason"] == "interrupted from the terminal") is interrupts
