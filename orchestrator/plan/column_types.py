"""Whether a column's values are stored alike in another type, so that a table need not be written anew. Pure."""

from __future__ import annotations

import re

from orchestrator.plan.tokens import Token

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int2": "smallint",
    "int8": "bigint",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "decimal": "numeric",
    "bool": "boolean",
    "float": "double precision",
    "float8": "double precision",
    "float4": "real",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
}
_TYPE = re.compile(r"(?P<name>[^()]*?)\s*(?:\((?P<arguments>[\d, ]+)\)\s*(?P<more>[^()]*))?")
# What MySQL takes for a whole number's width when it is shown.
_WIDTH = re.compile(r"^(tinyint|smallint|mediumint|int|integer|bigint)\(\d+\)")
_UTF8MB4_IN_A_BYTE = 63


def written(tokens: list[Token]) -> str:
    """A type as it stands in a statement, in one way.

    >>> written([Token("word", "varchar"), Token("mark", "("), Token("literal", "20"), Token("mark", ")")])
    'varchar(20)'
    """
    text = " ".join(token.text for token in tokens)
    return re.sub(r" ?([(),\[\]]) ?", r"\1", text).replace(")w", ") w")


def stored_alike(old: str, new: str) -> bool:
    """Whether PostgreSQL changes the one to the other without writing the table anew.

    >>> stored_alike("character varying(50)", "varchar(200)"), stored_alike("character varying(50)", "text")
    (True, True)
    >>> stored_alike("character varying(50)", "varchar(20)"), stored_alike("integer", "bigint")
    (False, False)
    >>> stored_alike("numeric(10,2)", "numeric(12, 2)"), stored_alike("timestamp without time zone", "timestamp")
    (True, True)
    """
    (before, had), (after, has) = _read(old), _read(new)
    if before == after and had == has:
        return True
    if before in ("character varying", "text") and after in ("character varying", "text"):
        return after == "text" or not has or (bool(had) and before != "text" and has[0] >= had[0])
    if before == after == "numeric":
        return not has or (len(had) == len(has) == 2 and has[0] >= had[0] and has[1] == had[1])
    if before == after and before.startswith(("time", "interval")):
        return not has or (bool(had) and has[0] >= had[0])
    return (before, after) == ("cidr", "inet")


def copied_by_mysql(old: str, new: str) -> bool:
    """Whether MySQL copies the table to change the one to the other; where that is not certain, it does not.

    >>> copied_by_mysql("int(11)", "integer"), copied_by_mysql("int", "bigint")
    (False, True)
    >>> copied_by_mysql("varchar(20)", "varchar(60)"), copied_by_mysql("varchar(60)", "varchar(300)")
    (False, True)
    """
    (before, had), (after, has) = _read(_WIDTH.sub(r"\1", old.lower())), _read(_WIDTH.sub(r"\1", new.lower()))
    if before == after == "character varying" and had and has:
        return has[0] < had[0] or (had[0] <= _UTF8MB4_IN_A_BYTE) != (has[0] <= _UTF8MB4_IN_A_BYTE)
    if before.startswith(("enum", "set")) or after.startswith(("enum", "set", "boolean", "json")):
        return False
    return (before, had) != (after, has)


def _read(text: str) -> tuple[str, tuple[int, ...]]:
    found = _TYPE.fullmatch(" ".join(text.lower().split()))
    if found is None:
        return text.lower(), ()
    arguments = tuple(int(part) for part in (found["arguments"] or "").split(",") if part.strip())
    name = " ".join(filter(None, (found["name"], found["more"])))
    return _ALIASES.get(name, name), arguments
