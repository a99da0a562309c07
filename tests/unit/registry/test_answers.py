"""What sources answer, read as targets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.registry.answers import Reading, Row, read
from orchestrator.registry.model import Discovery, Registry, Shard, Track

SHARDS = {
    "pg": Shard("pg", make_url("postgresql://u@h"), labels={"region": "eu"}),
    "files": Shard("files", make_url("sqlite:///data")),
}


def registry(**tracks: Track) -> Registry:
    return Registry(Path("/tenants.yaml"), "file", tracks or {"app": Track("app")}, SHARDS, ())


def databases(pattern: str = "t_(?P<tenant>.+)", **fields: Any) -> Discovery:
    return Discovery("found", "databases", pattern, shard="pg", pattern=pattern, **fields)


def query(**fields: Any) -> Discovery:
    return Discovery("found", "query", "SELECT …", **{"shard": "pg", "database": "saas", **fields})


def names(reading: Reading) -> list[tuple[str, str, str | None]]:
    return [(target.tenant, target.database, target.schema) for target in reading.targets]


def named(entry: Discovery, *found: str, key: str = "database") -> Reading:
    return read(entry, registry(), [{key: name} for name in found])


def listed(*rows: Row, entry: Discovery | None = None, file: Registry | None = None) -> Reading:
    return read(entry or query(), file or registry(), rows)


def test_a_pattern_must_match_the_whole_name() -> None:
    reading = named(databases(), "t_acme", "xt_acme", "t_", "template", "t_Ünïcode 'quoted'")
    assert names(reading) == [("acme", "t_acme", None), ("Ünïcode 'quoted'", "t_Ünïcode 'quoted'", None)]
    assert reading.ignored == ()


def test_a_schema_is_in_the_database_that_was_asked() -> None:
    pattern = "(?P<tenant>.+)"
    entry = Discovery("found", "schemas", pattern, shard="pg", database="app", pattern=pattern)
    assert names(named(entry, "acme", key="schema")) == [("acme", "app", "acme")]


@pytest.mark.parametrize(
    ("pattern", "expected"), [(None, ["acme", "b"]), (r"(?:a/)?(?P<tenant>\w+)\.db", ["acme", "b"])]
)
def test_a_file_is_the_tenant_of_its_stem_or_of_its_pattern(pattern: str | None, expected: list[str]) -> None:
    entry = Discovery("found", "files", "*", shard="files", pattern=pattern)
    reading = named(entry, "acme.db", "a/b.db")
    assert [target.tenant for target in reading.targets] == expected
    assert [target.database for target in reading.targets] == ["acme.db", "a/b.db"]


def test_labels_are_of_the_shard_then_of_the_entry_then_of_the_row() -> None:
    entry = query(labels={"region": "us", "tier": "free", "kind": "found"})
    [target] = listed({"tenant": 7, "database": "d", "tier": "paid", "seats": 12, "gone": None}, entry=entry).targets
    assert target.tenant == "7"
    assert target.labels == {"region": "us", "tier": "paid", "kind": "found", "seats": "12"}
    assert target.source == "found"


def test_values_become_the_text_that_people_would_write() -> None:
    some = uuid.UUID(int=1)
    row = {"tenant": some, "database": "d", "a": Decimal("1.50"), "b": True, "c": date(2026, 1, 2), "d": ""}
    [target] = listed(row).targets
    assert target.tenant == "00000000-0000-0000-0000-000000000001"
    assert {key: target.labels.get(key) for key in "abcd"} == {"a": "1.50", "b": "true", "c": "2026-01-02", "d": None}


def test_a_row_says_where_its_tenant_is_and_how_it_is_migrated() -> None:
    tracks = {"app": Track("app", adopt="a1"), "dwh": Track("dwh", version_table="v_{tenant}_{track}")}
    rows = [
        {"tenant": "a", "shard": "files", "database": "a.db", "track": "app"},
        {"tenant": "a", "database": "d", "schema": "s", "track": "dwh"},
    ]
    entry = query(create_schema=True, adopt="b2")
    first, second = listed(*rows, entry=entry, file=registry(**tracks)).targets
    assert (first.shard, first.schema, first.create_schema, first.adopt) == ("files", None, False, "b2")
    assert (second.shard, second.version_table, second.create_schema) == ("pg", "v_a_dwh", True)


def test_a_row_with_a_schema_is_in_the_database_that_was_asked_when_it_names_none() -> None:
    assert names(listed({"tenant": "a", "schema": "s"})) == [("a", "saas", "s")]


def test_an_endpoint_gives_labels_in_an_object_or_beside_it() -> None:
    entry = Discovery("found", "url", "https://h/")
    row = {"tenant": "a", "shard": "pg", "database": "d", "tier": "x", "labels": {"tier": "free", "n": 1, "no": None}}
    [target] = listed(row, entry=entry).targets
    assert target.labels == {"region": "eu", "tier": "free", "n": "1"}


@pytest.mark.parametrize("glob", ["acme", "ac*", "t_a*", "*cm[e]"])
def test_what_is_excluded_is_left_out_without_a_word(glob: str) -> None:
    reading = named(databases(exclude=(glob,)), "t_acme", "t_globex")
    assert names(reading) == [("globex", "t_globex", None)]
    assert reading.ignored == ()


IGNORED: list[tuple[Row, str]] = [
    ({"database": "d"}, "row 1: it names no tenant"),
    ({"tenant": "a"}, "tenant 'a': it names no database"),
    ({"tenant": "a", "database": None, "schema": None}, "tenant 'a': it names no database"),
    ({"tenant": " ", "database": "d"}, "tenant ' ': this must not be empty"),
    ({"tenant": "a\nb", "database": "d"}, r"tenant 'a\nb': this must not hold control characters"),
    ({"tenant": "a" * 201, "database": "d"}, "a name must not be longer than 200 characters"),
    ({"tenant": "a", "database": "d\x07"}, "tenant 'a': its database: this must not hold control characters"),
    ({"tenant": "a", "database": "d" * 64}, "tenant 'a': a database's name must not be longer than 63 bytes"),
    ({"tenant": "a", "database": "d", "schema": "pg_toast"}, "tenant 'a': this schema is the server's own"),
    ({"tenant": "a", "database": "d", "shard": "gp"}, "tenant 'a': unknown shard 'gp'; known are files, pg"),
    ({"tenant": "a", "database": "d", "track": "ap"}, "tenant 'a': unknown track 'ap'; did you mean 'app'?"),
    ({"tenant": "a", "database": "../d", "shard": "files"}, "tenant 'a': this must be a file in the shard's folder"),
    ({"tenant": "a", "database": "d", "shard": "files", "schema": "s"}, "sqlite has no schemas within a database"),
    ({"tenant": "a", "database": "d", "a b": 1}, "tenant 'a': a label's key must begin with a letter or digit"),
    (
        {"tenant": "a\udcff", "database": "d"},
        r"tenant 'a\udcff': its 'tenant' is no text: it holds half of a character",
    ),
    ({"tenant": "a", "database": "d", "x": "\ud800"}, "tenant 'a': its 'x' is no text"),
    ({"tenant": "a", "database": "d", "x": [1]}, "tenant 'a': its 'x' is neither text nor a number"),
]


@pytest.mark.parametrize(("row", "message"), IGNORED, ids=[message for _, message in IGNORED])
def test_a_row_that_cannot_be_a_tenant_is_told_and_the_others_are_taken(row: Row, message: str) -> None:
    reading = listed(row, {"tenant": "b", "database": "b"})
    assert [target.tenant for target in reading.targets] == ["b"]
    assert len(reading.ignored) == 1
    assert message in reading.ignored[0]


def test_a_name_that_cannot_be_a_tenant_is_told() -> None:
    reading = named(databases("t_(?P<tenant>.*)"), "t_", "t_a\x01", "t_b")
    assert [target.tenant for target in reading.targets] == ["b"]
    assert reading.ignored == (
        "database 't_': this must not be empty",
        r"database 't_a\x01': this must not hold control characters",
    )


def test_a_file_whose_name_is_no_text_is_told() -> None:
    entry = Discovery("found", "files", "*", shard="files")
    assert named(entry, "a\udcff.db").ignored == (r"database 'a\udcff.db': this must not hold control characters",)


def test_a_group_that_takes_no_part_is_told() -> None:
    assert named(databases("x|(?P<tenant>y)"), "x").ignored == (
        "database 'x': the pattern's group `tenant` takes part in no match of it",
    )


def test_a_version_table_whose_name_becomes_too_long_is_told_of_the_tenant() -> None:
    file = registry(app=Track("app", version_table="v_{tenant}"))
    [message] = listed({"tenant": "a" * 62, "database": "d"}, file=file).ignored
    assert message.startswith(f"tenant '{'a' * 62}': the `version_table` of track 'app' becomes 'v_aaa")


def test_a_row_of_several_tracks_must_name_one() -> None:
    file = registry(app=Track("app"), dwh=Track("dwh"))
    assert listed({"tenant": "a", "database": "d"}, file=file).ignored == ("tenant 'a': it names no track",)


def test_labels_of_an_endpoint_must_be_an_object() -> None:
    rows: Sequence[Row] = [{"tenant": "a", "shard": "pg", "database": "d", "labels": ["free"]}]
    reading = read(Discovery("found", "url", "https://h/"), registry(), rows)
    assert reading.ignored == ("tenant 'a': its 'labels' are not an object",)


def test_a_tenant_or_a_place_that_is_there_twice_is_told() -> None:
    row = {"tenant": "a", "database": "d"}
    assert listed(row, row | {"database": "e"}).twice == "source 'found' names tenant 'a' (track 'app') twice"
    shared = listed(row, row | {"tenant": "b"}).twice
    assert shared == "source 'found' gives a/app and b/app one place, where they would share a version table"
    assert listed(row, row | {"tenant": "b", "schema": "s"}).twice is None
