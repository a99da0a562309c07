"""What a backfill changes, as its checkpoint keeps it: enough to tell later whether it is still there.

By names alone that is not sure: a column may have got another name, or have gone and come back empty. So whatever may
be a change of name counts as there, and where the database numbers its columns, the numbers are kept as well.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection


def written(table: sa.Table, columns: Collection[str] | None, before: str | None = None) -> str:
    """For the checkpoint, which says `before` already. `columns`: those that are changed; None: nobody knows which."""
    it = read(before) if before else {}
    known = None if columns is None else sorted({*columns, *(it.get("columns") or ())})
    there = it.get("there") or sorted(column.name for column in table.columns)
    return json.dumps({"table": table.name, "schema": table.schema, "columns": known, "there": there})


def read(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def is_gone(connection: Connection, text: str) -> bool:
    """Whether nothing is left of what the backfill has changed, neither the table nor one of the columns, and nothing
    has come that may be it under another name."""
    it = read(text)
    if it["columns"] is None:
        return False
    inspector, there = sa.inspect(connection), set(it["there"])
    try:
        names = {one["name"] for one in inspector.get_columns(it["table"], schema=it["schema"])}
    except sa.exc.NoSuchTableError:
        others = inspector.get_multi_columns(schema=it["schema"]).values()
        return not any(there <= {one["name"] for one in columns} for columns in others)
    return names.isdisjoint(it["columns"]) and names <= there


def numbers(connection: Connection, quoted: str, version: sa.FromClause, revisions: Collection[str]) -> str:
    """What PostgreSQL calls the table and its columns for itself, in a number that no other column of a table ever has;
    and which transaction wrote these `revisions` into the version table. `quoted`: the table's name as in SQL."""
    asked = sa.text(
        "SELECT CAST(CAST(CAST(:t AS regclass) AS oid) AS text), a.attname, a.attnum FROM pg_catalog.pg_attribute a"
        " WHERE a.attrelid = CAST(:t AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"
    )
    rows = connection.execute(asked, {"t": quoted}).all()
    columns = {str(name): int(number) for _, name, number in rows}
    writer = sa.cast(sa.literal_column("xmin"), sa.Text())
    written = sa.select(version.c.version_num, writer).where(version.c.version_num.in_(sorted(revisions)))
    versions = {str(revision): str(by) for revision, by in connection.execute(written)}
    return json.dumps({"table": rows[0][0], "columns": columns, "versions": versions})


def without_versions(numbers: str) -> str:
    """The same, where what is known of the version table does not count any more."""
    return json.dumps(json.loads(numbers) | {"versions": None})


Verdict = Literal["same", "gone", "untold"]


def verdict(kept: str, now: str, text: str) -> Verdict:
    """What has become of what a backfill has changed, since `numbers` were `kept`. `gone`: all that it had filled was
    dropped. `untold`: what it fills was made anew in part, or other revisions were run meanwhile.

    >>> text = '{"columns": ["n"]}'
    >>> kept = '{"table": "7", "columns": {"id": 1, "n": 2}, "versions": {"a1": "99"}}'
    >>> anew = '{"table": "7", "columns": {"id": 1, "n": 3}, "versions": {"a1": "99"}}'
    >>> led_past = '{"table": "7", "columns": {"id": 1, "n": 2}, "versions": {"a1": "104"}}'
    >>> [verdict(kept, later, text) for later in (kept, anew, led_past)]
    ['same', 'gone', 'untold']
    """
    before, after, names = json.loads(kept), json.loads(now), read(text)["columns"]
    if before["table"] != after["table"]:  # or the database is another one, with the same rows
        return "untold"
    filled = {before["columns"].get(name) for name in names or ()}
    if names and None not in filled and filled.isdisjoint(after["columns"].values()):
        return "gone"
    is_same = all(after["columns"].get(name) == before["columns"].get(name) for name in names or ())
    return "same" if is_same and before["versions"] in (None, after["versions"]) else "untold"
