"""The schema of a PostgreSQL database as comparable lines: equal for two tenants whose schemas are equal.

One question over the catalog, linear in its size. Left out is what differs without meaning anything: object ids, sizes,
statistics, the last value of a sequence; and what revisions hardly ever make: publications, collations, operators,
casts, text search, foreign servers, statistics objects, settings of roles and databases. Whoever asks is `<migrator>`,
the database's owner `<owner>`, so that tenants with roles of their own compare. What extensions own is told by the
extension and its version.

Each row is a line, and the schema, the relation and the part of it that the line is about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from orchestrator.databases.quoting import literal, quoted

# Filled in by `query`: other roles' names, and what of the layout counts.
_NAMED, _EXACT = ":role:", ":exact:"
_ROLE = f"""(SELECT CASE WHEN r.rolname = session_user THEN '<migrator>' WHEN r.oid = (SELECT datdba
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) THEN '<owner>' ELSE {_NAMED} END
    FROM pg_catalog.pg_roles r WHERE r.oid = {{}})"""
_GRANTS = f"""coalesce((SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', {_ROLE.format("e.grantor")},
    CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE {_ROLE.format("e.grantee")} END, e.privilege_type, e.is_grantable), ', '
    ORDER BY {_ROLE.format("e.grantee")}, e.privilege_type, {_ROLE.format("e.grantor")})
    FROM pg_catalog.aclexplode({{}}) e), '')"""


def _granted(acl: str, kind: str, owner: str) -> str:
    """The privileges on an object of a kind, as `acldefault` knows it; '' for the usual ones, whether they are written
    down, as they are once anything was granted and revoked, or not."""
    usual = f"pg_catalog.acldefault({kind}, {owner})"
    return f"""CASE WHEN {acl} IS NULL OR ({acl} OPERATOR(pg_catalog.@>) {usual}
    AND {usual} OPERATOR(pg_catalog.@>) {acl}) THEN '' WHEN pg_catalog.cardinality({acl}) = 0
    THEN 'none' ELSE {_GRANTS.format(acl)} END"""


def _line(kind: str, *parts: str, about: tuple[str, ...]) -> str:
    texts = ", ".join(f"coalesce(({part})::text, '-')" for part in parts)
    names = ", ".join(f"({name})::text" for name in (*about, "NULL", "NULL")[:3])
    return f"pg_catalog.concat_ws(' | ', '{kind}', {texts}), {names}"


_FREE = """NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = '{catalog}'::regclass
    AND d.objid = {oid} AND d.deptype = 'e')"""
_RELATION = "pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
_COLUMNS_OF = """FROM pg_catalog.pg_attribute a JOIN ours c ON c.oid = a.attrelid
    JOIN spaces n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"""

_LINES = (
    "SELECT "
    + _line(
        "schema",
        "n.nspname",
        _ROLE.format("n.nspowner"),
        _granted("n.nspacl", "'n'", "n.nspowner"),
        about=("n.nspname",),
    )
    + " FROM spaces n",
    "SELECT "
    + _line(
        "relation",
        _RELATION,
        "c.relkind",
        "c.relpersistence",
        _ROLE.format("c.relowner"),
        _granted("c.relacl", "CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"", "c.relowner"),
        f"CASE WHEN {_EXACT} OR c.relkind = 'v' THEN pg_catalog.array_to_string(c.reloptions, ',') END",
        "c.relrowsecurity",
        "c.relforcerowsecurity",
        "c.relreplident",
        "CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END",
        "pg_catalog.pg_get_expr(c.relpartbound, c.oid)",
        "CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END",
        f"(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace AND {_EXACT})",
        "(SELECT pg_catalog.string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) "
        "FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)",
        about=("n.nspname", "c.relname"),
    )
    + " FROM ours c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind <> 'i' AND c.relkind <> 'I'",
    "SELECT "
    + _line(
        "column",
        _RELATION,
        f"CASE WHEN {_EXACT} OR c.relkind = 'c' "
        "THEN pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END",
        "a.attname",
        "pg_catalog.format_type(a.atttypid, a.atttypmod)",
        "a.attnotnull",
        "a.attidentity",
        "a.attgenerated",
        f"CASE WHEN {_EXACT} THEN a.attstorage END",
        "a.attislocal",
        "pg_catalog.pg_get_expr(f.adbin, f.adrelid)",
        "(SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation)",
        _granted("a.attacl", "'c'", "c.relowner"),
        about=("n.nspname", "c.relname", "a.attname"),
    )
    + " "
    + _COLUMNS_OF,
    "SELECT "
    + _line(
        "constraint",
        "coalesce(k.conrelid::regclass::text, k.contypid::regtype::text)",
        "k.conname",
        "k.contype",
        "k.convalidated",
        "k.condeferrable",
        "k.condeferred",
        "pg_catalog.pg_get_constraintdef(k.oid)",
        about=(
            "n.nspname",
            "coalesce((SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = k.conrelid), "
            "(SELECT t.typname FROM pg_catalog.pg_type t WHERE t.oid = k.contypid))",
            "k.conname",
        ),
    )
    + " FROM pg_catalog.pg_constraint k JOIN spaces n ON n.oid = k.connamespace WHERE "
    + _FREE.format(catalog="pg_catalog.pg_constraint", oid="k.oid"),
    "SELECT "
    + _line(
        "index",
        "pg_catalog.pg_get_indexdef(i.indexrelid)",
        "i.indisvalid",
        "i.indisready",
        "i.indisprimary",
        f"{_EXACT} AND i.indisclustered",
        "i.indisreplident",
        f"CASE WHEN {_EXACT} THEN pg_catalog.array_to_string(c.reloptions, ',') END",
        about=("n.nspname", "i.indrelid_name", "c.relname"),
    )
    + """ FROM (SELECT x.*, t.relname AS indrelid_name FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid) i
    JOIN ours c ON c.oid = i.indexrelid JOIN spaces n ON n.oid = c.relnamespace""",
    "SELECT "
    + _line(
        "sequence",
        _RELATION,
        "s.seqtypid::regtype",
        "s.seqstart",
        "s.seqincrement",
        "s.seqmin",
        "s.seqmax",
        "s.seqcache",
        "s.seqcycle",
        "(SELECT d.refobjid::regclass::text || '.' || d.refobjsubid FROM pg_catalog.pg_depend d WHERE d.objid = c.oid "
        "AND d.classid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') LIMIT 1)"
        " IS NOT NULL",
        about=("n.nspname", "c.relname"),
    )
    + " FROM pg_catalog.pg_sequence s JOIN ours c ON c.oid = s.seqrelid JOIN spaces n ON n.oid = c.relnamespace",
    "SELECT "
    + _line(
        "type",
        "pg_catalog.format_type(t.oid, NULL)",
        "t.typtype",
        _ROLE.format("t.typowner"),
        _granted("t.typacl", "'T'", "t.typowner"),
        "(SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e "
        "WHERE e.enumtypid = t.oid)",
        "CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END",
        "t.typnotnull",
        "t.typdefault",
        "(SELECT r.rngsubtype::regtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)",
        about=("n.nspname", "t.typname"),
    )
    + " FROM pg_catalog.pg_type t JOIN spaces n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r', 'b') "
    + "AND NOT (t.typelem <> 0 AND t.typlen = -1) AND "
    + _FREE.format(catalog="pg_catalog.pg_type", oid="t.oid"),
    "SELECT "
    + _line(
        "function",
        "CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_catalog.pg_get_functiondef(p.oid) "
        "ELSE p.oid::regprocedure::text END",
        _ROLE.format("p.proowner"),
        _granted("p.proacl", "'f'", "p.proowner"),
        about=("n.nspname", "p.proname"),
    )
    + " FROM pg_catalog.pg_proc p JOIN spaces n ON n.oid = p.pronamespace WHERE "
    + _FREE.format(catalog="pg_catalog.pg_proc", oid="p.oid"),
    "SELECT "
    + _line(
        "trigger",
        "pg_catalog.pg_get_triggerdef(t.oid)",
        "t.tgenabled",
        about=("n.nspname", "c.relname", "t.tgname"),
    )
    + """ FROM pg_catalog.pg_trigger t JOIN ours c ON c.oid = t.tgrelid JOIN spaces n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal""",
    "SELECT "
    + _line(  # those behind a constraint, where they are switched off: their own names are numbers
        "internal trigger",
        _RELATION,
        "coalesce(k.conname, t.tgname)",
        "t.tgfoid::regproc",
        "t.tgenabled",
        about=("n.nspname", "c.relname", "coalesce(k.conname, t.tgname)"),
    )
    + """ FROM pg_catalog.pg_trigger t JOIN ours c ON c.oid = t.tgrelid JOIN spaces n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint WHERE t.tgisinternal AND t.tgenabled <> 'O'""",
    "SELECT "
    + _line("rule", "pg_catalog.pg_get_ruledef(r.oid)", "r.ev_enabled", about=("n.nspname", "c.relname", "r.rulename"))
    + """ FROM pg_catalog.pg_rewrite r JOIN ours c ON c.oid = r.ev_class JOIN spaces n ON n.oid = c.relnamespace
    WHERE r.rulename <> '_RETURN'""",
    "SELECT "
    + _line(
        "policy",
        "p.polrelid::regclass",
        "p.polname",
        "p.polcmd",
        "p.polpermissive",
        "(SELECT pg_catalog.string_agg("
        + _ROLE.format("role")
        + ", ',' ORDER BY "
        + _ROLE.format("role")
        + ") FROM pg_catalog.unnest(p.polroles) AS role)",
        "pg_catalog.pg_get_expr(p.polqual, p.polrelid)",
        "pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)",
        about=("n.nspname", "c.relname", "p.polname"),
    )
    + " FROM pg_catalog.pg_policy p JOIN ours c ON c.oid = p.polrelid JOIN spaces n ON n.oid = c.relnamespace",
    "SELECT "
    + _line("extension", "e.extname", "e.extversion", about=("NULL", "e.extname"))
    + " FROM pg_catalog.pg_extension e",
    "SELECT "
    + _line(
        "default privileges",
        _ROLE.format("a.defaclrole"),
        "a.defaclnamespace::regnamespace",
        "a.defaclobjtype",
        _GRANTS.format("a.defaclacl"),
        about=("a.defaclnamespace::regnamespace",),
    )
    + " FROM pg_catalog.pg_default_acl a WHERE {anywhere} OR a.defaclnamespace IN (SELECT n.oid FROM spaces n)",
    "SELECT "
    + _line(
        "event trigger",
        "t.evtname",
        "t.evtevent",
        "t.evtenabled",
        "t.evtfoid::regprocedure",
        about=("NULL", "t.evtname"),
    )
    + " FROM pg_catalog.pg_event_trigger t",
    "SELECT "
    + _line(
        "comment",
        "o.type",
        "o.identity",
        "d.description",
        about=(
            "o.schema",
            "coalesce((SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = d.objoid "
            "AND d.classoid = 'pg_catalog.pg_class'::regclass), o.identity)",
            "(SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = d.objoid AND a.attnum = d.objsubid "
            "AND d.objsubid > 0 AND d.classoid = 'pg_catalog.pg_class'::regclass)",
        ),
    )
    + """ FROM pg_catalog.pg_description d,
    LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    WHERE d.objoid >= 16384 AND CASE WHEN {anywhere} THEN o.schema IS DISTINCT FROM 'pg_catalog'
    AND coalesce(o.schema, '') <> ALL ({others}) ELSE o.schema = {schema} END""",
    "SELECT "
    + _line(
        "database",
        "pg_catalog.pg_encoding_to_char(b.encoding)",
        "b.datcollate",
        "b.datctype",
        about=("NULL", "'database'"),
    )
    + f""" FROM pg_catalog.pg_database b WHERE NOT {_EXACT} AND {{anywhere}}
    AND b.datname = pg_catalog.current_database()""",
)

_QUERY = f"""WITH spaces AS (SELECT n.* FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema')
    AND CASE WHEN {{anywhere}} THEN n.nspname <> ALL ({{others}}) ELSE n.nspname = {{schema}} END),
