"""What makes two schemas differ, and what does not, on real databases of each kind."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.backfill.naming import checkpoints_of
from orchestrator.databases import catalogs
from orchestrator.databases.mysql import MySQL
from orchestrator.errors import TargetLockedError, TargetUnreachableError
from orchestrator.execute import classify
from tests import engine, mariadb
from tests.integration.drift.places import AT_HEAD, VERSION, Fleet
from tests.servers import unique_names

pytestmark = pytest.mark.anyio

KINDS = ["postgresql", "maria", "sqlite"]
ORDERS = """CREATE TABLE orders (id integer NOT NULL PRIMARY KEY, note varchar(20) DEFAULT 'none', total integer,
    CONSTRAINT ck_total CHECK (total >= 0), CONSTRAINT uq_note UNIQUE (note))"""
ITEMS = """CREATE TABLE items (id integer NOT NULL PRIMARY KEY, order_id integer,
    CONSTRAINT fk_order FOREIGN KEY (order_id) REFERENCES orders (id))"""
INDEX = "CREATE INDEX ix_total ON orders (total, id)"
VIEW = "CREATE VIEW totals AS SELECT id, total FROM orders"
SCHEMA = (ORDERS, ITEMS, INDEX, VIEW, VERSION, AT_HEAD)


async def made(fleet: Fleet) -> tuple[str, str]:
    """Two databases with the schema; their names."""
    one, other = fleet.names
    for name in (one, other):
        await fleet.execute(name, *SCHEMA)
    return one, other


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_databases_made_in_another_order_are_equal(fleet: Fleet) -> None:
    one, other = fleet.names
    await fleet.execute(one, *SCHEMA)
    await fleet.execute(
        other,
        VERSION,
        AT_HEAD,
        "CREATE TABLE doomed (id integer)",
        ORDERS,
        INDEX,
        VIEW,
        ITEMS,
        "DROP TABLE doomed",
        "INSERT INTO orders (id, total) VALUES (7, 3)",
    )
    assert await fleet.differing(one, other) == []
    assert await fleet.are_equal(one, other)
    assert (await fleet.read(one)).heads == ("head",)


ADDED = "ALTER TABLE orders ADD COLUMN extra integer"
CHANGES = [
    ("postgresql", [ADDED], "+ column | public.orders | - | extra"),
    ("maria", [ADDED], "+ column | orders | extra | int"),
    ("sqlite", [ADDED], "+ column | orders | extra integer"),
    ("postgresql", ["DROP INDEX ix_total"], "- index | CREATE INDEX ix_total"),
    ("maria", ["DROP INDEX ix_total ON orders"], "- index | orders | ix_total"),
    ("sqlite", ["DROP INDEX ix_total"], "- index | ix_total"),
    ("postgresql", ["ALTER TABLE orders ALTER note SET DEFAULT 'some'"], "+ column | public.orders | - | note"),
    ("maria", ["ALTER TABLE orders ALTER note SET DEFAULT 'some'"], "+ column | orders | note"),
    ("postgresql", ["ALTER TABLE orders RENAME CONSTRAINT ck_total TO ck"], "+ constraint | public.orders | ck | c"),
    (
        "maria",
        ["ALTER TABLE orders DROP CONSTRAINT ck_total, ADD CONSTRAINT ck CHECK (total >= 0)"],
        "+ check | orders | ck |",
    ),
    (
        "postgresql",
        ['ALTER TABLE orders ALTER note TYPE varchar(20) COLLATE "C"'],
        "+ column | public.orders | - | note",
    ),
    (
        "maria",
        ["ALTER TABLE orders MODIFY note varchar(20) COLLATE utf8mb4_bin DEFAULT 'none'"],
        "+ column | orders | note",
    ),
    ("postgresql", ["CREATE VIEW mine AS SELECT 1 AS one"], "+ relation | public.mine | v"),
    ("maria", ["CREATE VIEW mine AS SELECT 1 AS one"], "+ view | mine"),
    ("sqlite", ["CREATE VIEW mine AS SELECT 1 AS one"], "+ view | mine"),
    ("postgresql", ["ALTER TABLE orders ALTER total SET NOT NULL"], "+ column | public.orders | - | total"),
    ("maria", ["ALTER TABLE items DROP FOREIGN KEY fk_order"], "- foreign key | items | fk_order"),
    ("postgresql", ["ALTER TABLE items DROP CONSTRAINT fk_order"], "- constraint | public.items | fk_order"),
    (
        "postgresql",
        ["REVOKE ALL ON orders FROM PUBLIC", "GRANT SELECT ON orders TO PUBLIC"],
        "+ relation | public.orders",
    ),
    (
        "maria",
        ["CREATE TRIGGER watch BEFORE INSERT ON orders FOR EACH ROW SET NEW.note = 'x'"],
        "+ trigger | orders | watch",
    ),
    (
        "sqlite",
        ["CREATE TRIGGER watch AFTER INSERT ON orders BEGIN DELETE FROM items; END"],
        "+ trigger | watch",
    ),
    ("maria", ["CREATE FUNCTION one() RETURNS integer DETERMINISTIC RETURN 1"], "+ routine | one | FUNCTION"),
    (
        "postgresql",
        ["CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'"],
        "+ function | CREATE OR REPLACE",
    ),
    ("maria", ["ALTER DATABASE DEFAULT COLLATE utf8mb4_bin"], "+ database | utf8mb4 | utf8mb4_bin"),
    (
        "postgresql",
        ["ALTER TABLE items DISABLE TRIGGER ALL"],
        '+ internal trigger | public.items | fk_order | "RI_FKey_check_ins" | D',
    ),
    (
        "postgresql",
        ["ALTER TABLE orders DISABLE TRIGGER ALL"],
        '+ internal trigger | public.orders | fk_order | "RI_FKey_noaction_del" | D',
    ),
    (
        "sqlite",
        ["DROP TABLE items", ITEMS.replace("fk_order", "fk")],
        "+ constraint | items | constraint fk foreign key",
    ),
    (
        "sqlite",
        ["DROP TABLE items", ITEMS.replace("order_id integer,", "order_id integer COLLATE nocase,")],
        "+ column | items | order_id integer collate nocase",
    ),
]


@pytest.mark.parametrize(("fleet", "statements", "told"), CHANGES, indirect=["fleet"])
async def test_a_change_by_hand_is_drift(fleet: Fleet, statements: list[str], told: str) -> None:
    one, other = await made(fleet)
    assert await fleet.are_equal(one, other)
    await fleet.execute(other, *statements)
    found = await fleet.differing(one, other)
    assert not await fleet.are_equal(one, other)
    assert [line for line in found if line.startswith(told)], found
    assert len(found) <= 4, found


GRANTED = """CREATE SEQUENCE s; CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA x;
    CREATE TYPE e AS ENUM ('a')"""


async def test_what_was_granted_and_revoked_again_is_no_drift(postgresql: Fleet) -> None:
    one, other = await made(postgresql)
    for name in (one, other):
        await postgresql.execute(name, GRANTED)
    for what in ("SELECT ON orders", "SELECT (note) ON orders", "USAGE ON SEQUENCE s", "USAGE ON SCHEMA x"):
        await postgresql.execute(other, f"GRANT {what} TO PUBLIC", f"REVOKE {what} FROM PUBLIC")
    for what in ("EXECUTE ON FUNCTION one()", "USAGE ON TYPE e"):
        await postgresql.execute(other, f"REVOKE {what} FROM PUBLIC", f"GRANT {what} TO PUBLIC")
    assert await postgresql.differing(one, other) == []
    assert await postgresql.are_equal(one, other)


@pytest.mark.parametrize(
    "statement",
    [
        "GRANT SELECT ON orders TO PUBLIC",
        "GRANT SELECT (note) ON orders TO PUBLIC",
        "GRANT USAGE ON SEQUENCE s TO PUBLIC",
        "GRANT USAGE ON SCHEMA x TO PUBLIC",
        "REVOKE EXECUTE ON FUNCTION one() FROM PUBLIC",
        "REVOKE USAGE ON TYPE e FROM PUBLIC",
        "REVOKE ALL ON orders FROM CURRENT_USER",
    ],
)
async def test_what_was_granted_or_revoked_is_drift(postgresql: Fleet, statement: str) -> None:
    one, other = await made(postgresql)
    for name in (one, other):
        await postgresql.execute(name, GRANTED)
    await postgresql.execute(other, statement)
    assert len(await postgresql.differing(one, other)) == 2


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_the_order_of_columns_does_not_count(fleet: Fleet) -> None:
    """A tenant that was made at the newest revision has them as its model says, others as they came over the years."""
    one, other = fleet.names
    await fleet.execute(one, "CREATE TABLE t (id integer, a integer)", "ALTER TABLE t ADD COLUMN b varchar(5)")
    await fleet.execute(other, "CREATE TABLE t (id integer, b varchar(5), a integer)")
    assert await fleet.differing(one, other) == []


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_what_we_keep_ourselves_does_not_count(fleet: Fleet) -> None:
    one, other = await made(fleet)
    table = checkpoints_of("alembic_version")
    await fleet.execute(
        other,
        f"CREATE TABLE {table} (revision varchar(255) NOT NULL PRIMARY KEY)",
        "DROP TABLE alembic_version",
        "CREATE TABLE v_t1 (version_num varchar(255))",
    )
    first, second = await fleet.read(one), await fleet.read(other, version_table="v_t1")
    left = {line.relation for line in second.lines if line not in first.lines}
    assert left == {table}  # another version table's: it is not ours here
    assert second.heads == ()
    await fleet.execute(other, f"DROP TABLE {table}", f"CREATE TABLE {checkpoints_of('v_t1')} (id integer)")
    assert (await fleet.read(other, version_table="v_t1")).lines == first.lines


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_a_target_that_is_being_migrated_is_not_judged(fleet: Fleet) -> None:
    one, _ = await made(fleet)
    async with fleet.kind.guard(fleet.place(one)):
        with pytest.raises(TargetLockedError, match="being migrated"):
            await fleet.read(one)
    assert (await fleet.read(one)).heads == ("head",)


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_a_database_without_a_version_table_claims_no_revision(fleet: Fleet) -> None:
    assert (await fleet.read(fleet.names[0])).heads is None


@pytest.mark.parametrize("fleet", KINDS, indirect=True)
async def test_looking_changes_nothing_and_sees_empty_databases_as_equal(fleet: Fleet) -> None:
    one, other = fleet.names
    before = await fleet.read(one)
    assert before.lines == (await fleet.read(other)).lines
    assert before == await fleet.read(one)


@pytest.mark.parametrize("fleet", ["maria"], indirect=True)
async def test_a_locked_table_does_not_make_drift(fleet: Fleet) -> None:
    """Where the server leaves out what it cannot read, the target is unread."""
    one, other = await made(fleet)
    async with mariadb.session(fleet.server, other) as opened, opened.cursor() as cursor:
        await cursor.execute("LOCK TABLES orders WRITE")
        try:
            second = await fleet.read(other)
        except TargetLockedError:
            return
        assert second.lines == (await fleet.read(one)).lines


async def test_a_view_whose_table_is_locked_makes_the_target_unread(postgresql: Fleet) -> None:
    one, _ = await made(postgresql)
    async with engine.locked_table(postgresql.server, one, "orders"):
        with pytest.raises(TargetLockedError, match="kept locked by another session"):
            await postgresql.read(one)
    assert (await postgresql.read(one)).heads == ("head",)


async def test_a_catalog_that_takes_too_long_is_no_sign_of_a_server_that_is_down(
    postgresql: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await made(postgresql)
    monkeypatch.setattr(catalogs, "LONGEST_SECONDS", 0.1)
    async with engine.locked_table(postgresql.server, one, "orders"):
        with pytest.raises(TargetUnreachableError, match=r"within 0\.1 s") as caught:
            await postgresql.read(one)
    assert not classify.is_server_down(caught.value)


@pytest.mark.parametrize("fleet", ["postgresql", "maria"], indirect=True)
async def test_a_catalog_has_a_bounded_time_whatever_the_server_does(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = await made(fleet)
    monkeypatch.setattr(catalogs, "LONGEST_SECONDS", 0.001)
    with pytest.raises(TargetUnreachableError) as caught:
        await fleet.read(one)
    assert caught.value.kind == "slow"


async def test_an_odd_name_of_a_database_does_not_show_in_its_views(mysql: Any) -> None:
    """MySQL writes the database's name into them."""
    [plain] = unique_names(1, "plain")
    odd = f'o`d\'d "{plain}" %s'
    fleet = Fleet(MySQL(), mysql, [plain, odd])
    await mariadb.create_databases(mysql, fleet.names)
    try:
        await made(fleet)
        assert await fleet.differing(plain, odd) == []
    finally:
        await mariadb.drop_databases(mysql, fleet.names)
