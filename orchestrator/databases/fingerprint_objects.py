"""Questions after what is no relation of PostgreSQL: schemas, types, functions, extensions, and comments on anything.
`spaces`: see `fingerprint`."""

from __future__ import annotations

from orchestrator.databases.fingerprint_parts import EXACT, FREE, GRANTS, ROLE, granted, joined, line

# Two spellings of one locale.
_LOCALE = "pg_catalog.regexp_replace(pg_catalog.regexp_replace({}, '[.]utf-?8', '.utf8', 'i'), '^POSIX$', 'C')"
# Columns that only newer servers have.
_NEWER = "pg_catalog.to_jsonb(b) ->> '{}'"
_ENUM = "pg_catalog.pg_enum e WHERE e.enumtypid = t.oid"
_AGGREGATE = """(SELECT pg_catalog.concat_ws(' ', p.oid::regprocedure, a.aggkind, a.aggtransfn, a.aggfinalfn,
    a.aggcombinefn, a.aggsortop::regoperator, pg_catalog.format_type(a.aggtranstype, NULL),
    pg_catalog.quote_nullable(a.agginitval),
    p.proparallel) FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid)"""


def _of(catalog: str, columns: str, source: str) -> str:
    """What may have a comment: its id, and the relation and the part that it is."""
    return f"SELECT 'pg_catalog.{catalog}'::regclass AS class, {columns} FROM {source}"


# From what is in the schemas to its comments: to look up first what each comment of the database is on would take a
# thousand tenants' schemas in one database a thousand times the work of one.
_COMMENTED = (
    _of("pg_namespace", "n.oid, n.nspname, NULL AS relation, NULL AS part", "spaces n"),
    _of(
        "pg_class",
        "c.oid, n.nspname, c.relname, NULL",
        "pg_catalog.pg_class c JOIN spaces n ON n.oid = c.relnamespace",
    ),
    _of("pg_type", "t.oid, n.nspname, t.typname, NULL", "pg_catalog.pg_type t JOIN spaces n ON n.oid = t.typnamespace"),
    _of("pg_proc", "p.oid, n.nspname, p.proname, NULL", "pg_catalog.pg_proc p JOIN spaces n ON n.oid = p.pronamespace"),
    _of(
        "pg_constraint",
        """k.oid, n.nspname, coalesce((SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = k.conrelid),
        (SELECT t.typname FROM pg_catalog.pg_type t WHERE t.oid = k.contypid)), k.conname""",
        "pg_catalog.pg_constraint k JOIN spaces n ON n.oid = k.connamespace",
    ),
    *(
        _of(
            catalog,
            f"x.oid, n.nspname, c.relname, x.{name}",
            f"pg_catalog.{catalog} x JOIN ours c ON c.oid = x.{relation} JOIN spaces n ON n.oid = c.relnamespace",
        )
        for catalog, relation, name in (
            ("pg_trigger", "tgrelid", "tgname"),
            ("pg_rewrite", "ev_class", "rulename"),
            ("pg_policy", "polrelid", "polname"),
            ("pg_statistic_ext", "stxrelid", "stxname"),
        )
    ),
)
_CLASSES = ("namespace", "class", "type", "proc", "constraint", "trigger", "rewrite", "policy", "statistic_ext")
_REST = ", ".join(f"'pg_catalog.pg_{name}'::regclass" for name in _CLASSES)

