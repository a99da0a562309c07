"""Questions after tables, views and sequences of PostgreSQL, and what belongs to them. `ours` and `spaces`: see
`fingerprint`."""

from __future__ import annotations

from orchestrator.databases.fingerprint_parts import (
    BETWEEN,
    EXACT,
    FIRST,
    FREE,
    LAST,
    RELATION,
    ROLE,
    granted,
    joined,
    line,
)

_OF_COLUMNS = """FROM pg_catalog.pg_attribute a JOIN ours c ON c.oid = a.attrelid
    JOIN spaces n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')"""
_OPTIONS = joined(
    "pg_catalog.quote_literal(o)", "pg_catalog.unnest({options}) AS o", 'pg_catalog.quote_literal(o) COLLATE "C"'
)
# A table's columns in its statistics are told in the order that they have in the table: it does not count.
_STATISTICS = f"""CASE WHEN {EXACT} OR pg_catalog.to_jsonb(s) ->> 'stxexprs' IS NOT NULL
    THEN pg_catalog.pg_get_statisticsobjdef(s.oid) ELSE pg_catalog.concat_ws(' ',
    pg_catalog.quote_ident(sn.nspname) || '.' || pg_catalog.quote_ident(s.stxname),
    {joined("k::text", "pg_catalog.unnest(s.stxkind) AS k", 'k::text COLLATE "C"')}, 'ON',
    (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attname)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = s.stxrelid AND a.attnum = ANY (s.stxkeys::int2[])),
    'FROM', {RELATION}) END"""
_OWNED_BY = """(SELECT d.refobjid::regclass::text || '(' || pg_catalog.quote_ident(a.attname) || ')'
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    WHERE d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass
    AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i') LIMIT 1)"""

