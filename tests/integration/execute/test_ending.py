"""Why a daemon has ended stands in its log, by itself, however it is supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from orchestrator.errors import LeadershipLostError, OrchestratorError, StoreError, leaves
from orchestrator.service import daemon
from orchestrator.service.orchestrator import Orchestrator
from orchestrator.settings import Settings
from orchestrator.settings import load as load_settings

EMPTY = "tracks: {}\nshards: {}\ntenants: []\n"
AWAY = StoreError("the store at db.internal does not answer", remedy="look after its server")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tenants.yaml").write_text(EMPTY)
    return load_settings(config=tmp_path / "tenants.yaml", store_url=f"sqlite:///{tmp_path}/store.db", port=0)


async def _ends(settings: Settings, monkeypatch: pytest.MonkeyPatch, exc: Exception) -> list[Any]:
    """What the log says when something fails, with this error, that a daemon cannot go on without."""

    async def fails(_: Orchestrator) -> None:
        raise exc

    async def later(service: Orchestrator) -> None:
        service._tasks.start_soon(fails, service)  # as a rollout would

    monkeypatch.setattr(Orchestrator, "resume_active", later)
    with capture_logs() as lines, anyio.fail_after(60), pytest.raises(BaseException) as ended:  # noqa: PT011
        await daemon.serve(settings)
    assert exc in leaves(ended.value)
    return [line for line in lines if line["log_level"] == "error"]


async def test_a_daemon_whose_store_is_lost_says_so_once_before_it_ends(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = await _ends(settings, monkeypatch, AWAY)
    assert lines == [{"event": "store_lost", "log_level": "error", "message": AWAY.message, "remedy": AWAY.remedy}]


async def test_a_store_that_cannot_be_opened_is_told_of_in_the_log(tmp_path: Path, settings: Settings) -> None:
    away = settings.model_copy(
        update={"store_url": type(settings.store_url)(f"sqlite:///{tmp_path}/no/where/store.db")}
    )
    with capture_logs() as lines, pytest.raises(StoreError):
        await daemon.serve(away)
    assert [line["event"] for line in lines] == ["store_lost"]


async def test_each_other_end_has_its_line_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = await _ends(settings, monkeypatch, OrchestratorError("it broke", remedy="mend it"))
    assert [(line["event"], line["message"], line["remedy"]) for line in lines] == [
        ("ended_by_error", "it broke", "mend it")
    ]
    lines = await _ends(settings, monkeypatch, ValueError("unthought of"))
    assert [(line["event"], repr(line["exc_info"])) for line in lines] == [
        ("ended_by_bug", "ValueError('unthought of')")
    ]
    assert await _ends(settings, monkeypatch, LeadershipLostError("taken over")) == [], "`leader_lost` says it"
