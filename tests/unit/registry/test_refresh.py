"""A registry whose sources are asked: when, how often, and what becomes of answers that come late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from orchestrator.errors import DiscoveryError, RegistryError
from orchestrator.events import SourceStale
from orchestrator.registry import source as module
from orchestrator.registry.answers import Row
from orchestrator.registry.model import Discovery, Registry
from orchestrator.registry.source import RegistrySource, ReloadResult
from tests.unit.registry.files import SHARDS, TENANTS, TRACKS, write

ONE = """discover:
  - {name: one, shard: pg, databases: "t_(?P<tenant>.+)", refresh: 1s}
"""
TWO = (
    ONE
    + """  - {name: two, shard: pg, databases: "u_(?P<tenant>.+)", refresh: 1h}
"""
)
POLL_SECONDS = 0.01


@dataclass
class Lookup:
    """Answers with what `names` holds for a source; `held` keeps it from answering."""

    names: dict[str, list[str] | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    held: dict[str, anyio.Event] = field(default_factory=dict)

    async def ask(self, registry: Registry, discovery: Discovery) -> Sequence[Row]:
        self.asked.append(discovery.name)
        answer = self.names.get(discovery.name, [])
        if discovery.name in self.held:
            await self.held[discovery.name].wait()
        if isinstance(answer, Exception):
            raise answer
        return [{"database": name} for name in answer]


@pytest.fixture
def lookup() -> Lookup:
    return Lookup({"one": ["t_a", "t_b"], "two": ["u_c"]})


async def opened(folder: Path, lookup: Lookup, discover: str = TWO) -> RegistrySource:
    source = RegistrySource(write(folder, TRACKS + SHARDS + TENANTS + discover), {}, lookup)
    await source.read()
    return source


def tenants(source: RegistrySource) -> list[str]:
    return [target.tenant for target in source.current.targets]


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the sources are asked at intervals
            await anyio.sleep(POLL_SECONDS)


@asynccontextmanager
async def refreshing(source: RegistrySource) -> AsyncIterator[list[ReloadResult | RegistryError]]:
    results: list[ReloadResult | RegistryError] = []
    async with anyio.create_task_group() as tasks:

        async def refresh() -> None:
            await source.refresh(results.append, poll_seconds=POLL_SECONDS)

        tasks.start_soon(refresh)
        yield results
        tasks.cancel_scope.cancel()


async def test_reading_the_file_asks_nobody(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup)
    assert (tenants(source), lookup.asked) == (["acme"], [])
    assert source.current.unanswered == ("one", "two")
    assert [one.stale_since for one in source.sources] == [None, None]


async def test_discovery_asks_all_and_a_reload_asks_again(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup)
    found = await source.discover()
    assert (found.changed, found.appeared, found.vanished) == (True, 3, 0)
    assert tenants(source) == ["acme", "a", "b", "c"]
    lookup.names["two"] = ["u_c", "u_d"]
    again = await source.reload()
    assert (again.changed, again.appeared, tenants(source)[-1]) == (True, 1, "d")
    assert sorted(lookup.asked) == ["one", "one", "two", "two"]


async def test_an_answer_that_says_nothing_new_leaves_the_registry_as_it_is(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup)
    await source.discover()
    before, refreshed = source.current, [one.refreshed_at for one in source.sources]
    result = await source.discover()
    assert (result.changed, result.registry) == (False, before)
    assert source.current is before
    assert all(one.refreshed_at > moment for one, moment in zip(source.sources, refreshed, strict=True))  # type: ignore[operator]


async def test_one_source_that_fails_keeps_no_other_from_answering(tmp_path: Path, lookup: Lookup) -> None:
    lookup.names["one"] = DiscoveryError("no answer", remedy="mend it")
    source = await opened(tmp_path, lookup)
    result = await source.discover()
    assert tenants(source) == ["acme", "c"]
    assert [(event.source, event.reason) for event in result.events if isinstance(event, SourceStale)] == [
        ("one", "no answer (mend it)")
    ]


async def test_a_source_that_gives_no_answer_is_given_up(
    tmp_path: Path, lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.05)
    lookup.held["one"] = anyio.Event()
    source = await opened(tmp_path, lookup)
    await source.discover()
    assert source.sources[0].reason == "no answer within 0.05 s (look at its load)"
    assert tenants(source) == ["acme", "c"]


async def test_a_source_that_goes_on_failing_stays_stale_and_says_why_now(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup, ONE)
    await source.discover()
    for reason in ("no answer", "no answer", "no such table"):
        lookup.names["one"] = DiscoveryError(reason)
        await source.discover()
        assert source.sources[0].reason == reason
    assert tenants(source) == ["acme", "a", "b"]
    lookup.names["one"] = ["t_a", "t_b"]
    await source.discover()
    assert source.sources[0].reason is None


async def test_a_surprise_is_that_sources_own(tmp_path: Path, lookup: Lookup) -> None:
    lookup.names["one"] = RuntimeError("secret")
    source = await opened(tmp_path, lookup)
    await source.discover()
    assert source.sources[0].reason == "the orchestrator failed: RuntimeError (this is a bug: please report it)"
    assert tenants(source) == ["acme", "c"]


async def test_each_source_is_asked_at_its_own_interval(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup)
    await source.discover()
    lookup.names["one"] = ["t_a", "t_b", "t_e"]
    async with refreshing(source) as results:
        await until(lambda: results)
    assert lookup.asked.count("two") == 1
    assert tenants(source) == ["acme", "a", "b", "e", "c"]


async def test_a_source_that_does_not_answer_holds_up_no_other_and_is_not_asked_twice(
    tmp_path: Path, lookup: Lookup
) -> None:
    lookup.held["two"] = anyio.Event()
    source = await opened(tmp_path, lookup, TWO.replace("1h", "1s"))
    async with refreshing(source) as results:
        await until(lambda: len(results) >= 2)
        assert lookup.asked.count("two") == 1
        lookup.held["two"].set()
        await until(lambda: "c" in tenants(source))


async def test_an_answer_that_was_overtaken_does_not_count(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup, ONE)
    await source.discover()
    lookup.names["one"] = ["t_a", "t_b", "t_old"]
    lookup.held["one"] = late = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.discover)
        await until(lambda: len(lookup.asked) == 2)
        del lookup.held["one"]
        lookup.names["one"] = ["t_a", "t_b", "t_new"]
        await source.reload()
        late.set()
    assert tenants(source) == ["acme", "a", "b", "new"]


async def test_an_answer_to_an_entry_that_was_changed_meanwhile_does_not_count(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup, ONE)
    lookup.held["one"] = late = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.discover)
        await until(lambda: lookup.asked)
        write(tmp_path, TRACKS + SHARDS + TENANTS + ONE.replace("t_", "u_"))
        await source.read()
        late.set()
    assert tenants(source) == ["acme"]


async def test_an_answer_of_an_entry_that_is_taken_out_while_it_waits_for_its_turn_does_not_count(
    tmp_path: Path, lookup: Lookup
) -> None:
    source = await opened(tmp_path, lookup)
    await source.discover()
    lookup.names["one"] = ["t_a", "t_new"]
    async with anyio.create_task_group() as tasks, source._merging:  # a reload is at work
        tasks.start_soon(source.discover)
        await until(lambda: lookup.asked.count("one") == 2)
        await anyio.sleep(0.05)
        write(tmp_path, TRACKS + SHARDS + TENANTS)
        file = await source._file.read()
        source._current = source._named = file
        source._sources = {}
    assert tenants(source) == ["acme"]


async def test_a_bad_file_keeps_what_was_found(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup, ONE)
    await source.discover()
    write(tmp_path, "tracks: [")
    with pytest.raises(RegistryError):
        await source.reload()
    lookup.names["one"] = ["t_a", "t_b", "t_c"]
    await source.discover()
    assert tenants(source) == ["acme", "a", "b", "c"]


async def test_a_reload_takes_an_answer_that_lost_most_and_a_refresh_does_not(tmp_path: Path, lookup: Lookup) -> None:
    lookup.names["one"] = ["t_a", "t_b", "t_c"]
    source = await opened(tmp_path, lookup, ONE)
    await source.discover()
    lookup.names["one"] = []
    await source.discover()
    assert tenants(source) == ["acme", "a", "b", "c"]
    result = await source.reload()
    assert (tenants(source), result.vanished) == (["acme"], 3)


async def test_what_sources_answer_is_no_reading_of_the_file(tmp_path: Path, lookup: Lookup) -> None:
    source = await opened(tmp_path, lookup)
    assert (await source.reload()).read
    assert not (await source.discover()).read, "nothing new"
    lookup.names["one"] = ["t_a", "t_b", "t_d"]
    found = await source.discover()
    assert (found.changed, found.read) == (True, False)
    lookup.names["one"] = DiscoveryError("gone", remedy="look")
    assert not (await source.discover()).read
