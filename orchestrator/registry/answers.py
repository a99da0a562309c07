"""What a source answers, read as targets: each name or row for itself, through the checks of the file's tenants."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.registry import forms
from orchestrator.registry.document import Where
from orchestrator.registry.model import Discovery, Registry, Target
from orchestrator.registry.places import Checks, Wish, identity
from orchestrator.registry.report import suggestion

Row = Mapping[str, Any]

# What a name that was found is the name of.
NAMED = {"databases": "database", "schemas": "schema", "files": "database"}

_COLUMNS = ("tenant", "shard", "database", "schema", "track")
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = (str, int, float, Decimal, UUID, date)


class Reading(NamedTuple):
    """`ignored` says of each name or row that is meant but cannot be a tenant why; `twice` what is there twice."""

    targets: tuple[Target, ...]
    ignored: tuple[str, ...]
    twice: str | None


def read(entry: Discovery, file: Registry, rows: Sequence[Row]) -> Reading:
    """The targets that the rows of a source stand for, in their order."""
    ignored = _Ignored()
    checks = Checks(ignored, file.tracks, file.shards, file.tracks, file.shards)
    wish_of = _named(entry, file) if entry.question in NAMED else _listed(entry, file)
    is_excluded = _excluded(entry)
    targets: list[Target] = []
    for number, row in enumerate(rows, 1):
        ignored.row = _label(entry, row, number)
        try:
            wish = wish_of(row)
            if wish is None or is_excluded(wish):
                continue
            _check_names(wish)
        except ValueError as exc:
            ignored.at((), str(exc))
            continue
        before = len(ignored.messages)
        target = checks.target(wish)
        if target is not None and len(ignored.messages) == before:
            targets.append(target)
    return Reading(tuple(targets), tuple(ignored.messages), _twice(entry, file, targets))


@dataclass
class _Ignored:
    """`places.Complaints` about the row that is read: no line of the file is at fault."""

    row: str = ""
    messages: list[str] = field(default_factory=list)

    def at(self, where: Where, *messages: str, key: bool = False) -> None:
        self.messages += [f"{self.row}: {message}" for message in messages]

    def unknown(self, where: Where, noun: str, name: str, known: Collection[str], *, key: bool = False) -> None:
        self.at(where, f"unknown {noun} {name!r}{suggestion(name, known)}")


def _named(entry: Discovery, file: Registry) -> Callable[[Row], Wish | None]:
    """Reads names of databases, schemas or files; None for one that is not meant."""
    key, track = NAMED[entry.question], entry.track or _only(file.tracks)
    pattern = re.compile(entry.pattern) if entry.pattern is not None else None

    def wish(row: Row) -> Wish | None:
        name = row[key]
        match = pattern.fullmatch(name) if pattern else None
        if pattern and match is None:
            return None
        tenant = match["tenant"] if match else PurePosixPath(name).stem
        if tenant is None:
            raise ValueError("the pattern's group `tenant` takes part in no match of it")
        database, schema = (name, None) if key == "database" else (entry.database or "", name)
        return _wish(entry, tenant, track or "", entry.shard or "", database, schema, entry.labels)

    return wish


def _listed(entry: Discovery, file: Registry) -> Callable[[Row], Wish]:
    """Reads rows of a query or objects of an endpoint."""
    only = entry.track or _only(file.tracks)

    def wish(row: Row) -> Wish:
        given = _texts(row if entry.question == "query" else {key: row[key] for key in row if key != "labels"})
        labels = {key: value for key, value in given.items() if key not in _COLUMNS}
        if entry.question == "url" and row.get("labels") is not None:
            if not isinstance(row["labels"], Mapping):
                raise ValueError("its 'labels' are not an object")
            labels |= _texts(row["labels"])
        labels = {**entry.labels, **{forms.label_key(key): value for key, value in labels.items()}}
        schema = given.get("schema")
        database = _needed(given, "database", entry.database if schema else None)
        tenant, track = _needed(given, "tenant"), _needed(given, "track", only)
        return _wish(entry, tenant, track, _needed(given, "shard", entry.shard), database, schema, labels)

    return wish


def _wish(
    entry: Discovery,
    tenant: str,
    track: str,
    shard: str,
    database: str,
    schema: str | None,
    labels: Mapping[str, str],
) -> Wish:
    where: Where = (tenant,)
    create = entry.create_schema and schema is not None
    return Wish(
        tenant, labels, track, (*where, "track"), where, shard, database, schema, create, entry.adopt, entry.name
    )


def _needed(given: Mapping[str, str], key: str, default: str | None = None) -> str:
    value = given.get(key, default)
    if value is None:
        raise ValueError(f"it names no {key}")
    return value


def _texts(values: Mapping[str, object]) -> dict[str, str]:
    """The values that say something, as text."""
    return {key: _text(key, value) for key, value in values.items() if value is not None and value != ""}


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, _PLAIN):
        raise ValueError(f"its {key!r} is neither text nor a number")
    text = str(value)
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError(f"its {key!r} is no text: it holds half of a character")
    return text


def _check_names(wish: Wish) -> None:
    """Raises ValueError for what cannot be a tenant's id, or a database's or schema's name."""
    forms.plain_name(wish.tenant)
    for noun, name in (("database", wish.database), ("schema", wish.schema)):
        try:
            forms.filled(name if name is not None else "-")
        except ValueError as exc:
            raise ValueError(f"its {noun}: {exc}") from None


def _excluded(entry: Discovery) -> Callable[[Wish], bool]:
    globs = [re.compile(fnmatch.translate(glob)) for glob in entry.exclude]

    def is_excluded(wish: Wish) -> bool:
        return any(glob.match(name) for glob in globs for name in (wish.tenant, wish.database, wish.schema) if name)

    return is_excluded


def _label(entry: Discovery, row: Row, number: int) -> str:
    """Names a row for people: by what it should be the tenant of, or by its number."""
    key = NAMED.get(entry.question, "tenant")
    name = row.get(key)
    return f"{key} {name!r}" if isinstance(name, _PLAIN) else f"row {number:,}"


def _twice(entry: Discovery, file: Registry, targets: Sequence[Target]) -> str | None:
    seen: dict[tuple[str, ...], Target] = {}
    for target in targets:
        if seen.setdefault(target.key, target) is not target:
            return f"source {entry.name!r} names tenant {target.tenant!r} (track {target.track!r}) twice"
        other = seen.setdefault(("", "", *identity(target, file.shards[target.shard])), target)
        if other is not target:
            return (
                f"source {entry.name!r} gives {other.key} and {target.key} one place, where they would share a version "
                "table"
            )
    return None


def _only(names: Collection[str]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None
