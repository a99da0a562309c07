"""SQL that the lines of a PostgreSQL schema are written with, with places that `fingerprint.query` fills in."""

from __future__ import annotations

# Other roles' names, and whether everything counts: the layout, too, and who of two people with all rights it is.
NAMED, EXACT = ":role:", ":exact:"
# What stands around lists of roles and grants, and between two of them.
FIRST, BETWEEN, LAST = ":first:", ":between:", ":last:"
ROLE = f"""(SELECT CASE WHEN r.rolname = session_user THEN CASE WHEN {EXACT} THEN '<migrator>' ELSE '<owner>' END
    WHEN r.oid = (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    THEN '<owner>' ELSE {NAMED} END FROM pg_catalog.pg_roles r WHERE r.oid = {{}})"""
GRANTS = f"""coalesce((SELECT {FIRST} || pg_catalog.string_agg(pg_catalog.concat_ws(' ', {ROLE.format("e.grantor")},
    CASE e.grantee WHEN 0 THEN 'PUBLIC' ELSE {ROLE.format("e.grantee")} END, e.privilege_type, e.is_grantable),
    {BETWEEN} ORDER BY {ROLE.format("e.grantee")} COLLATE "C", e.privilege_type COLLATE "C", {ROLE.format("e.grantor")}
    COLLATE "C") || {LAST} FROM pg_catalog.aclexplode({{}}) e), '')"""
RELATION = "pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname)"
# What no extension has made.
FREE = """NOT EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = '{catalog}'::regclass
    AND d.objid = {oid} AND d.deptype = 'e')"""


def granted(acl: str, kind: str, owner: str) -> str:
    """The privileges on an object of a kind, as `acldefault` knows it; '' for the usual ones, whether they are written
    down, as they are once anything was granted and revoked, or not."""
    usual = f"pg_catalog.acldefault({kind}, {owner})"
    return f"""CASE WHEN {acl} IS NULL OR ({acl} OPERATOR(pg_catalog.@>) {usual}
    AND {usual} OPERATOR(pg_catalog.@>) {acl}) THEN '' WHEN pg_catalog.cardinality({acl}) = 0
    THEN 'none' ELSE {GRANTS.format(acl)} END"""


def line(kind: str, *parts: str, about: tuple[str, ...]) -> str:
    texts = ", ".join(f"coalesce(({part})::text, '-')" for part in parts)
    names = ", ".join(f"({name})::text" for name in (*about, "NULL", "NULL")[:3])
    return f"pg_catalog.concat_ws(' | ', '{kind}', {texts}), {names}"


def joined(values: str, source: str, order: str | None = None) -> str:
    """Values as one text, each in quotes: a comma within one is not one between two."""
    return f"(SELECT pg_catalog.string_agg({values}, ',' ORDER BY {order or values}) FROM {source})"
