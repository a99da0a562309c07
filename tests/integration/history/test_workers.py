"""Worker processes that meet code which blocks, leaves something behind, or stands in the way; no database needed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from orchestrator.errors import HistoryError, MigrationFailedError
from orchestrator.history import workers as workers_module
from orchestrator.history.jobs import MigrateJob, ReadJob
from orchestrator.history.library import Library
from orchestrator.history.progress import Observer
from orchestrator.history.revisions import contents_of, digest_over
from orchestrator.history.workers import Handle, Workers
from orchestrator.plan.steps import Plan
from orchestrator.registry.model import Track
from orchestrator.sessions import SessionRules
from tests import environments

SILENT = Observer(lambda backend: None, lambda revision, seconds: None)


@pytest.fixture
def workers() -> Iterator[Workers]:
    it = Workers(hosts=1)
    yield it
    it.close()


def _track(folder: Path, name: str = "app", **fields: str) -> Track:
    config = environments.make_project(folder)
    environments.add_tables(folder, ["one"])
    return environments.track_of(config, name, **fields)


def _add(track: Track, code: str) -> None:
    assert track.config is not None
    file = track.config.parent / "alembic" / "versions" / "one.py"
    file.write_text(file.read_text() + f"\n{code}\n")


def _job(track: Track, digest: str) -> MigrateJob:
    plan, rules = Plan((), ("one",), "upgrade", ("one",)), SessionRules("sqlite", "SELECT 0", (), "nowhere")
    return MigrateJob(track, digest, "acme", plan, "alembic_version", None, rules, "sqlite://")


def test_a_reading_that_takes_too_long_is_given_up(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = _track(tmp_path)
    digest = workers.read(ReadJob(track)).digest
    monkeypatch.setattr(workers_module, "READ_SECONDS", 0.5)
    _add(track, "while True: pass")
    with pytest.raises(HistoryError, match=r"longer than 0\.5 s"):
        workers.read(ReadJob(track))
    with pytest.raises(MigrationFailedError, match="longer than") as failed:
        workers.migrate(_job(track, digest), SILENT, Handle())
    assert failed.value.kind == "history"


async def test_a_track_that_hangs_holds_up_neither_others_nor_who_is_cancelled(
    workers: Workers, tmp_path: Path
) -> None:
    slow, quick = _track(tmp_path / "slow", "slow"), _track(tmp_path / "quick", "quick")
    _add(slow, "import time; time.sleep(3600)")
    library = Library(workers)
    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(library.current, slow)
            await anyio.sleep(0.1)
            assert (await library.current(quick)).heads == ("one",)
            tasks.cancel_scope.cancel()
    workers.close()  # ends the reading that was left behind


async def test_a_configuration_that_cannot_be_read_is_an_error_of_the_history(workers: Workers, tmp_path: Path) -> None:
    track = _track(tmp_path)
    assert track.config is not None
    track.config.write_text("[alembic\nscript_location = alembic\n")
    with pytest.raises(HistoryError, match=r"'app'.*alembic\.ini"):
        await Library(workers).current(track)


def test_a_folder_alembic_where_the_daemon_was_started_is_not_taken_for_alembic(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track = _track(tmp_path)
    (tmp_path / "alembic" / "__init__.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    # Alembic's commands leave `.` there, where another test has run one.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *filter(os.path.isabs, sys.path)])
    assert len(workers.read(ReadJob(track)).files) == 1


def test_what_a_dead_worker_started_does_not_hide_its_death(workers: Workers, tmp_path: Path) -> None:
    track = _track(tmp_path)
    note = tmp_path / "pid"
    _add(track, f"os.system('sleep 200 & echo $! > {note}'); os._exit(1)")
    with pytest.raises(HistoryError, match="died without a word"):
        workers.read(ReadJob(track))
    os.kill(int(note.read_text()), signal.SIGKILL)  # it still runs


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline, file
        time.sleep(0.02)


def test_a_host_is_hung_up_on_and_loads_without_holding_up_others(workers: Workers, tmp_path: Path) -> None:
    track, other = _track(tmp_path / "a"), _track(tmp_path / "b", "other")
    read = workers.read(ReadJob(track))
    environment = tmp_path / "a" / "alembic" / "env.py"
    loading, loaded, at_work = (tmp_path / name for name in ("loading", "loaded", "at work"))
    environment.write_text(f"import time\nopen({str(at_work)!r}, 'w').close()\ntime.sleep(3600)\n")
    waits = f"while not os.path.exists({str(loaded)!r}):\n    time.sleep(0.02)"
    _add(track, f"open({str(loading)!r}, 'w').close()\n{waits}")
    digest = digest_over(contents_of(track, read.folder, read.version_folders, read.recursive))
    handle = Handle()
    failures: list[str] = []

    def migrate() -> None:
        try:
            workers.migrate(_job(track, digest), SILENT, handle)
        except MigrationFailedError as exc:
            failures.append(exc.kind)

    thread = threading.Thread(target=migrate)
    thread.start()
    _wait_for(loading)
    workers.read(ReadJob(other))
    workers.retire("app")
    assert not at_work.exists()  # the host still loads
    loaded.touch()
    _wait_for(at_work)
    assert not failures
    handle.end()
    thread.join(60)
    assert failures == ["worker_died"]
    assert not workers._hosts


def test_a_host_runs_no_env_py_and_no_configuration_but_those_that_were_planned(
    workers: Workers, tmp_path: Path
) -> None:
    track = _track(tmp_path)
    environment, ran = tmp_path / "alembic" / "env.py", tmp_path / "ran"
    environment.write_text("# runs nothing\n")
    digest = workers.read(ReadJob(track)).digest

    def refused() -> bool:
        with pytest.raises(MigrationFailedError) as failed:  # also one that runs nothing is an error
            workers.migrate(_job(track, digest), SILENT, Handle())
        return failed.value.kind == "files_changed"

    assert not refused()
    for file, before, after in (
        (environment, "# runs nothing", f"open({str(ran)!r}, 'w').close()"),
        (tmp_path / "alembic.ini", "[alembic]", "[alembic]\nmine = 1"),
    ):
        text = file.read_text()
        file.write_text(text.replace(before, after, 1))
        assert refused(), file
        file.write_text(text)
        assert not refused()
    assert not ran.exists()
    assert len(workers._hosts) == 1


def test_a_reading_that_lets_no_thread_run_ends_all_the_same(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track, note = _track(tmp_path), tmp_path / "pid"
    _add(track, f"open({str(note)!r}, 'w').write(str(os.getpid()))\nimport re; re.match('(a+)+$', 'a' * 60 + 'b')")
    workers.start()
    monkeypatch.setattr(workers_module, "READ_SECONDS", 3.0)
    with pytest.raises(HistoryError, match="longer than 3 s"):
        workers.read(ReadJob(track))
    process = Path("/proc", note.read_text())
    deadline = time.monotonic() + 60
    try:
        while process.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        if process.exists():
            os.kill(int(process.name), signal.SIGKILL)


def test_a_host_that_has_loaded_its_history_is_given_all_the_time_that_its_targets_take(
    workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track, slow, at_its_end = _track(tmp_path), tmp_path / "slow", tmp_path / "end"
    waits = f"import os, time\nif os.path.exists({str(slow)!r}):\n    time.sleep(4)\n"
    (tmp_path / "alembic" / "env.py").write_text(f"{waits}    open({str(at_its_end)!r}, 'w').close()\n")
    digest = workers.read(ReadJob(track)).digest
    slow.touch()
    impatient = "from orchestrator.history import worker; worker.PATIENCE_SECONDS = 0.0; worker.serve({})"
    monkeypatch.setattr(Workers, "serve", impatient)
    monkeypatch.setattr(workers_module, "READ_SECONDS", 3.0)
    workers.close()
    with pytest.raises(MigrationFailedError) as failed:  # an env.py that runs nothing is an error
        workers.migrate(_job(track, digest), SILENT, Handle())
    assert failed.value.kind != workers_module.WORKER_DIED
    assert at_its_end.exists()
