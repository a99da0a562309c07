"""Each mistake, at its place: the mark stands before what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import RegistryError
from orchestrator.registry import manifest, sections
from tests.unit.registry.files import SHARDS, TENANTS, TRACKS, loaded, marked, places_of, refused, write

TWO_TRACKS = "tracks: {app: {script_location: alembic}, dwh: {script_location: alembic, version_table: v}}\n"
LONG = "x" * 64

SYNTAX = [
    ("▶", "the file is empty"),
    ("▶# nothing\n", "the file is empty"),
    ("▶- a\n- b\n", "must be a mapping"),
    ("▶just text", "must be a mapping"),
    ("a: 1\n▶\tb: 2\n", "indent with spaces"),
    ("a: b▶: c\n", "mapping values are not allowed"),
    ("a: [1,\n▶", "cannot be read as YAML"),
    ("a: 1\n▶---\nb: 2\n", "single document"),
    ("a: ▶&a [*a]\n", "refers to itself"),
    ("a: ▶\x00\n", "U+0000"),
    ("a: ▶*nowhere\n", "undefined alias"),
    ("a: " + "[" * 38 + "▶[" + "[]" + "]" * 39, "nested too deeply"),
]

SECTIONS = [
    (f"▶tracs: {{}}\n{TRACKS}{SHARDS}{TENANTS}", "unknown key 'tracs'; did you mean 'tracks'?"),
    (f"▶{TRACKS}{SHARDS}", "`tenants` is missing; when there are none yet, write `tenants: []`"),
    (f"▶{SHARDS}{TENANTS}", "`tracks` is missing"),
    (f"tracks: ▶[]\n{SHARDS}{TENANTS}", "`tracks` must be a mapping"),
    (f"tracks: ▶{{}}\n{SHARDS}{TENANTS}", "no track"),
    (f"{TRACKS}{SHARDS}tenants:▶\n", "`tenants` must be a list"),
    (f"{TRACKS}{SHARDS}tenants: ▶{{a: b}}\n", "`tenants` must be a list"),
    (f"{TRACKS}{SHARDS}{TENANTS}▶tenants: []\n", "`tenants` is given twice, first in line 3"),
    (f"{TRACKS}{SHARDS}tenants: [{{id: a, ▶id: b, shard: pg, database: a}}]", "`id` is given twice, first in line 3"),
    (f"{TRACKS}{SHARDS}tenants: [{{id: ▶!custom a, shard: pg, database: a}}]", "tag is not known"),
    (f"{TRACKS}{SHARDS}{TENANTS}strategies: {{▶[a]: b}}", "a key must be text"),
    (f"{TRACKS}{SHARDS}tenants: [{{<<: ▶a, id: a, shard: pg, database: a}}]", "needs a mapping"),
]

TRACK = [
    ("tracks: {app: ▶{goal: head}}", "`script_location` is missing"),
    ("tracks: {app: {script_location: ▶nowhere}}", "there is no folder 'nowhere'"),
    ("tracks: {app: {script_location: ▶'no_such_package_here:alembic'}}", "cannot be imported (ModuleNotFoundError)"),
    ("tracks: {app: {script_location: ▶'json:nowhere'}}", "there is no folder 'json:nowhere' in that package"),
    ("tracks: {app: {config: ▶nowhere.ini}}", "there is no file 'nowhere.ini'"),
    ("tracks: {app: {script_location: alembic, ▶config: tenants.yaml}}", "not both"),
    ("tracks: {app: {script_location: alembic, ▶section: x}}", "`section` is a section of `config`"),
    ("tracks: {app: {script_location: ▶'${MISSING}'}}", "the environment variable MISSING is not set"),
    ("tracks: {app: {script_location: alembic, isolation: ▶fiber}}", "this must be 'thread' or 'process'"),
    ("tracks: {app: {script_location: alembic, goal: ▶''}}", "must not be empty"),
    ("tracks: {app: {script_location: alembic, goal: ▶'${GOAL}'}}", "references work in"),
    ("tracks: {app: {script_location: alembic, goal: ▶[a]}}", "this must be text, not a list"),
    ("tracks: {app: {script_location: alembic, goal: ▶null}}", 'the text "null" needs quotes'),
    ("tracks: {app: {script_location: alembic, ▶vresion_table: v}}", "did you mean 'version_table'?"),
    ("tracks: {app: {script_location: alembic, version_table: ▶'{tennant}'}}", "unknown placeholder {tennant}"),
    ("tracks: {app: {script_location: alembic, version_table: ▶'{tenant!r}'}}", "unknown placeholder"),
    ("tracks: {app: {script_location: alembic, version_table: ▶'v{'}}", "a brace has no partner"),
    ("tracks: {app: {script_location: alembic, ▶environment: {A: b}}}", "needs `isolation: process`"),
    (
        "tracks: {app: {script_location: alembic, isolation: process, environment: {A: ▶'{uri}'}}}",
        "unknown placeholder: what can be filled in here is {url}",
    ),
    (
        "tracks: {app: {script_location: alembic, isolation: process, environment: {A: ▶'${NOPE}'}}}",
        "the environment variable NOPE is not set",
    ),
    (
        "tracks: {app: {script_location: alembic, isolation: process, environment: {▶A=B: c}}}",
        "cannot be the name of an environment variable",
    ),
    ("tracks: {app: ▶alembic}", "this must be a mapping, not text"),
    (
        f"tracks: {{app: {{script_location: alembic, version_table: ▶{LONG}}}}}",
        f"becomes '{LONG}', which is longer than 63 bytes",
    ),
]

SHARD = [
    ("shards: {pg: ▶{max_concurrent: 3}}", "`url` is missing"),
    ("shards: {pg: {url: ▶'${MISSING}'}}", "the environment variable MISSING is not set"),
    ("shards: {pg: {url: ▶'postgresql://u:${file:no/such}@h'}}", "the secret file 'no/such' cannot be read (No such"),
    ("shards: {pg: {url: ▶'postgresql://u:${1}@h'}}", "this reference cannot be read"),
    ("shards: {pg: {url: ▶'postgresql://u:${P@h'}}", "a `${` is not closed"),
    ("shards: {pg: {url: ▶'postgres://h'}}", "use postgresql:// instead of postgres://"),
    ("shards: {pg: {url: ▶'postgrsql://h'}}", "unknown dialect 'postgrsql'; did you mean 'postgresql'?"),
    ("shards: {pg: {url: ▶'oracle://h'}}", "unknown dialect 'oracle'; known are mariadb, mysql, postgresql, sqlite"),
    ("shards: {pg: {url: ▶'postgresql://'}}", "the URL has no host"),
    ("shards: {pg: {url: ▶'postgresql://h:0'}}", "port must be a number from 1 to 65535"),
    ("shards: {pg: {url: ▶'postgresql://h/app'}}", "names a database"),
    ("shards: {pg: {url: ▶'postgresql://u:a#b@h'}}", "holds a plain #"),
    ("shards: {pg: {url: ▶'postgresql://h?password=x'}}", "the password belongs before the host"),
    ("shards: {pg: {url: ▶'mysql://h/app'}}", "names a database"),
    ("shards: {pg: {url: ▶'mysql://h/postgres'}}", "names a database"),
    ("shards: {pg: {url: ▶'mysql://'}}", "the URL has no host"),
    ("shards: {pg: {url: ▶'mysql://u@/?host=x'}}", "the URL has no host"),
    ("shards: {pg: {url: ▶'mysql://h?unix_socket=/run/x'}}", "`unix_socket` does not belong after the ?"),
    ("shards: {pg: {url: 'mysql://h'}, b: {url: ▶'mariadb://H:3306'}}", "the shards 'pg' (line 2) and 'b'"),
    ("shards: {pg: {url: ▶'sqlite://'}}", "an SQLite shard is a folder"),
    ("shards: {pg: {url: ▶'sqlite:///:memory:'}}", "an SQLite shard is a folder"),
    ("shards: {pg: {url: ▶nonsense}}", "this is not a URL"),
    ("shards: {pg: {url: 'postgresql://h', max_concurrent: ▶0}}", "this must be at least 1"),
    ("shards: {pg: {url: 'postgresql://h', max_concurrent: ▶many}}", "this must be a whole number"),
    ("shards: {pg: {url: 'postgresql://h', max_per_database: ▶0}}", "this must be at least 1"),
    ("shards: {pg: {url: 'postgresql://h', reserve_connections: ▶-1}}", "this must be at least 0"),
    ("shards: {pg: {url: 'postgresql://h', max_concurrent: ▶{a: b}}}", "a whole number, not a mapping"),
    ("shards: {pg: {url: 'postgresql://h', labels: ▶[a]}}", "this must be a mapping, not a list"),
    ("shards: {pg: {url: 'postgresql://h', labels: {▶a b: c}}}", "a label's key"),
    ("shards: {pg: {url: 'postgresql://h', labels: {▶tenant: c}}}", "built-in key"),
    ("shards: {pg: {url: 'postgresql://h'}, b: {url: ▶'postgresql://H:5432'}}", "the shards 'pg' (line 2) and 'b'"),
    ("shards: {pg: {url: 'sqlite:///a'}, b: {url: ▶'sqlite:///x/../a'}}", "the shards 'pg' (line 2) and 'b'"),
]

TENANT = [
    ("tenants: [▶{id: a}]", "`shard` and `database` are missing"),
    ("tenants: [▶{id: a, shard: pg}]", "`database` is missing"),
    ("tenants: [▶{shard: pg, database: a}]", "`id` is missing"),
    ("tenants: [▶acme]", "this must be a mapping, not text"),
    ("tenants: [{id: ▶'', shard: pg, database: a}]", "must not be empty"),
    ('tenants: [{id: ▶"a\\tb", shard: pg, database: a}]', "control characters"),
    (f"tenants: [{{id: ▶{'x' * 201}, shard: pg, database: a}}]", "longer than 200 characters"),
    ("tenants: [{id: ▶'${A}', shard: pg, database: a}]", "references work in"),
    ("tenants: [{id: a, shard: ▶pgg, database: a}]", "unknown shard 'pgg'; did you mean 'pg'?"),
    ("tenants: [{id: a, shard: ▶zzz, database: a}]", "unknown shard 'zzz'; known are pg"),
    ("tenants: [{id: a, shard: pg, database: a, track: ▶ap}]", "unknown track 'ap'; did you mean 'app'?"),
    ("tenants: [{id: a, databases: {▶ap: {shard: pg, database: a}}}]", "unknown track 'ap'"),
    ("tenants: [{id: a, databases: {app: {shard: ▶pgg, database: a}}}]", "unknown shard 'pgg'"),
    ("tenants: [{id: a, databases: {app: ▶{shard: pg}}}]", "`database` is missing"),
    ("tenants: [{id: a, databases: {app: {shard: pg, database: a, ▶sharrd: x}}}]", "did you mean 'shard'?"),
    ("tenants: [{id: a, databases: ▶{}}]", "name at least one track"),
    ("tenants: [{id: a, ▶shard: pg, databases: {app: {shard: pg, database: a}}}]", "belongs into the entries"),
    (
        "tenants:\n- {id: 7, shard: pg, database: a}\n- {id: ▶7, shard: pg, database: b}",
        "'7' is listed twice, first in",
    ),
    (
        "tenants:\n- {id: a, shard: pg, database: x}\n- {id: b, shard: pg, database: ▶x}",
        "b/app would share its version table with a/app (line 3)",
    ),
    (f"tenants: [{{id: a, shard: pg, database: ▶{LONG}}}]", "must not be longer than 63 bytes"),
]

STRATEGY = [
    ("strategies: {▶'': {max_concurrent: 1}}", "must not be empty"),
    ("strategies: {s: {max_concurrent: ▶0}}", "this must be at least 1"),
    ("strategies: {s: {on_failure: ▶{then: abort}}}", "`max` is missing, or `consecutive`, or `same_signature`"),
    ("strategies: {s: {order: [tier, ▶-a b]}}", "a label's key must begin with"),
    ("strategies: {s: {waves: [▶{name: a}, {name: b}]}}", "needs `select`, `count` or `percent`"),
    ("strategies: {s: {waves: [▶{name: a, count: 1, percent: 5}, {name: b}]}}", "`count` or a `percent`, not both"),
    ("strategies: {s: {waves: [▶{name: a, count: 1}]}}", "the last wave must take all targets that are left"),
    ("strategies: {s: {waves: [▶{name: a, approval: true}]}}", "write `approval: true` at the wave before it"),
    ("strategies: {s: {waves: [{name: a, count: 1}, {name: ▶a}]}}", "there is a wave 'a' already (line"),
    ("strategies: {s: {waves: [{name: a, select: ▶'x in'}, {name: b}]}}", "a list of values in parentheses"),
    ("strategies: {s: {waves: [{name: a, count: 1, soak: ▶soon}, {name: b}]}}", "a duration such as 30s"),
    ("strategies: {s: {waves: [{name: a, percent: ▶0}, {name: b}]}}", "this must be more than 0"),
    ("strategies: {s: {on_failure: {max: ▶101%}}}", "a percentage such as 2%, of at most 100%"),
    ("strategies: {s: {on_failure: {max: ▶-1}}}", "a count such as 2"),
    ("strategies: {s: {on_failure: {max: 1, then: ▶panic}}}", "this must be 'pause', 'abort' or 'rollback'"),
    ("strategies: {s: {on_failure: {max: 1, ▶than: abort}}}", "did you mean 'then'?"),
]

PLACES = [
    ("tenants: [{id: a, shard: pg, database: a, schema: ▶pg_toast}]", "the server's own"),
    ("tenants: [{id: a, shard: pg, database: a, ▶create: true}]", "`create` makes a schema, and no `schema`"),
    (f"tenants: [{{id: a, shard: pg, database: a, schema: ▶{'ü' * 32}}}]", "not be longer than 63 bytes"),
    ("tenants: [{id: a, databases: {app: {shard: pg, database: a}}, ▶schema: s}]", "`schema` belongs into"),
    ("tracks: {app: {script_location: alembic, unprovisioned: ▶ignore}}", "'migrate', 'skip' or 'fail'"),
]

GROUP = "'(?P<tenant>.+)'"
DISCOVER = [
    ("discover: [▶{shard: pg}]", "one of `databases`, `schemas`, `query`, `files` or `url` is missing"),
    (f"discover: [{{shard: pg, databases: {GROUP}, ▶schemas: {GROUP}}}]", "are two questions: make them two entries"),
    ("discover: [{shard: pg, databases: ▶'t_('}]", "this is not a regular expression: missing )"),
    ("discover: [{shard: pg, databases: ▶t_.+}]", 'no group `tenant`: write it like "tenant_(?P<tenant>.+)"'),
    ("discover: [{shard: pg, databases: ▶'(?P<tenant>.+)_(?P<tier>.+)'}]", "unknown group 'tier'"),
    (f"discover: [{{shard: pg, ▶database: app, databases: {GROUP}}}]", "`database` goes with `schemas` or `query`"),
    (f"discover: [▶{{shard: pg, schemas: {GROUP}}}]", "`database` is missing: `schemas` is asked of one database"),
    ("discover: [{shard: pg, database: d, query: ▶' '}]", "this must not be empty"),
    ("discover: [{shard: pg, database: d, query: ▶'SELECT ${X}'}]", "references work in `url`, `token`"),
    ("discover: [▶{shard: pg, query: SELECT 1}]", "`database` is missing: `query` is asked of one database"),
    ("discover: [{shard: pg, ▶files: '*.db'}]", "`files` cannot be asked of postgresql: use `databases` or `schemas`"),
    (f"discover: [▶{{databases: {GROUP}}}]", "`shard` is missing"),
    (f"discover: [{{shard: ▶gp, databases: {GROUP}}}]", "unknown shard 'gp'"),
    (f"discover: [{{shard: pg, databases: {GROUP}, track: ▶ap}}]", "unknown track 'ap'; did you mean 'app'?"),
    ("discover: [{url: ▶'ftp://h/x'}]", "this is not the URL of an endpoint: write https://host/path"),
    ("discover: [{url: ▶'https://'}]", "this is not the URL of an endpoint"),
    ("discover: [{url: ▶'https://h:x/'}]", "this is not the URL of an endpoint"),
    ("discover: [{url: ▶'https://u:hunter2@h/x'}]", "give a `token` by reference"),
    ("discover: [{url: ▶'https://${MISSING}/x'}]", "the environment variable MISSING is not set"),
    ("discover: [{url: 'https://h/x', token: ▶hunter2}]", "write ${NAME} or ${file:/path}"),
    ("discover: [{url: 'https://h/x', token: ▶'${MISSING}'}]", "the environment variable MISSING is not set"),
    ("discover: [{url: 'https://h/x', token: ▶'${NONE:-}'}]", "this does not stand for a token"),
    (f"discover: [{{shard: pg, databases: {GROUP}, ▶token: '${{A:-b}}'}}]", "`token` goes with `url`"),
    (f"discover: [{{shard: pg, databases: {GROUP}, ▶pattern: {GROUP}}}]", "`pattern` goes with `files`"),
    (f"discover: [{{shard: pg, databases: {GROUP}, ▶create: true}}]", "`create` goes with `query` or `url`"),
    (f"discover: [{{shard: pg, databases: {GROUP}, refresh: ▶soon}}]", "a duration of at least 1s, such as 30s, 5m or"),
    (f"discover: [{{shard: pg, databases: {GROUP}, refresh: ▶0.5}}]", "a duration of at least 1s"),
    (f"discover: [{{shard: pg, databases: {GROUP}, exclude: ▶x}}]", "this must be a list, not text"),
    (f"discover: [{{shard: pg, databases: {GROUP}, ▶exclud: [x]}}]", "did you mean 'exclude'?"),
    (f"discover: [{{shard: pg, databases: {GROUP}, name: ▶file}}]", "'file' is the name of the file's own tenants"),
    (
        f"discover: [{{shard: pg, databases: {GROUP}}}, ▶{{shard: pg, databases: {GROUP}}}]",
        "'pg/databases' is the name of an earlier entry: give another `name`",
    ),
]


def gate(check: str) -> str:
    """A strategy with one check after its first wave."""
    return f"strategies: {{s: {{waves: [{{name: a, count: 1, checks: [{check}]}}, {{name: b}}]}}}}"


SQL = "sql: SELECT true, shard: pg, database: d"
PROM = "promql: up, url: 'http://prom:9090', min: 1"
CHECK = [
    (gate("▶{name: c}"), "one of `sql`, `promql` or `http` is missing"),
    (gate("▶{sql: SELECT 1, on: tenants}"), "`name` is missing"),
    (gate(f"{{name: c, {SQL}, ▶http: 'http://h'}}"), "`sql` and `http` are two questions: make them two checks"),
    (gate("▶{name: c, sql: SELECT true}"), "`shard` and `database` must say where to ask; or write `on: tenants`"),
    (gate("▶{name: c, sql: SELECT true, shard: pg}"), "`database` must say where to ask"),
    (gate("{name: c, sql: SELECT true, shard: ▶gp, database: d}"), "unknown shard 'gp'; known are pg"),
    (gate("{name: c, sql: SELECT true, on: tenants, ▶shard: pg}"), "asks where the tenants are: leave out `shard`"),
    (gate("{name: c, sql: SELECT true, on: ▶everyone}"), "this must be 'tenants'"),
    (gate("{name: c, sql: SELECT true, on: tenants, track: ▶ap}"), "unknown track 'ap'; did you mean 'app'?"),
    (gate("{name: c, sql: SELECT true, on: tenants, sample: ▶0}"), "this must be at least 1"),
    (gate(f"{{name: c, {SQL}, ▶sample: 5}}"), "`sample` goes with `on: tenants`"),
    (gate("{name: c, sql: ▶'', on: tenants}"), "must not be empty"),
    (gate("{name: c, sql: ▶'SELECT ${X}', on: tenants}"), "references work in"),
    (gate(f"{{name: c, {SQL}, ▶status: 200}}"), "`status` goes with `http`, not with `sql`"),
    (gate(f"{{name: c, {SQL}, ▶token: '${{A:-b}}'}}"), "`token` goes with `promql` or `http`, not with `sql`"),
    (gate(f"{{name: c, {SQL}, ▶for: 5m}}"), "`for` goes with `promql`, not with `sql`"),
    (gate(f"{{name: c, {SQL}, min: ▶2, max: 1}}"), "nothing is at least this and at most `max`"),
    (gate(f"{{name: c, {SQL}, min: 2, ▶equals: 1}}"), "`equals` goes without `min` and `max`"),
    (gate(f"{{name: c, {SQL}, max: ▶nan}}"), "this must be a number"),
    (gate(f"{{name: c, {SQL}, max: ▶many}}"), "this must be a number"),
    (gate(f"{{name: c, {SQL}, every: ▶0}}"), "a duration of at least 1s"),
    (gate(f"{{name: c, {SQL}, ▶evry: 5s}}"), "did you mean 'every'?"),
    (gate(f"{{name: c, {SQL}}}, {{name: ▶c, {SQL}}}"), "this strategy has a check 'c' already (line"),
    (gate("▶{name: c, promql: up, min: 1}"), "`url` is missing: the Prometheus server to ask"),
    (gate("▶{name: c, promql: up, url: 'http://prom'}"), "`min` or `max` is missing: what may the query's samples be?"),
    (gate("{name: c, promql: up, min: 1, url: ▶prom}"), "this is not the URL of an endpoint"),
    (gate("{name: c, promql: up, min: 1, url: ▶'http://prom/api/v1/query'}"), "end the URL before /api/v1"),
    (gate("{name: c, promql: up, min: 1, url: ▶'http://u:p@prom'}"), "or `user` and `password`, by reference"),
    (gate(f"{{name: c, {PROM}, ▶equals: 1}}"), "`equals` goes with `sql`, not with `promql`"),
    (gate(f"{{name: c, {PROM}, empty: ▶yes}}"), "this must be 'pass' or 'fail'"),
    (gate(f"{{name: c, {PROM}, ▶user: u}}"), "`user` goes with `password`, which is missing"),
    (gate(f"{{name: c, {PROM}, ▶password: '${{A:-b}}'}}"), "`password` goes with `user`, which is missing"),
    (gate(f"{{name: c, {PROM}, user: u, password: ▶hunter2}}"), "write ${NAME} or ${file:/path}"),
    (gate(f"{{name: c, {PROM}, user: ▶'a:b', password: '${{A:-b}}'}}"), "must not hold a colon"),
    (
        gate(f"{{name: c, {PROM}, ▶token: '${{A:-b}}', user: u, password: '${{A:-b}}'}}"),
        "two ways to be let in: keep one",
    ),
    (gate("{name: c, http: ▶'${MISSING}/x'}"), "the environment variable MISSING is not set"),
    (gate("{name: c, http: ▶ftp://h}"), "this is not the URL of an endpoint"),
    (gate("{name: c, http: 'http://h', status: ▶99}"), "this must be at least 100"),
    (gate("{name: c, http: 'http://h', token: ▶hunter2}"), "write ${NAME} or ${file:/path}"),
    (gate("{name: c, http: 'http://h', token: ▶''}"), "write ${NAME} or ${file:/path}"),
    ("strategies: {s: {▶checks: []}}", "unknown key 'checks'"),
]

ON_MYSQL = [
    (f"[{{id: a, shard: my, database: ▶{'ü' * 65}}}]", "a database's name must not be longer than 64 characters"),
    ("[{id: a, shard: my, database: a, ▶schema: s}]", "mysql has no schemas within a database: name a database"),
    (f"[{{id: {'é' * 63}, shard: my, database: ▶x}}]", "which is longer than 64 characters: shorten it"),
]


def schedule(rest: str) -> str:
    return f"schedules: {{n: {{{rest}}}}}"


def window(rest: str) -> str:
    return f"windows: {{w: {{{rest}}}}}"


TIMES = [
    ("schedules: {n: ▶{timezone: UTC}}", "`cron` is missing"),
    (schedule("cron: ▶'0 0 31 2 *'"), "the day-of-month cannot be read, or never comes"),
    (schedule("cron: ▶'0 2 * *'"), "this must have five fields"),
    (schedule("cron: ▶'@often'"), "there are @hourly"),
    (schedule("cron: '@daily', timezone: ▶Europe/Belrin"), "did you mean 'Europe/Berlin'"),
    (schedule("cron: '@daily', track: ▶ap"), "unknown track 'ap'; did you mean 'app'?"),
    (schedule("cron: '@daily', strategy: ▶canary"), "unknown strategy 'canary'; known are default"),
    (schedule("cron: '@daily', select: ▶'tier='"), "a value is expected"),
    (schedule("cron: '@daily', direction: ▶downgrade"), "`to` is missing: a downgrade has no goal of its own"),
    (schedule("cron: '@daily', direction: ▶sideways"), "this must be 'upgrade', 'downgrade' or 'stamp'"),
    (schedule("cron: '@daily', missed: ▶sometimes"), "this must be 'skip' or 'run_once'"),
    (schedule("cron: '@daily', missed_within: ▶40d"), "this must be at most 744h"),
    (schedule("cron: '@hourly', jitter: ▶1h"), "this must be less than the 3600 s between two runs"),
    (schedule("cron: '@daily', jitter: ▶7h"), "this must be at most 6h"),
    (schedule("cron: '@daily', ▶every: 5m"), "unknown key 'every'"),
    ("windows: {w: ▶{timezone: UTC}}", "`open` is missing, or `blackouts`"),
    (window("open: [{from: '22:00', to: ▶'25:00'}]"), "this must be a time of the day such as 22:00"),
    (window("open: [{from: ▶'06:00', to: '06:00'}]"), 'a whole day is from "00:00" to "24:00"'),
    (window("open: [▶{from: '06:00'}]"), "`to` is missing"),
    (window("open: [{days: ▶mo-fr, from: '06:00', to: '07:00'}]"), "this must be days such as mon-fri"),
    (window("select: ▶'shard=(', open: [{from: '06:00', to: '07:00'}]"), "a value is expected"),
    (window("timezone: ▶Mars, blackouts: [{from: 2026-12-24, to: 2026-12-26}]"), "there is no time zone 'Mars'"),
    (window("blackouts: [{from: 2026-12-24, to: ▶2026-12-23}]"), "this must come after `from`"),
    (window("blackouts: [{from: ▶24.12.2026, to: 2026-12-26}]"), "this must be a day such as 2026-12-24"),
    (window("blackouts: [{from: ▶'2026-12-24T18:00Z', to: 2026-12-26}]"), "or a local time such as"),
    (window("expect: ▶2h, open: [{from: '01:00', to: '02:30'}]"), "it is never open for so long, but for 90 min"),
]


def whole(text: str) -> str:
    """Put the sections that `text` does not give around it, such that line 1 is never the one in question."""
    clean = text.replace("▶", "")
    first = "" if clean.startswith("tracks:") else TRACKS
    rest = [section for name, section in (("shards:", SHARDS), ("tenants:", TENANTS)) if not clean.startswith(name)]
    return (first or "---\n") + text + "\n" + "".join(rest)


@pytest.mark.parametrize(("text", "message"), SYNTAX + SECTIONS, ids=str)
def test_a_file_that_is_wrong_as_a_whole_is_told_where(tmp_path: Path, text: str, message: str) -> None:
    clean, places = marked(text)
    error = refused(tmp_path, clean)
    assert message in error.message
    assert places_of(error.mistakes) == places


@pytest.mark.parametrize(
    ("text", "message"), TRACK + SHARD + TENANT + PLACES + DISCOVER + STRATEGY + CHECK + TIMES, ids=str
)
def test_an_entry_that_is_wrong_is_told_where(tmp_path: Path, text: str, message: str) -> None:
    clean, places = marked(whole(text))
    error = refused(tmp_path, clean)
    assert message in error.message
    assert places_of(error.mistakes) == places


def test_a_schema_needs_a_database_that_has_schemas(tmp_path: Path) -> None:
    text, places = marked(
        f"{TRACKS}shards: {{f: {{url: 'sqlite:///.'}}}}\ntenants: [{{id: a, shard: f, database: a, ▶schema: s}}]"
    )
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == places
    assert "sqlite has no schemas within a database: name a database" in error.message


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            f"{{shard: f, ▶schemas: {GROUP}, database: a.db}}",
            "`schemas` cannot be asked of sqlite: use `query` or `files`",
        ),
        (f"{{shard: f, ▶databases: {GROUP}}}", "`databases` cannot be asked of sqlite"),
        ("{shard: f, files: ▶'../*.db'}", 'a glob of files in the shard\'s folder, such as "*.db"'),
        ("{shard: f, files: ▶'/var/*.db'}", "a glob of files in the shard's folder"),
        ("{shard: f, files: '*.db', pattern: ▶'.+'}", "the pattern has no group `tenant`"),
        ("{shard: f, query: SELECT 1, database: ▶../control.db}", "this must be a file in the shard's folder"),
    ],
)
def test_files_are_asked_for_otherwise_than_servers(tmp_path: Path, entry: str, message: str) -> None:
    text, places = marked(f"{TRACKS}shards: {{f: {{url: 'sqlite:///.'}}}}\ntenants: []\ndiscover: [{entry}]")
    error = refused(tmp_path, text)
    assert message in error.message
    assert places_of(error.mistakes) == places


@pytest.mark.parametrize(
    ("url", "check", "message"),
    [
        ("sqlite:///.", "database: ▶../c.db", "this must be a file in the shard's folder"),
        ("sqlite:///.", "database: c.db, ▶schema: s", "sqlite has no schemas within a database"),
        ("mysql://h", "database: c, ▶schema: s", "mysql has no schemas within a database"),
    ],
)
def test_a_check_asks_a_place_that_its_shard_can_have(tmp_path: Path, url: str, check: str, message: str) -> None:
    asked = gate(f"{{name: c, sql: SELECT 1, shard: f, {check}}}")
    text, places = marked(f"{TRACKS}shards: {{f: {{url: '{url}'}}}}\ntenants: []\n{asked}")
    error = refused(tmp_path, text)
    assert message in error.message
    assert places_of(error.mistakes) == places


def test_what_is_found_by_name_needs_a_track(tmp_path: Path) -> None:
    text, places = marked(f"{TWO_TRACKS}{SHARDS}tenants: []\ndiscover: [▶{{shard: pg, databases: {GROUP}}}]")
    error = refused(tmp_path, text)
    assert "there are several tracks (app, dwh): say which with `track:`" in error.message
    assert places_of(error.mistakes) == places
    loaded(tmp_path, f"{TWO_TRACKS}{SHARDS}tenants: []\ndiscover: [{{shard: pg, database: a, query: SELECT 1}}]")


@pytest.mark.parametrize(("tenants", "message"), ON_MYSQL, ids=str)
def test_a_place_that_mysql_cannot_have_is_told_where(tmp_path: Path, tenants: str, message: str) -> None:
    tracks = "tracks: {app: {script_location: alembic, version_table: 'v_{tenant}'}}\n"
    text, places = marked(f"{tracks}shards: {{my: {{url: 'mysql://h'}}}}\ntenants: {tenants}")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == places
    assert message in error.message


def test_a_database_for_the_version_tables_of_mysql_is_shared_by_its_tenants(tmp_path: Path) -> None:
    tracks = "tracks: {app: {script_location: alembic, version_table_schema: versions}}\n"
    tenants = "tenants: [{id: a, shard: my, database: a}, {id: b, shard: my, database: ▶b}]"
    text, places = marked(f"{tracks}shards: {{my: {{url: 'mariadb://h'}}}}\n{tenants}")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == places
    assert "b/app would share its version table with a/app" in error.message


def test_several_tracks_name_both_remedies(tmp_path: Path) -> None:
    text, places = marked(f"{TWO_TRACKS}{SHARDS}tenants: [▶{{id: a, shard: pg, database: a}}]")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == places
    assert "(app, dwh): say which with `track:`, or list them under `databases:`" in error.message


def test_two_tracks_in_one_database_need_two_version_tables(tmp_path: Path) -> None:
    tracks = "tracks: {a: {script_location: alembic}, b: {script_location: alembic, version_table_schema: public}}\n"
    places = "databases: {a: {shard: pg, database: x}, b: {shard: pg, database: ▶x}}"
    text, expected = marked(f"{tracks}{SHARDS}tenants: [{{id: t, {places}}}]")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == expected
    assert "t/b would share its version table with t/a" in error.message


def test_a_resolved_version_table_that_is_too_long_names_the_tenant(tmp_path: Path) -> None:
    tracks = "tracks: {app: {script_location: alembic, version_table: 'v_{tenant}'}}\n"
    tenants = f"tenants: [{{id: {'é' * 31}, shard: pg, database: ▶a}}]"
    text, expected = marked(tracks + SHARDS + tenants)
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == expected
    assert "longer than 63 bytes" in error.message


@pytest.mark.parametrize("name", ["/etc/x.db", "../x.db", "a/../../x.db", "..", "."])
def test_an_sqlite_database_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    shards = 'shards: {lite: {url: "sqlite:///data"}}\n'
    text, expected = marked(f"{TRACKS}{shards}tenants: [{{id: a, shard: lite, database: ▶{name}}}]")
    error = refused(tmp_path, text)
    assert places_of(error.mistakes) == expected


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text, expected = marked(
        "▶tracs: {}\n"
        "tracks: {app: {script_location: ▶nowhere, ▶gaol: x}}\n"
        "shards:\n"
        "  pg: {url: ▶'postgresql://u:${A}@${B}', max_concurrent: ▶x}\n"
        "tenants:\n"
        "  - {id: a, shard: ▶pq, database: a, labels: {b: ▶}}\n"
        "  - {id: ▶a, shard: pg, database: a}\n"
    )
    error = refused(tmp_path, text, {})
    assert list(dict.fromkeys(places_of(error.mistakes))) == expected
    assert "variable A is" in error.message
    assert "variable B is" in error.message


def test_one_missing_section_does_not_make_a_mistake_of_every_tenant(tmp_path: Path) -> None:
    error = refused(tmp_path, "tracks: {}\ntenants: [{id: a, shard: x, database: a}]")
    assert [mistake.line for mistake in error.mistakes] == [1, 1]


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="there is no such file: set ORCHESTRATOR_CONFIG"):
        manifest.load(tmp_path / "nowhere.yaml", {})
    with pytest.raises(RegistryError, match="cannot be read: Is a directory"):
        manifest.load(tmp_path, {})


@pytest.mark.parametrize(
    ("content", "place"), [(b"\xff\xfe\x00", (1, 1)), (b"a: b\nc: \xe9\n", (2, 4)), ("é: ".encode() + b"\x80", (1, 4))]
)
def test_bytes_that_are_no_text_are_told_where(tmp_path: Path, content: bytes, place: tuple[int, int]) -> None:
    path = write(tmp_path, "")
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="not UTF-8") as caught:
        manifest.load(path, {})
    assert places_of(caught.value.mistakes) == [place]


def test_aliases_that_unfold_without_end_are_refused(tmp_path: Path) -> None:
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    assert "unfold" in refused(tmp_path, f"a0: &a0 [x]\n{levels}\n").message


def test_empty_sections_leave_nothing_out(tmp_path: Path) -> None:
    loaded(
        tmp_path,
        f"{TRACKS}{SHARDS}{TENANTS}discover: []\nschedules:\nwindows: {{}}\nstrategies: {{s: {{waves: []}}}}\n",
    )


def test_each_section_has_a_form() -> None:
    assert sections.SECTIONS.keys() == sections.FileForm.model_fields.keys()
