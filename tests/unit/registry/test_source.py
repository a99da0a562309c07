from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator.errors import RegistryError
from orchestrator.events import TargetsVanished
from orchestrator.registry import manifest
from orchestrator.registry.model import Registry
from orchestrator.registry.source import RegistrySource, ReloadResult
from tests.unit.registry.files import ENVIRON, VALID, write

POLL_SECONDS = 0.02
Results = list[ReloadResult | RegistryError]
OTHER = VALID.replace("acme", "globex")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path, VALID)


@pytest.fixture
async def source(path: Path) -> RegistrySource:
    source = RegistrySource(path, ENVIRON)
    await source.reload()
    return source


@asynccontextmanager
async def watching(source: RegistrySource) -> AsyncIterator[Results]:
    results: Results = []
    async with anyio.create_task_group() as tasks:

        async def watch() -> None:
            await source.watch(results.append, poll_seconds=POLL_SECONDS)

        tasks.start_soon(watch)
        yield results
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - a file's change brings it about
            await anyio.sleep(POLL_SECONDS / 4)


def told(results: Results) -> list[ReloadResult]:
    return [result for result in results if isinstance(result, ReloadResult)]


def put(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def tenants(registry: Registry) -> list[str]:
    return [target.tenant for target in registry.targets]


async def test_nothing_is_current_before_the_first_reload(path: Path) -> None:
    with pytest.raises(RuntimeError, match="await reload"):
        _ = RegistrySource(path, ENVIRON).current


async def test_reload_tells_whether_the_registry_changed(path: Path) -> None:
    source = RegistrySource(path, ENVIRON)
    first = await source.reload()
    again = await source.reload()
    put(path, OTHER)
    other = await source.reload()
    assert [first.changed, again.changed, other.changed] == [True, False, True]
    assert again.registry is first.registry
    assert tenants(source.current) == ["globex", "initech"]


async def test_a_bad_reload_keeps_the_running_registry(source: RegistrySource, path: Path) -> None:
    before = source.current
    put(path, "tracks: [")
    with pytest.raises(RegistryError):
        await source.reload()
    assert source.current is before


async def test_reloads_at_once_are_done_one_after_the_other(
    source: RegistrySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, most = 0, 0
    load = manifest.load

    def slow(*args: object) -> Registry:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        anyio.from_thread.run(anyio.sleep, 0.01)
        inside -= 1
        return load(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest, "load", slow)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(source.reload)
    assert most == 1


async def test_a_file_written_while_it_is_read_is_read_again(
    source: RegistrySource, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = manifest.load
    texts = iter([OTHER])

    def interrupted(*args: object) -> Registry:
        registry = load(*args)  # type: ignore[arg-type]
        for text in texts:
            put(path, text)
        return registry

    monkeypatch.setattr(manifest, "load", interrupted)
    await source.reload()
    assert tenants(source.current) == ["globex", "initech"]


async def test_a_change_is_noticed(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        put(path, OTHER)
        await until(lambda: results)
    [result] = told(results)
    assert (result.changed, result.registry, result.appeared, result.vanished) == (True, source.current, 1, 1)
    assert [(event.source, event.examples) for event in result.events if isinstance(event, TargetsVanished)] == [
        ("file", ("acme/app",))
    ]
    assert tenants(source.current) == ["globex", "initech"]


async def test_a_touched_file_is_read_and_unchanged(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        os.utime(path, (1, 1))
        await until(lambda: results)
    assert results == [ReloadResult(False, source.current)]


async def test_a_change_before_the_watch_began_is_noticed(source: RegistrySource, path: Path) -> None:
    put(path, OTHER)
    async with watching(source) as results:
        await until(lambda: results)
    assert tenants(source.current) == ["globex", "initech"]


async def test_mistakes_are_told_once_and_the_mended_file_is_read(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        put(path, "tracks: [")
        await until(lambda: results)
        await anyio.sleep(POLL_SECONDS * 10)
        assert [type(result) for result in results] == [RegistryError]
        put(path, OTHER)
        await until(lambda: len(results) == 2)
    assert tenants(source.current) == ["globex", "initech"]


async def test_a_pipe_in_the_place_of_the_file_is_refused_and_not_waited_for(
    source: RegistrySource, path: Path
) -> None:
    before = source.current
    remove(path)
    os.mkfifo(path)
    with anyio.fail_after(60), pytest.raises(RegistryError, match="a pipe, say, can be read only once"):
        await source.reload()
    assert source.current is before


async def test_a_removed_file_is_told_and_its_return_noticed(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        remove(path)
        await until(lambda: results)
        assert "there is no such file" in str(results[0])
        put(path, VALID)
        await until(lambda: len(results) == 2)
    assert results[1] == ReloadResult(False, source.current)


async def test_a_file_that_is_being_written_is_left_alone(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        with path.open("w") as file:
            for line in OTHER.splitlines(keepends=True):
                file.write(line)
                file.flush()
                await anyio.sleep(POLL_SECONDS / 2)
            assert results == []
        await until(lambda: results)
    [result] = told(results)
    assert (result.changed, result.registry) == (True, source.current)


async def test_a_replaced_file_is_noticed(source: RegistrySource, path: Path) -> None:
    async with watching(source) as results:
        new = path.with_suffix(".new")
        new.write_text(OTHER)
        new.replace(path)
        await until(lambda: results)
    assert tenants(source.current) == ["globex", "initech"]


async def test_a_swapped_mount_is_noticed(tmp_path: Path) -> None:
    """A ConfigMap is a symbolic link to a file below another one, `..data`, which is swapped for a new folder."""
    for name, text in (("..one", VALID), ("..two", OTHER)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, text)
        os.utime(tmp_path / name / "tenants.yaml", (1, 1))
    (tmp_path / "alembic").mkdir()
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "tenants.yaml").symlink_to("..data/tenants.yaml")
    source = RegistrySource(tmp_path / "tenants.yaml", ENVIRON)
    await source.reload()
    async with watching(source) as results:
        (tmp_path / "..new").symlink_to("..two")
        (tmp_path / "..new").replace(tmp_path / "..data")
        await until(lambda: results)
    assert tenants(source.current) == ["globex", "initech"]
    assert source.current.source == tmp_path / "tenants.yaml"


async def test_a_rotated_secret_is_noticed(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("old\n")
    source = RegistrySource(write(tmp_path, VALID.replace("${PASSWORD}", "${file:password}")), {})
    await source.reload()
    async with watching(source) as results:
        secret.write_text("new\n")
        await until(lambda: results)
    assert source.current.shards["pg"].url.password == "new"
    assert results == [ReloadResult(True, source.current)]