ours AS (SELECT c.* FROM pg_catalog.pg_class c JOIN spaces n ON n.oid = c.relnamespace
    WHERE {_FREE.format(catalog="pg_catalog.pg_class", oid="c.oid")})
{" UNION ALL ".join(_LINES)}"""


def query(schema: str | None, others: Sequence[str] = (), own: Sequence[str] | None = None) -> str:
    """The question over the whole database but for the schemas of `others`, or over one schema, which other tenants'
    work leaves as it is.

    With `own`, the tenant's names, roles are told without them, and what neither a statement's meaning nor its result
    depends on is left out: the order of columns, and how tables are stored. Without, everything counts.
    """
    filled = {
        "{anywhere}": "true" if schema is None else "false",
        "{schema}": literal(schema or ""),
        "{others}": f"ARRAY[{', '.join(map(literal, others))}]::text[]",
        _NAMED: "r.rolname::text" if own is None else _anonymous(own),
        _EXACT: "true" if own is None else "false",
    }
    return re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], _QUERY)


def _anonymous(own: Sequence[str]) -> str:
    """A role's name, with `<tenant>` for what in it is a name of the tenant: that of `catalog.of_tenant`."""
    words = sorted(set(filter(None, own)), key=lambda name: (-len(name), name))
    if not words:
        return "r.rolname::text"
    escaped = "|".join(re.sub(r"([^\w])", r"\\\1", word) for word in words)
    pattern = literal(f"(?<![[:alnum:]])(?:{escaped})(?![[:alnum:]])")
    return f"pg_catalog.regexp_replace(r.rolname::text, {pattern}, '<tenant>', 'g')"


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
    """What one schema has and the other has not, in words, some lines of it.

    >>> difference(("a", "b"), ("b", "c"))
    'only in the first: a; only in the second: c'
    """
    ours, theirs = sorted(set(first) - set(second)), sorted(set(second) - set(first))
    found = [f"only in the first: {line}" for line in ours] + [f"only in the second: {line}" for line in theirs]
    more = f"; and {len(found) - most} more" if len(found) > most else ""
    return "; ".join(" ".join(line.split())[:300] for line in found[:most]) + more
