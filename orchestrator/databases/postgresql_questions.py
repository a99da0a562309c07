"""What PostgreSQL is asked, as SQL."""

from __future__ import annotations

# First key of our advisory locks: "orch" in ASCII. The second tells the targets of one database apart.
LOCK_NAMESPACE = int.from_bytes(b"orch", "big")

# Answers in one row: where we are, which server start this is, who we are. The start time tells two servers, or a
# server before and after a fail-over, apart without any privilege.
IDENTITY = """
    pg_catalog.current_database()::text,
    (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
    extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text"""
# Sessions of the migration at work without the lock that is asked for here: left by a run that was killed. Asked of the
# function behind pg_stat_activity: a new session takes 1 ms to plan a question to the view.
OURS = """SELECT pid FROM pg_catalog.pg_stat_get_activity(NULL)
    WHERE datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND application_name = $1 AND pid <> pg_catalog.pg_backend_pid()"""
# Matched by name as well: a backend's number may be another session's by now.
END = f"""SELECT count(pg_catalog.pg_terminate_backend(pid)) FROM ({OURS}
    AND pid = ANY (pg_catalog.string_to_array($2, ',')::int[])) AS s"""
# A session that is not the one we were told of is a pooler's: what is locked there would stay locked after us.
ENTER = f"""SELECT {IDENTITY}, {{proof}} AS schema, pg_catalog.pg_backend_pid(),
    CASE WHEN pg_catalog.current_database() = $1 AND pg_catalog.pg_backend_pid() = {{backend}}
    THEN pg_catalog.pg_try_advisory_lock($2, $3) END AS locked,
    pg_catalog.array_to_string(ARRAY({OURS.replace("$1", "$4")}), ',') AS leftovers"""
# Asked with it: whether there is a version table, and what else is there if there is none; or what it holds, which
# fails where there is none.
PROVISIONED = """pg_catalog.to_regclass($5::text) IS NOT NULL AS provisioned,
    CASE WHEN pg_catalog.to_regclass($5::text) IS NULL
    THEN pg_catalog.array_to_string(ARRAY({tables}), E'\\n') END AS tables"""
HEADS = "pg_catalog.array_to_string(ARRAY(SELECT coalesce(version_num::text, ' ') FROM {table}), E'\\n') AS heads"
LOCK_HELD = """EXISTS (SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND granted AND pid = {pid}
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND classid::bigint = {first} AND objid::bigint = {second} AND objsubid = 2)"""
# A key is an unsigned number to us, and a signed one to the server.
LOCK_AGAIN = "SELECT pg_catalog.pg_try_advisory_lock({first}, {second}::bit(32)::int)"
HOLDER = f"""SELECT a.pid, a.application_name, a.state, extract(epoch FROM now() - a.backend_start)::float AS seconds
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.classid::bigint = {LOCK_NAMESPACE}
    AND l.objid::bigint = $1
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"""
# Matched by name as well, as above.
END_HOLDER = """SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_get_activity($1)
    WHERE application_name = $2"""
# Of the backends that are named, one after the other: who keeps one of them waiting.
BLOCKERS = """SELECT a.pid, a.application_name, a.state, extract(epoch FROM now() - a.xact_start)::float AS seconds
    FROM pg_catalog.unnest(pg_catalog.string_to_array($1, ',')::int[]) AS waiting(pid)
    CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiting.pid)) AS blocking(pid)
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(blocking.pid) a LIMIT 1"""

# What makes a statement mean one thing in one session and another in the next. Left out is what we set ourselves, and
# what names the client. The encoding counts where the server takes the bytes as they come. Asked within env.py's
# transaction and outside of ours, whose isolation is then what a plain BEGIN gives. What a client has set is told as
# such, but for what drivers set at times: the next database, or its server, may have another value, which only one of
# the two sessions then has.
STATE = """SELECT name::text, CASE WHEN source IN ('client', 'session') AND name <> 'jit' AND name !~ '^transaction_'
    THEN setting || ' (set for the session)' ELSE setting END::text
    FROM pg_catalog.pg_settings WHERE name <> ALL (ARRAY[
    'application_name', 'lock_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'client_encoding',
    'client_connection_check_interval', 'transaction_timeout']) AND name !~ '^tcp_'
    UNION ALL VALUES ('the role', current_user::text), ('the user', session_user::text),
    ('client_encoding', CASE WHEN pg_catalog.current_setting('server_encoding') = 'SQL_ASCII'
    THEN pg_catalog.current_setting('client_encoding') ELSE '' END)"""

# What answers of the catalog hang on beside the schema: where names are looked for, also once there are more schemas,
# and what the role may see. The path comes last: one that leads to a tenant's own schema differs by its name.
STANDING = """SELECT pg_catalog.array_to_string(pg_catalog.current_schemas(false), E'\\n'),
    (SELECT CASE WHEN r.rolsuper THEN 'superuser' ELSE coalesce((SELECT pg_catalog.string_agg(m.rolname, E'\\n'
        ORDER BY m.rolname) FROM pg_catalog.pg_roles m WHERE pg_catalog.pg_has_role(r.oid, m.oid, 'USAGE')
        AND m.oid <> r.oid), '') END FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
    pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('search_path')"""

CURRENT_SCHEMA = "SELECT pg_catalog.current_schema()::text"

# An orphaned statement ends soon after its client: PostgreSQL 14 and newer look after the socket while they work.
CHECK_CLIENT = """CASE WHEN pg_catalog.current_setting('server_version_num')::int >= 140000
    AND pg_catalog.strpos(pg_catalog.version(), 'linux') > 0
    THEN pg_catalog.set_config('client_connection_check_interval', '1000', false) END"""