LINES = (
    "SELECT "
    + line(
        "relation",
        RELATION,
        "c.relkind",
        "c.relpersistence",
        ROLE.format("c.relowner"),
        granted("c.relacl", "CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\"", "c.relowner"),
        f"CASE WHEN {EXACT} THEN pg_catalog.array_to_string(c.reloptions, ',') "
        f"WHEN c.relkind = 'v' THEN {_OPTIONS.format(options='c.reloptions')} END",
        "c.relrowsecurity",
        "c.relforcerowsecurity",
        "c.relreplident",
        "CASE WHEN c.relkind = 'p' THEN pg_catalog.pg_get_partkeydef(c.oid) END",
        "pg_catalog.pg_get_expr(c.relpartbound, c.oid)",
        "CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END",
        f"(SELECT t.spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = c.reltablespace AND {EXACT})",
        "(SELECT pg_catalog.string_agg(i.inhparent::regclass::text, ',' ORDER BY i.inhseqno) "
        "FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)",
        about=("n.nspname", "c.relname"),
    )
    + " FROM ours c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind <> 'i' AND c.relkind <> 'I'",
    "SELECT "
    + line("not populated", RELATION, about=("n.nspname", "c.relname"))
    + " FROM ours c JOIN spaces n ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated",
    "SELECT "
    + line(
        "foreign table",
        RELATION,
        "s.srvname",
        _OPTIONS.format(options="f.ftoptions"),
        about=("n.nspname", "c.relname"),
    )
    + """ FROM pg_catalog.pg_foreign_table f JOIN ours c ON c.oid = f.ftrelid JOIN spaces n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_foreign_server s ON s.oid = f.ftserver""",
    "SELECT "
    + line(
        "foreign column",
        RELATION,
        "a.attname",
        _OPTIONS.format(options="a.attfdwoptions"),
        about=("n.nspname", "c.relname", "a.attname"),
    )
    + " "
    + _OF_COLUMNS
    + " AND a.attfdwoptions IS NOT NULL",
    "SELECT "
    + line(
        "column",
        RELATION,
        f"CASE WHEN {EXACT} OR c.relkind = 'c' "
        "THEN pg_catalog.row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) END",
        "a.attname",
        "pg_catalog.format_type(a.atttypid, a.atttypmod)",
        "a.attnotnull",
        "a.attidentity",
        "a.attgenerated",
        f"CASE WHEN {EXACT} THEN a.attstorage END",
        "a.attislocal",
        "pg_catalog.pg_get_expr(f.adbin, f.adrelid)",
        "(SELECT l.collname FROM pg_catalog.pg_collation l WHERE l.oid = a.attcollation)",
        granted("a.attacl", "'c'", "c.relowner"),
        about=("n.nspname", "c.relname", "a.attname"),
    )
    + " "
    + _OF_COLUMNS,
    "SELECT "
    + line(
        "constraint",
        "coalesce(nullif(k.conrelid, 0)::regclass::text, k.contypid::regtype::text)",
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
    + FREE.format(catalog="pg_catalog.pg_constraint", oid="k.oid"),
    "SELECT "
    + line(
        "index",
        "pg_catalog.pg_get_indexdef(i.indexrelid)",
        "i.indisvalid",
        "i.indisready",
        "i.indisprimary",
        f"{EXACT} AND i.indisclustered",
        "i.indisreplident",
        f"CASE WHEN {EXACT} THEN pg_catalog.array_to_string(c.reloptions, ',') END",
        about=("n.nspname", "i.indrelid_name", "c.relname"),
    )
    + """ FROM (SELECT x.*, t.relname AS indrelid_name FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class t ON t.oid = x.indrelid) i
    JOIN ours c ON c.oid = i.indexrelid JOIN spaces n ON n.oid = c.relnamespace""",
    "SELECT "
    + line("statistics", _STATISTICS, ROLE.format("s.stxowner"), about=("n.nspname", "c.relname", "s.stxname"))
    + """ FROM pg_catalog.pg_statistic_ext s JOIN ours c ON c.oid = s.stxrelid
    JOIN spaces n ON n.oid = c.relnamespace JOIN pg_catalog.pg_namespace sn ON sn.oid = s.stxnamespace""",
    "SELECT "
    + line(
        "sequence",
        RELATION,
        "s.seqtypid::regtype",
        "s.seqstart",
        "s.seqincrement",
        "s.seqmin",
        "s.seqmax",
        "s.seqcache",
        "s.seqcycle",
        _OWNED_BY,
        about=("n.nspname", "c.relname"),
    )
    + " FROM pg_catalog.pg_sequence s JOIN ours c ON c.oid = s.seqrelid JOIN spaces n ON n.oid = c.relnamespace",
    "SELECT "
    + line(
        "trigger",
        "pg_catalog.pg_get_triggerdef(t.oid)",
        "t.tgenabled",
        about=("n.nspname", "c.relname", "t.tgname"),
    )
    + """ FROM pg_catalog.pg_trigger t JOIN ours c ON c.oid = t.tgrelid JOIN spaces n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal""",
    "SELECT "
    + line(  # those behind a constraint, where they are switched off: their own names are numbers
        "internal trigger",
        RELATION,
        "coalesce(k.conname, t.tgname)",
        "t.tgfoid::regproc",
        "t.tgenabled",
        about=("n.nspname", "c.relname", "coalesce(k.conname, t.tgname)"),
    )
    + """ FROM pg_catalog.pg_trigger t JOIN ours c ON c.oid = t.tgrelid JOIN spaces n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint WHERE t.tgisinternal AND t.tgenabled <> 'O'""",
    "SELECT "
    + line("rule", "pg_catalog.pg_get_ruledef(r.oid)", "r.ev_enabled", about=("n.nspname", "c.relname", "r.rulename"))
    + """ FROM pg_catalog.pg_rewrite r JOIN ours c ON c.oid = r.ev_class JOIN spaces n ON n.oid = c.relnamespace
    WHERE r.rulename <> '_RETURN'""",
    "SELECT "
    + line(
        "policy",
        "p.polrelid::regclass",
        "p.polname",
        "p.polcmd",
        "p.polpermissive",
        f"(SELECT {FIRST} || pg_catalog.string_agg({ROLE.format('role')}, {BETWEEN} ORDER BY {ROLE.format('role')} "
        f'COLLATE "C") || {LAST} FROM pg_catalog.unnest(p.polroles) AS role)',
        "pg_catalog.pg_get_expr(p.polqual, p.polrelid)",
        "pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)",
        about=("n.nspname", "c.relname", "p.polname"),
    )
    + " FROM pg_catalog.pg_policy p JOIN ours c ON c.oid = p.polrelid JOIN spaces n ON n.oid = c.relnamespace",
)
