"""A shard with a way of its own to the server, past a pooler."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.registry.files import SHARDS, TENANTS, TRACKS, loaded, marked, places_of, refused

POOLED = "shards: {pg: {url: postgresql://app@pool:6432, direct_url: 'postgresql://m:${PASSWORD}@db'}}\n"


def test_what_migrates_takes_the_direct_url_and_so_does_the_place(tmp_path: Path) -> None:
    registry = loaded(tmp_path, TRACKS + POOLED + TENANTS)
    (target,) = registry.targets
    url = registry.url_for(target)
    assert (url.host, url.username, url.password, url.database) == ("db", "m", "s3cret", "acme")
    assert registry.place_of(target) == "postgresql://db/acme alembic_version"
    before = loaded(tmp_path, TRACKS + "shards: {pg: {url: postgresql://app@pool:6432}}\n" + TENANTS)
    assert before.place_of(target) != registry.place_of(target), "nobody has shown that it leads to the same server"
    assert before.digest != registry.digest
    assert "s3cret" not in repr(registry)


PG2 = "{pg: {url: postgresql://u@pool, direct_url: postgresql://u@a}, pg2: "


@pytest.mark.parametrize(
    ("shards", "message"),
    [
        ("{pg: {url: postgresql://u@h, direct_url: ▶mysql://u@h}}", "must lead to the same server"),
        ("{pg: {url: mysql://u@h, direct_url: ▶postgresql://u@h}}", "must lead to the same server"),
        ("{pg: {url: sqlite:///x, direct_url: ▶sqlite:///x}}", "has no `direct_url`"),
        ("{pg: {url: postgresql://u@h, direct_url: ▶postgresql://u@h/acme}}", "names a database"),
        ("{pg: {url: postgresql://u@h, direct_url: ▶''}}", "not a URL"),
        (PG2 + "{url: ▶postgresql://u@a}}", "'pg' (line 2) and 'pg2' are one server"),
        (
            PG2 + "{url: postgresql://u@q, direct_url: ▶postgresql://u@A:5432}}",
            "'pg' (line 2) and 'pg2' are one server",
        ),
        (PG2 + "{url: ▶postgresql://u@pool}}", "what stands before the server of shard 'pg' (line 2)"),
    ],
)
def test_mistakes(tmp_path: Path, shards: str, message: str) -> None:
    text, places = marked(f"{TRACKS}shards: {shards}\n{TENANTS}")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == places
    assert message in error.mistakes[0].message


@pytest.mark.parametrize(
    "shards",
    [
        "{pg: {url: postgresql://u@h, direct_url: postgresql://u@h}}",
        PG2 + "{url: postgresql://u@pool, direct_url: postgresql://u@b}}",  # it leads to either by the database's name
        "{pg: {url: mysql://u@h, direct_url: mariadb://u@h:3307}}",
    ],
)
def test_these_are_right(tmp_path: Path, shards: str) -> None:
    assert loaded(tmp_path, f"{TRACKS}shards: {shards}\n{TENANTS}").shards
    assert loaded(tmp_path, TRACKS + SHARDS + TENANTS).shards["pg"].direct_url is None
