"""What a backfill changes, as its checkpoint keeps it: enough to tell later whether it is still there.

By names alone that is not sure: a column may have got another name, or have gone and come back empty. So whatever may
be a change of name counts as there, and where the database numbers its columns, the numbers are kept as well.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

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


def numbers(connection: Connection, quoted: str) -> str:
    """What PostgreSQL calls the table and its columns for itself: a number that is used again is another table's or
    another database's. `quoted`: the table's name as in SQL."""
    asked = sa.text(
        "SELECT CAST(CAST(CAST(:t AS regclass) AS oid) AS text), a.attname, a.attnum FROM pg_catalog.pg_attribute a"
        " WHERE a.attrelid = CAST(:t AS regclass) AND a.attnum > 0 AND NOT a.attisdropped"
    )
    rows = connection.execute(asked, {"t": quoted}).all()
    return json.dumps({"table": rows[0][0], "columns": {str(name): int(number) for _, name, number in rows}})


def is_another(kept: str, now: str, text: str) -> bool:
    """Whether the table, or a column of it that the backfill changes, has been made anew since `numbers` were `kept`.

    >>> text = '{"columns": ["n"]}'
    >>> kept, renamed = '{"table": "7", "columns": {"n": 2}}', '{"table": "7", "columns": {"m": 2, "n": 3}}'
    >>> is_another(kept, kept, text), is_another(kept, renamed, text)
    (False, True)
    """
    before, after = json.loads(kept), json.loads(now)
    names = read(text)["columns"]
    return bool(
        before["table"] != after["table"]
        or any(before["columns"].get(name) != after["columns"].get(name) for name in names or ())
    )
