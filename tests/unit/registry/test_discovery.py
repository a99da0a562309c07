"""One registry of a file and the answers of its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from orchestrator.errors import DiscoveryError
from orchestrator.events import Event, SourceRecovered, SourceStale, TargetsVanished, TenantsIgnored
from orchestrator.registry import changes, discovery
from orchestrator.registry.discovery import Source, Sources
from orchestrator.registry.model import Discovery, Registry, Shard, Target, Track
from orchestrator.registry.places import identity

START = datetime(2026, 11, 21, tzinfo=UTC)
BROKEN = DiscoveryError("no answer", remedy="mend it")


def entry(name: str = "one", pattern: str = "(?P<tenant>.+)", **fields: Any) -> Discovery:
    return Discovery(name, "databases", pattern, shard="pg", pattern=pattern, **fields)


def file_of(*entries: Discovery, tenants: Sequence[str] = ()) -> Registry:
    targets = tuple(Target(tenant, "app", "pg", tenant) for tenant in tenants)
    shards = {"pg": Shard("pg", make_url("postgresql://h"))}
    digest = f"{entries}{tenants}"
    return Registry(Path("/tenants.yaml"), digest, {"app": Track("app")}, shards, targets, {}, entries)


@dataclass
class Running:
    """A registry in the course of time; `answers` are names of databases by source, or an error."""

    file: Registry
    registry: Registry | None = None
    sources: Sources = field(default_factory=dict)
    events: Sequence[Event] = ()
    now: datetime = START

    def hears(self, answers: Mapping[str, Sequence[str] | DiscoveryError], *, trusting: bool = False) -> None:
        self.now += timedelta(minutes=1)
        looked = {
            name: answer if isinstance(answer, DiscoveryError) else [{"database": one} for one in answer]
            for name, answer in answers.items()
        }
        before, held = self.registry, self.sources
        merged = discovery.merge(self.file, before, held, looked, now=self.now, trusting=trusting)
        self.registry, self.sources = merged
        self.events = changes.between(before, held, *merged).events

    @property
    def tenants(self) -> list[tuple[str, str]]:
        assert self.registry is not None
        return [(target.tenant, target.source) for target in self.registry.targets]

    def source(self, name: str = "one") -> Source:
        return self.sources[name]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def test_a_file_without_sources_is_the_registry() -> None:
    file = file_of(tenants=["acme"])
    assert discovery.merge(file, None, {}, {}, now=START, trusting=False) == (file, {})


def test_what_is_found_comes_after_the_file_and_makes_another_registry() -> None:
    one = Running(file_of(entry(), tenants=["acme"]))
    one.hears({"one": ["b", "a"]})
    assert one.tenants == [("acme", "file"), ("b", "one"), ("a", "one")]
    assert one.registry is not None
    assert one.registry.digest != one.file.digest
    digest = one.registry.digest
    one.hears({"one": ["a", "b"]})
    assert one.registry.digest == digest, "another order is no change"
    one.hears({"one": ["a", "b", "c"]})
    assert one.registry.digest != digest


def test_a_source_that_fails_keeps_its_last_good_answer_and_says_since_when_and_why() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", "b"]})
    one.hears({"one": BROKEN})
    assert one.tenants == [("a", "one"), ("b", "one")]
    stale = one.source()
    assert (stale.refreshed_at, stale.stale_since) == (START + timedelta(minutes=1), START + timedelta(minutes=2))
    assert stale.reason == "no answer (mend it)"
    assert one.of(SourceStale)[0].targets == 2
    one.hears({"one": BROKEN})
    assert one.source().stale_since == stale.stale_since
    assert not one.events, "it is told once"
    one.hears({"one": ["a", "b"]})
    assert (one.source().stale_since, one.source().reason) == (None, None)
    assert one.of(SourceRecovered)[0].seconds == 120


def test_a_source_that_never_answered_is_named() -> None:
    one = Running(file_of(entry(), tenants=["acme"]))
    one.hears({})
    assert one.registry is not None
    assert one.registry.unanswered == ("one",)
    assert one.events == (), "it was not asked yet"
    one.hears({"one": BROKEN})
    assert one.tenants == [("acme", "file")]
    assert len(one.of(SourceStale)) == 1
    one.hears({"one": []})
    assert not one.registry.unanswered, "an empty answer is one"


def test_a_tenant_of_the_file_that_a_source_names_as_well_refuses_the_sources_answer_as_a_whole() -> None:
    one = Running(file_of(entry(), tenants=["acme"]))
    one.hears({"one": ["a"]})
    one.hears({"one": ["a", "b", "acme"]})
    assert one.tenants == [("acme", "file"), ("a", "one")]
    assert one.source().reason == (
        "tenant 'acme' (track 'app') is named by source 'one' and by the registry file: `exclude` it from one of them"
    )


def test_a_tenant_that_two_sources_name_stays_with_the_one_that_has_it() -> None:
    one = Running(file_of(entry("one"), entry("two")))
    one.hears({"one": ["a"], "two": ["b"]})
    one.hears({"one": ["a", "b"], "two": ["b", "c"]})
    assert one.tenants == [("a", "one"), ("b", "two"), ("c", "two")]
    assert "is named by source 'one' and by source 'two'" in (one.source("one").reason or "")
    assert one.source("two").reason is None
    one.hears({"one": ["a", "b"], "two": ["b", "c"]})
    assert one.tenants == [("a", "one"), ("b", "two"), ("c", "two")], "and again"


def test_of_two_sources_that_both_come_with_a_tenant_the_first_in_the_file_has_it() -> None:
    one = Running(file_of(entry("one"), entry("two")))
    one.hears({"one": ["a"], "two": ["a", "b"]})
    assert one.tenants == [("a", "one")]
    assert one.source("two").reason is not None
    assert one.registry is not None
    assert one.registry.unanswered == ("two",)


def test_a_tenant_that_moves_from_one_source_to_another_is_taken_at_once() -> None:
    one = Running(file_of(entry("one"), entry("two")))
    one.hears({"one": ["a", "x"], "two": ["b"]})
    one.hears({"one": ["a"], "two": ["b", "x"]})
    assert one.tenants == [("a", "one"), ("b", "two"), ("x", "two")]
    assert one.events == ()


def test_a_place_that_somebody_has_refuses_an_answer_with_both_names() -> None:
    one = Running(file_of(entry(pattern="t_(?P<tenant>.+)"), tenants=["t_a"]))
    one.hears({"one": ["t_a"]})
    assert one.tenants == [("t_a", "file")]
    assert one.source().reason == (
        "source 'one' finds a/app where the registry file has t_a/app, and they would share a version table: `exclude` "
        "one of them, or give the track a `version_table` with {tenant} in it"
    )


def test_a_tenant_that_the_file_comes_to_name_is_the_files_and_the_others_of_the_source_stay() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", "b"]})
    one.file = file_of(entry(), tenants=["a"])
    one.hears({})
    assert one.tenants == [("a", "file"), ("b", "one")]
    assert "is named by source 'one' and by the registry file" in (one.source().reason or "")
    one.file = file_of(entry(exclude=("a",)), tenants=["a"])
    one.hears({"one": ["a", "b"]})
    assert one.tenants == [("a", "file"), ("b", "one")]
    assert one.source().reason is None


def test_an_answer_with_a_tenant_twice_is_refused() -> None:
    one = Running(file_of(entry(pattern="[ab]_(?P<tenant>.+)")))
    one.hears({"one": ["a_x"]})
    one.hears({"one": ["a_x", "b_x"]})
    assert one.tenants == [("x", "one")]
    assert one.source().reason == "source 'one' names tenant 'x' (track 'app') twice"


def test_more_than_half_of_the_tenants_gone_at_once_is_believed_only_when_a_person_asks() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", "b", "c", "d"]})
    one.hears({"one": ["a"]})
    assert len(one.tenants) == 4
    assert "it names 1 targets, where it named 4 just before; if that is right, reload" in (one.source().reason or "")
    one.hears({"one": []})
    assert len(one.tenants) == 4
    one.hears({"one": ["a"]}, trusting=True)
    assert one.tenants == [("a", "one")]
    [event] = one.of(TargetsVanished)
    assert (event.source, event.count, event.examples) == ("one", 3, ("b/app", "c/app", "d/app"))
    assert one.source().reason is None


def test_half_of_the_tenants_may_go_and_are_told() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", "b"]})
    one.hears({"one": ["a"]})
    assert one.tenants == [("a", "one")]
    assert one.of(TargetsVanished)[0].examples == ("b/app",)


def test_tenants_that_the_entry_itself_leaves_out_are_not_suspicious() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", "b", "c"]})
    one.file = file_of(entry(exclude=("b", "c")))
    one.hears({"one": ["a", "b", "c"]})
    assert one.tenants == [("a", "one")]


def test_an_answer_of_nothing_but_what_cannot_be_a_tenant_is_refused() -> None:
    one = Running(file_of(replace(entry(), question="query", pattern=None)))
    one.hears({"one": ["a", "b"]})
    assert one.source().reason == "nothing it names can be a tenant, 2 in all: row 1: it names no tenant"


def test_what_is_ignored_is_told_once() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a", " "]})
    assert one.tenants == [("a", "one")]
    assert one.of(TenantsIgnored)[0].examples == ("database ' ': this must not be empty",)
    one.hears({"one": ["a", " "]})
    assert one.events == ()


def test_an_entry_that_asks_somebody_else_forgets_what_was_answered_and_one_that_asks_otherwise_does_not() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a"]})
    one.file = file_of(entry(pattern="(?P<tenant>..?)"))
    one.hears({"one": BROKEN})
    assert one.tenants == [("a", "one")]
    one.file = file_of(replace(entry(), question="schemas", database="app"))
    one.hears({"one": BROKEN})
    assert one.tenants == []
    assert one.of(TargetsVanished)[0].count == 1


VALUES = st.one_of(
    st.sampled_from(["a", "b", "c", "pg", "app", " ", "../x", "pg_x", "\ud800", "x" * 70]),
    st.text(max_size=3),
    st.none() | st.booleans() | st.integers() | st.floats(),
    st.lists(st.integers(), max_size=1) | st.dictionaries(st.text(max_size=2), st.text(max_size=2), max_size=2),
)
KEYS = st.sampled_from(["tenant", "database", "schema", "shard", "track", "labels", "tier"]) | st.text(max_size=3)
ANSWERS = st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=5) | st.just(BROKEN)


@settings(deadline=None)
@given(st.lists(st.tuples(ANSWERS, ANSWERS, st.booleans()), max_size=4))
def test_whatever_sources_answer_the_registry_has_each_tenant_and_each_place_once(history: list[Any]) -> None:
    url = Discovery("url", "url", "https://h/")
    query = Discovery("query", "query", "SELECT …", shard="pg", database="saas")
    one = Running(file_of(url, query, tenants=["a"]))
    for first, second, trusting in history:
        looked = {"url": first, "query": second}
        merged = discovery.merge(one.file, one.registry, one.sources, looked, now=one.now, trusting=trusting)
        changes.between(one.registry, one.sources, *merged)
        one.registry, one.sources = merged
        targets = one.registry.targets
        assert len({target.key for target in targets}) == len(targets)
        assert len({identity(target, one.file.shards[target.shard]) for target in targets}) == len(targets)
        assert ("a", "file") in one.tenants
        for source in one.sources.values():
            assert (source.stale_since is None) == (source.reason is None)
            assert source.targets == [owner for _, owner in one.tenants].count(source.name)


def test_a_source_that_leaves_the_file_takes_its_tenants_along_and_that_is_told() -> None:
    one = Running(file_of(entry()))
    one.hears({"one": ["a"]})
    one.file = file_of()
    one.hears({})
    assert (one.tenants, one.sources) == ([], {})
    assert one.of(TargetsVanished)[0].source == "one"