LINES = (
    "SELECT "
    + line(
        "schema",
        "n.nspname",
        ROLE.format("n.nspowner"),
        granted("n.nspacl", "'n'", "n.nspowner"),
        about=("n.nspname",),
    )
    + " FROM spaces n",
    "SELECT "
    + line(
        "type",
        "pg_catalog.format_type(t.oid, NULL)",
        "t.typtype",
        ROLE.format("t.typowner"),
        granted("t.typacl", "'T'", "t.typowner"),
        joined("pg_catalog.quote_literal(e.enumlabel)", _ENUM, "e.enumsortorder"),
        "CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END",
        "t.typnotnull",
        "t.typdefault",
        "(SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = t.typcollation AND t.typtype = 'd')",
        "(SELECT r.rngsubtype::regtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid)",
        about=("n.nspname", "t.typname"),
    )
    + " FROM pg_catalog.pg_type t JOIN spaces n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r', 'b') "
    + "AND NOT (t.typelem <> 0 AND t.typlen = -1) AND "
    + FREE.format(catalog="pg_catalog.pg_type", oid="t.oid"),
    "SELECT "
    + line(
        "function",
        f"CASE WHEN p.prokind IN ('f', 'p', 'w') THEN pg_catalog.pg_get_functiondef(p.oid) ELSE {_AGGREGATE} END",
        ROLE.format("p.proowner"),
        granted("p.proacl", "'f'", "p.proowner"),
        about=("n.nspname", "p.proname"),
    )
    + " FROM pg_catalog.pg_proc p JOIN spaces n ON n.oid = p.pronamespace WHERE "
    + FREE.format(catalog="pg_catalog.pg_proc", oid="p.oid"),
    "SELECT "
    + line(
        "extension",
        "e.extname",
        "e.extversion",
        # Where several tenants' schemas have one database, it is in at most one of them.
        "(SELECT n.nspname FROM spaces n WHERE n.oid = e.extnamespace AND {anywhere})",
        about=("NULL", "e.extname"),
    )
    + " FROM pg_catalog.pg_extension e",
    "SELECT "
    + line(
        "default privileges",
        ROLE.format("a.defaclrole"),
        "a.defaclnamespace::regnamespace",
        "a.defaclobjtype",
        GRANTS.format("a.defaclacl"),
        about=("a.defaclnamespace::regnamespace",),
    )
    + """ FROM pg_catalog.pg_default_acl a WHERE a.defaclnamespace IN (SELECT n.oid FROM spaces n)
    OR {anywhere} AND a.defaclnamespace = 0""",
    "SELECT "
    + line(
        "event trigger",
        "t.evtname",
        "t.evtevent",
        "t.evtenabled",
        "t.evtfoid::regprocedure",
        joined("pg_catalog.quote_literal(tag)", "pg_catalog.unnest(t.evttags) AS tag"),
        about=("NULL", "t.evtname"),
    )
    + " FROM pg_catalog.pg_event_trigger t",
    "SELECT "
    + line(
        "comment",
        "o.type",
        "o.identity",
        "d.description",
        about=(
            "x.nspname",
            "x.relation",
            "coalesce(x.part, (SELECT a.attname FROM pg_catalog.pg_attribute a WHERE a.attrelid = d.objoid "
            "AND a.attnum = d.objsubid AND d.objsubid > 0 AND d.classoid = 'pg_catalog.pg_class'::regclass))",
        ),
    )
    + f""" FROM ({" UNION ALL ".join(_COMMENTED)}) x
    JOIN pg_catalog.pg_description d ON d.classoid = x.class AND d.objoid = x.oid,
    LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) o WHERE d.objoid >= 16384""",
    "SELECT "
    + line("comment", "o.type", "o.identity", "d.description", about=("o.schema", "o.identity"))
    + f""" FROM pg_catalog.pg_description d,
    LATERAL pg_catalog.pg_identify_object(d.classoid, d.objoid, d.objsubid) o
    WHERE d.objoid >= 16384 AND d.classoid NOT IN ({_REST})
    AND CASE WHEN o.schema IS NULL THEN {{anywhere}} ELSE o.schema IN (SELECT n.nspname FROM spaces n) END""",
    "SELECT "
    + line(
        "database",
        "pg_catalog.pg_encoding_to_char(b.encoding)",
        _LOCALE.format("b.datcollate"),
        _LOCALE.format("b.datctype"),
        _NEWER.format("datlocprovider"),
        f"coalesce({_NEWER.format('datlocale')}, {_NEWER.format('daticulocale')})",
        _NEWER.format("daticurules"),
        about=("NULL", "'database'"),
    )
    + f""" FROM pg_catalog.pg_database b WHERE NOT {EXACT} AND {{anywhere}}
    AND b.datname = pg_catalog.current_database()""",
)
