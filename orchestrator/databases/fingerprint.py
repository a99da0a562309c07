"""The schema of a PostgreSQL database as comparable lines: equal for two tenants whose schemas are equal.

One question over the catalog, linear in its size. Left out is what differs without meaning anything: object ids, sizes,
statistics, the last value of a sequence; and what revisions hardly ever make: publications, collations, operators,
casts, text search, foreign servers, statistics objects, settings of roles and databases. Whoever asks is `<migrator>`,
the database's owner `<owner>`, so that tenants with roles of their own compare. What extensions own is told by the
extension and its version.
"""

from __future__ import annotations

import re

from orchestrator.databases.quoting import literal, quoted

_ROLE = """(SELECT CASE WHEN r.rolname = session_user THEN '<migrator>' WHEN r.oid = (SELECT datdba
    FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) THEN '<owner>' ELSE r.rolname::text END
    FROM pg_catalog.pg_roles r WHERE r.oid = {})"""
_ACL = f"""coalesce((SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', {_ROLE.format("e.grantor")},
    CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE {_ROLE.format("e.grantee")} END, e.privilege_type, e.is_grantable), ', '
    ORDER BY {_ROLE.format("e.grantee")}, e.privilege_type, {_ROLE.format("e.grantor")})
    FROM pg_catalog.aclexplode({{}}) e), '')"""


def _line(kind: str, *parts: str) -> str:
    texts = ", ".join(f"coalesce(({part})::text, '-')" for part in parts)
    return f"pg_catalog.concat_ws(' | ', '{kind}', {texts})"


_FREE = """NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = '{catalog}'::regclass
    AND d.objid = {oid} AND d.deptype = 'e')"""
_RELATION = "pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
_COLUMNS_OF = """FROM pg_catalog.pg_attribute a JOIN ours c ON c.oid = a.attrelid
    JOIN spaces n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"""

