"""The schema of a PostgreSQL database as comparable lines: equal for two tenants whose schemas are equal.

One question over the catalog, linear in its size. Left out is what differs without meaning anything: object ids, sizes,
statistics, the last value of a sequence; and what revisions hardly ever make: publications, collations, operators,
casts, text search, foreign servers, settings of roles and databases. Whoever asks is `<migrator>`, the database's owner
`<owner>`, so that tenants with roles of their own compare; both are `<owner>` where only the meaning counts. What
extensions own is told by the extension and its version.

Each row is a line, and the schema, the relation and the part of it that the line is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from orchestrator.databases import fingerprint_objects, fingerprint_relations
from orchestrator.databases.fingerprint_parts import BETWEEN, EXACT, FIRST, FREE, LAST, NAMED
from orchestrator.databases.quoting import literal, quoted
from orchestrator.observe import redact_sql
from orchestrator.observe.plain import escaped
from orchestrator.plan import roles

# Characters of a line that are shown, and in which secrets are looked for: a function's text may have millions.
_SHOWN, _LOOKED_AT = 300, 16_000
_LINES = (*fingerprint_relations.LINES, *fingerprint_objects.LINES)
_QUERY = f"""WITH spaces AS (SELECT n.* FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND CASE WHEN {{anywhere}} THEN true
    ELSE n.nspname = {{schema}} END
    AND NOT EXISTS (SELECT 1 FROM pg_catalog.unnest({{others}}) AS o WHERE o = n.nspname::text)),
ours AS (SELECT c.* FROM pg_catalog.pg_class c JOIN spaces n ON n.oid = c.relnamespace
    WHERE {FREE.format(catalog="pg_catalog.pg_class", oid="c.oid")})
{" UNION ALL ".join(_LINES)}"""


def query(schema: str | None, others: Sequence[str] = (), own: Sequence[str] | None = None) -> str:
    """The question over the whole database but for the schemas of `others`, or over one schema, which other tenants'
    work leaves as it is.

    With `own`, the tenant's names, roles are marked as `plan.roles` has it, and what neither a statement's meaning nor
    its result depends on is left out: the order of columns, and how tables are stored. Without, everything counts.
    """
    filled = {
        "{anywhere}": "true" if schema is None else "false",
        "{schema}": literal(schema or ""),
        "{others}": f"ARRAY[{', '.join(map(literal, others))}]::text[]",
        NAMED: "r.rolname::text" if own is None else _anonymous(own),
        EXACT: "true" if own is None else "false",
        FIRST: "''" if own is None else _mark(roles.FIRST),
        BETWEEN: "', '" if own is None else _mark(roles.BETWEEN),
        LAST: "''" if own is None else _mark(roles.LAST),
    }
    return re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], _QUERY)


def _anonymous(own: Sequence[str]) -> str:
    """A role as `roles.marked` writes it, with `<tenant>` for what in its name is one of the tenant's: that of
    `catalog.of_tenant`."""
    words = sorted(set(filter(None, own)), key=lambda name: (-len(name), name))
    escaped = "|".join(re.sub(r"([^\w])", r"\\\1", word) for word in words)
    pattern = literal(f"(?<![[:alnum:]])(?:{escaped})(?![[:alnum:]])")
    short = f"pg_catalog.regexp_replace(r.rolname::text, {pattern}, '<tenant>', 'g')" if words else "r.rolname::text"
    parts = (_mark(roles.START), "r.rolname::text", _mark(roles.SHORT), short, _mark(roles.END))
    return f"({' || '.join(parts)})"


def _mark(mark: str) -> str:
    return f"pg_catalog.chr({ord(mark)})"


def normalised(lines: list[str], version_table: str, schema: str | None) -> tuple[str, ...]:
    """The lines sorted, with a version table and a schema that are named after the tenant under one name for all.

    A schema is known by what it qualifies: a table may be called like it.

    >>> normalised(['column | public.v_acme | 1'], "v_acme", None)
    ('column | public.<version table> | 1',)
    >>> normalised(['column | public."v ""x""y" | 1'], 'v "x"y', None)
    ('column | public.<version table> | 1',)
    >>> normalised(["column | acme.acme | nextval('acme.ids'::regclass)", "schema | acme | me"], "v", "acme")
    ("column | <schema>.acme | nextval('<schema>.ids'::regclass)", 'schema | <schema> | me')
    """
    return tuple(sorted(map(renaming({version_table: "<version table>"}, schema), lines)))


def renaming(tables: Mapping[str, str], schema: str | None) -> Callable[[str], str]:
    """What gives version tables, and a schema, other names in a line."""
    names = {f"{name}_pkc": f"{known}_pkc" for name, known in tables.items()} | dict(tables)
    forms = {form: known for name, known in names.items() for form in _forms(name)}
    anywhere = [rf"(?<!\w){re.escape(form)}(?!\w)" for form in forms]
    own = dict.fromkeys(_forms(schema), "<schema>") if schema is not None else {}
    qualifying = [rf"(?<!\w){re.escape(form)}(?=[.])" for form in own]
    alone = [rf"(?<!\w){re.escape(form)}(?!\w)" for form in own]
    usual, of_schemas = re.compile("|".join(qualifying + anywhere)), re.compile("|".join(alone + anywhere))

    def renamed(line: str) -> str:
        pattern = of_schemas if line.startswith(_OF_SCHEMAS) else usual
        return pattern.sub(lambda found: own.get(found[0]) or forms[found[0]], line)

    return renamed


# Lines that name a schema by itself.
_OF_SCHEMAS = ("schema |", "default privileges |", "comment | schema |")


def _forms(name: str) -> tuple[str, ...]:
    """A name as the catalog writes it, longest first: quoted within text, quoted, and as it is."""
    return tuple(dict.fromkeys((quoted(name).replace("'", "''"), quoted(name), name.replace("'", "''"), name)))


def difference(first: tuple[str, ...], second: tuple[str, ...], most: int = 5) -> str:
    """What one schema has and the other has not, in words, some lines of it. What may be a secret in them is masked.

    >>> difference(("a", "b"), ("b", "c"))
    'only in the first: a; only in the second: c'
    >>> difference((), ("function | f | SELECT set_config('app.secret_key', 'hunter2', true)",))
    "only in the second: function | f | SELECT set_config('app.secret_key', ***, true)"
    >>> difference(("column | t | 1 | api_key | text | 'hunter2'",), ())
    'only in the first: column | t | 1 | api_key | text | ***'
    """
    ours, theirs = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    found = [("first", line) for line in ours] + [("second", line) for line in theirs]
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(f"only in the {which}: {_shown(line)}" for which, line in found[:most]) + more


def _shown(line: str) -> str:
    """On one line; it is masked before, since the end of a line ends a comment."""
    column = line.split(" | ", 4)[3] if line.startswith("column | ") else None
    return escaped(" ".join(redact_sql.text(line[:_LOOKED_AT], column).split())[:_SHOWN])
