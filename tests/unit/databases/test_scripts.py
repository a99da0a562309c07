"""What PostgreSQL is sent around the statements of revisions, to the letter."""

from __future__ import annotations

from orchestrator.databases.scripts import VersionTable, messages
from orchestrator.plan.compiled import VERSION_SCHEMA, Begun, Move, Script
from orchestrator.sessions import Timeouts
from tests.unit.databases.test_singly import CREATE, FIRST

CREATE_IN_SCHEMA = CREATE.replace("CREATE TABLE ", f"CREATE TABLE {VERSION_SCHEMA}.")
TABLE, TIMEOUTS = VersionTable('o"dd', "s p"), Timeouts("2s", "1h", "24h")
HELD = f"""SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_locks \
WHERE locktype = 'advisory' AND granted AND pid = pg_catalog.pg_backend_pid()
    AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    AND classid::bigint = 1869767528 AND objid::bigint = {TABLE.lock_key} AND objsubid = 2) \
THEN 0 ELSE ('the lock of the target is not held by ' || pg_catalog.pg_backend_pid())::int END;"""


def holds(heads: str) -> str:
    return f"""SELECT CASE WHEN heads = '{heads}' THEN 0 ELSE ('the version table holds: ' || heads)::int END \
FROM (SELECT coalesce(pg_catalog.string_agg(version_num, ',' ORDER BY version_num COLLATE "C"), '') AS heads \
FROM (SELECT version_num FROM "s p"."o""dd" FOR UPDATE) AS version_rows) AS version_heads;"""


def texts(*scripts: Script) -> list[str]:
    return [message.text for message in messages(scripts, TABLE, CREATE_IN_SCHEMA, TIMEOUTS)]


def test_a_transaction_is_one_message() -> None:
    items = (Begun("b"), "ALTER TABLE t ADD x int", Move(("a",), ("b",)), Begun("c"), "SELECT 1;", Move(("b",), ("c",)))
    assert texts(Script(True, ("a",), ("c",), items, revisions=("b", "c"))) == [
        "\n".join(
            [
                "BEGIN;",
                holds("a"),
                "-- revision b",
                "ALTER TABLE t ADD x int;",
                """UPDATE "s p"."o""dd" SET version_num='b' WHERE version_num = 'a';""",
                "-- revision c",
                "SELECT 1;",
                """UPDATE "s p"."o""dd" SET version_num='c' WHERE version_num = 'b';""",
                holds("c"),
                HELD,
                "COMMIT;",
            ]
        )
    ]


def test_the_first_makes_the_version_table() -> None:
    (text,) = texts(FIRST)
    assert text.split("\n-- revision a\n")[0] == (
        'BEGIN;\nCREATE TABLE "s p"."o""dd" (\n\tversion_num VARCHAR(32) NOT NULL, \n'
        '\tCONSTRAINT "o""dd_pkc" PRIMARY KEY (version_num)\n);'
    )


def test_a_statement_outside_of_transactions_goes_alone_and_each_transaction_proves_the_lock() -> None:
    items = (Begun("b"), "VACUUM t", Move(("a",), ("b",)))
    assert texts(Script(False, ("a",), ("b",), items, revisions=("b",))) == [
        holds("a"),
        "VACUUM t;",
        "\n".join(
            [
                "BEGIN;",
                """UPDATE "s p"."o""dd" SET version_num='b' WHERE version_num = 'a';""",
                holds("b"),
                HELD,
                "COMMIT;",
            ]
        ),
        f"{holds('b')}\n{HELD}",
    ]