_LINES = (
    "SELECT " + _line("schema", "n.nspname", _ROLE.format("n.nspowner"), _ACL.format("n.nspacl")) + " FROM spaces n",
    "SELECT "
    + _line(
        "relation",
        _RELATION,
        "c.relkind",
        "c.relpersistence",
        _ROLE.format("c.relowner"),
        _ACL.format("c.relacl"),
        "pg_catalog.array_to_string(c.reloptions, ',')",
        "c.relrowsecurity",
        "c.relforcerowsecurity",
        "c.relreplident",
        "CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END",
        "pg_catalog.pg_get_expr(c.relpartbound, c.oid)",
        "CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END",
        "(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace)",
        "(SELECT pg_catalog.string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) "
        "FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)",
    )
    + " FROM ours c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind <> 'i' AND c.relkind <> 'I'",
    "SELECT "
    + _line(
        "column",
        _RELATION,
        "pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum)",
        "a.attname",
        "pg_catalog.format_type(a.atttypid, a.atttypmod)",
        "a.attnotnull",
        "a.attidentity",
        "a.attgenerated",
        "a.attstorage",
        "a.attislocal",
        "pg_catalog.pg_get_expr(f.adbin, f.adrelid)",
        "(SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation)",
        _ACL.format("a.attacl"),
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
        "i.indisclustered",
        "i.indisreplident",
        "pg_catalog.array_to_string(c.reloptions, ',')",
    )
    + " FROM pg_catalog.pg_index i JOIN ours c ON c.oid = i.indexrelid",
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
    )
    + " FROM pg_catalog.pg_sequence s JOIN ours c ON c.oid = s.seqrelid JOIN spaces n ON n.oid = c.relnamespace",
    "SELECT "
    + _line(
        "type",
        "pg_catalog.format_type(t.oid, NULL)",
        "t.typtype",
        _ROLE.format("t.typowner"),
        _ACL.format("t.typacl"),
        "(SELECT pg_catalog.string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e "
        "WHERE e.enumtypid = t.oid)",
        "CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END",
        "t.typnotnull",
        "t.typdefault",
        "(SELECT r.rngsubtype::regtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)",
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
        _ACL.format("p.proacl"),
    )
    + " FROM pg_catalog.pg_proc p JOIN spaces n ON n.oid = p.pronamespace WHERE "
    + _FREE.format(catalog="pg_catalog.pg_proc", oid="p.oid"),
    "SELECT "
    + _line("trigger", "pg_catalog.pg_get_triggerdef(t.oid)", "t.tgenabled")
    + " FROM pg_catalog.pg_trigger t JOIN ours c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal",
    "SELECT "
    + _line("rule", "pg_catalog.pg_get_ruledef(r.oid)", "r.ev_enabled")
    + " FROM pg_catalog.pg_rewrite r JOIN ours c ON c.oid = r.ev_class WHERE r.rulename <> '_RETURN'",
    "SELECT "
    + _line(
        "policy",
        "p.polrelid::regclass",
        "p.polname",
        "p.polcmd",
        "p.polpermissive",
        "(SELECT pg_catalog.string_agg("
        + _ROLE.format("role")
        + ", ',' ORDER BY role) FROM pg_catalog.unnest(p.polroles) AS role)",
        "pg_catalog.pg_get_expr(p.polqual, p.polrelid)",
        "pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)",
    )
    + " FROM pg_catalog.pg_policy p JOIN ours c ON c.oid = p.polrelid",
    "SELECT " + _line("extension", "e.extname", "e.extversion") + " FROM pg_catalog.pg_extension e",
    "SELECT "
    + _line(
        "default privileges",
        _ROLE.format("a.defaclrole"),
        "a.defaclnamespace::regnamespace",
        "a.defaclobjtype",
        _ACL.format("a.defaclacl"),
    )
    + " FROM pg_catalog.pg_default_acl a WHERE {anywhere} OR a.defaclnamespace IN (SELECT n.oid FROM spaces n)",
    "SELECT "
    + _line("event trigger", "t.evtname", "t.evtevent", "t.evtenabled", "t.evtfoid::regprocedure")
    + " FROM pg_catalog.pg_event_trigger t",
    "SELECT "
    + _line("comment", "o.type", "o.identity", "d.description")
    + """ FROM pg_catalog.pg_description d,
    LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    WHERE d.objoid >= 16384 AND CASE WHEN {anywhere} THEN o.schema IS DISTINCT FROM 'pg_catalog'
    ELSE o.schema = {schema} END""",
)

_QUERY = f"""WITH spaces AS (SELECT n.* FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast|temp)'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND ({{anywhere}} OR n.nspname = {{schema}})),
ours AS (SELECT c.* FROM pg_catalog.pg_class c JOIN spaces n ON n.oid = c.relnamespace
    WHERE {_FREE.format(catalog="pg_catalog.pg_class", oid="c.oid")})
{" UNION ALL ".join(_LINES)}"""


def query(schema: str | None) -> str:
    """The question over the whole database, or over one schema, which other tenants' work leaves as it is."""
    filled = {"{anywhere}": "true" if schema is None else "false", "{schema}": literal(schema or "")}
    return re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], _QUERY)


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
    names = {f"{version_table}_pkc": "<version table>_pkc", version_table: "<version table>"}
    forms = {form: known for name, known in names.items() for form in _forms(name)}
    anywhere = [rf"(?<!\w){re.escape(form)}(?!\w)" for form in forms]
    own = dict.fromkeys(_forms(schema), "<schema>") if schema is not None else {}
    qualifying = [rf"(?<!\w){re.escape(form)}(?=[.])" for form in own]
    alone = [rf"(?<!\w){re.escape(form)}(?!\w)" for form in own]
    usual, of_schemas = re.compile("|".join(qualifying + anywhere)), re.compile("|".join(alone + anywhere))

    def line_of(line: str) -> str:
        pattern = of_schemas if line.startswith(_OF_SCHEMAS) else usual
        return pattern.sub(lambda found: own.get(found[0]) or forms[found[0]], line)

    return tuple(sorted(map(line_of, lines)))


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
