"""What a backfill changes, as its checkpoint keeps it: enough to tell later whether it is still there.

By names alone that is not sure: a column may have got another name, or have gone and come back empty. So whatever may
be a change of name counts as there, and where the database numbers its columns, the numbers are kept as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

Versions = dict[str, str]


def written(
    table: sa.Table, columns: Collection[str] | None, reads: Collection[str] | None, before: str | None = None
) -> str:
    """For the checkpoint, which says `before` already. `columns`: those that are changed, `reads`: those of which the
    new values are made; None: nobody knows which."""
    it = read(before) if before else {}
    known = None if columns is None else sorted({*columns, *(it.get("columns") or ())})
    there = it.get("there") or sorted(column.name for column in table.columns)
    read_from = None if reads is None else sorted(reads)
    told = {"table": table.name, "schema": table.schema, "columns": known, "reads": read_from, "there": there}
    return json.dumps(told)


def read(text: str) -> dict[str, Any]:
    """What was not kept by the release that wrote it, nobody knows."""
    found: dict[str, Any] = {"reads": None, "there": []} | json.loads(text)
    return found


def _builds_on_itself(it: dict[str, Any]) -> bool:
    """Whether what it makes may be of what it has made: then who makes it again where it has been moved does it
    twice."""
    return it["columns"] is None or it["reads"] is None or not set(it["columns"]).isdisjoint(it["reads"])


def is_gone(connection: Connection, text: str, numbers: str | None = None) -> bool:
    """Whether nothing is left of what the backfill has changed, neither the table nor one of the columns, and nothing
    has come that may be it under another name."""
    it = read(text)
    if _builds_on_itself(it):
        return False
    inspector, there = sa.inspect(connection), set(it["there"])
    try:
        names = {one["name"] for one in inspector.get_columns(it["table"], schema=it["schema"])}
    except sa.exc.NoSuchTableError:
        if numbers is not None and (number := json.loads(numbers).get("table")) is not None:
            asked = sa.text("SELECT 1 FROM pg_catalog.pg_class WHERE CAST(oid AS text) = :oid")
            return connection.execute(asked, {"oid": number}).first() is None
        others = inspector.get_multi_columns(schema=it["schema"]).values()
        return not any(there <= {one["name"] for one in columns} for columns in others)
    return names.isdisjoint(it["columns"]) and names <= there


def numbers(connection: Connection, quoted: str) -> dict[str, Any]:
    """What PostgreSQL calls the table and its columns for itself, in a number that no other column of a table ever has.
    `quoted`: the table's name as in SQL."""
    asked = sa.text(
        "SELECT CAST(CAST(CAST(:t AS regclass) AS oid) AS text), a.attname, a.attnum FROM pg_catalog.pg_attribute a"
        " WHERE a.attrelid = CAST(:t AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"
    )
    rows = connection.execute(asked, {"t": quoted}).all()
    return {"table": rows[0][0], "columns": {str(name): int(number) for _, name, number in rows}}


def versions(connection: Connection, version: sa.FromClause) -> dict[str, str]:
    """The heads in the version table; on PostgreSQL with the transactions that wrote these rows."""
    of_postgresql = connection.dialect.name == "postgresql"
    writer = sa.cast(sa.literal_column("xmin"), sa.Text()) if of_postgresql else sa.literal("")
    return {str(revision): str(by) for revision, by in connection.execute(sa.select(version.c.version_num, writer))}


def bearing(heads: Mapping[str, str], follows: Collection[str], earlier: Callable[[str], Collection[str]]) -> Versions:
    """Of the heads, those by which it can be told whether the revisions that a backfill's own `follows` were taken
    back: other branches come and go. `earlier`: a revision, and all before it.

    >>> bearing({"a": "7", "r": "8"}, ["a"], lambda head: {head, "root"})
    {'a': '7'}
    >>> bearing({"a": "7", "r": "8"}, ["root"], lambda head: {head, "root"})
    {'a': '7', 'r': '8'}
    """
    covered = set(follows) - heads.keys()
    return {
        head: by for head, by in heads.items() if head in follows or (covered and not covered.isdisjoint(earlier(head)))
    }


Verdict = Literal["same", "gone", "untold"]


def verdict(kept: str, now: str, text: str, passed: Callable[[], Collection[str]]) -> Verdict:
    """What has become of what a backfill has changed, since `numbers` were `kept`. `gone`: all that it had filled was
    dropped. `untold`: what it fills was made anew in part, or the database was led back meanwhile. `passed`: all
    revisions that it has by now; a head that was gone on from is one of them.

    >>> text = '{"columns": ["n"], "reads": ["id"]}'
    >>> kept = '{"table": "7", "columns": {"id": 1, "n": 2}, "versions": {"a1": "99"}}'
    >>> anew = '{"table": "7", "columns": {"id": 1, "n": 3}, "versions": {"a1": "99"}}'
    >>> led_back = '{"table": "7", "columns": {"id": 1, "n": 2}, "versions": {"a1": "104"}}'
    >>> on = '{"table": "7", "columns": {"id": 1, "n": 2}, "versions": {"b2": "104"}}'
    >>> [verdict(kept, later, text, lambda: {"a1", "b2"}) for later in (kept, anew, led_back, on)]
    ['same', 'gone', 'untold', 'same']
    """
    before, after, it = json.loads(kept), json.loads(now), read(text)
    names = it["columns"]
    if before.get("table") != after.get("table"):  # or the database is another one, with the same rows
        return "untold"
    was, now_is = before.get("columns", {}), after.get("columns", {})
    filled = {was.get(name) for name in names or ()}
    if names and None not in filled and filled.isdisjoint(now_is.values()):
        return "untold" if _builds_on_itself(it) else "gone"
    is_same = all(now_is.get(name) == was.get(name) for name in names or ())
    return "same" if is_same and is_only_on(before["versions"], after["versions"], passed) else "untold"


def is_only_on(before: Versions, after: Versions, passed: Callable[[], Collection[str]]) -> bool:
    """Whether the version table has its heads as they were, or was led on from them."""
    missing = set(before) - set(after)
    stood = all(after[revision] == by for revision, by in before.items() if revision in after)
    return stood and (not missing or missing <= set(passed()))
