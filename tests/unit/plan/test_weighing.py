"""Statements and the tables that they meet: the bad way gives a finding, the good one none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from orchestrator.plan import weighing
from orchestrator.plan.findings import Finding
from orchestrator.plan.parts import Part, Size, Statement
from orchestrator.plan.tokens import Table

LARGE = 100_000
GROWN = Size("acme", 2_000_000, 800e6, {"a": "integer", "name": "character varying(50)", "n": "numeric(8,2)"})
SIZES = {Table("orders"): GROWN, Table("users"): Size("acme", 20, 8192)}


def part(*texts: str, transactional: bool = True) -> Part:
    return Part(transactional, tuple(Statement(f"r{number}", text) for number, text in enumerate(texts, 1)))


def found(
    *parts: Part, sizes: Mapping[Table, Size] = SIZES, dialect: str = "postgresql", fresh: bool = False
) -> list[Finding]:
    """But for the locks."""
    weighed = weighing.weighed(parts, dialect, sizes, LARGE, fresh=fresh)
    assert len(weighed.verdicts) == sum(len(one.statements) for one in parts)
    return [one for one in weighed.findings if one.rule != "locks"]


PAIRS = [
    (
        "table_rewrite",
        "ALTER TABLE orders ADD COLUMN token uuid DEFAULT gen_random_uuid() NOT NULL",
        "ALTER TABLE orders ADD COLUMN token uuid",
    ),
    ("blocking_scan", "CREATE INDEX i ON orders (a)", "CREATE INDEX CONCURRENTLY i ON orders (a)"),
    (
        "blocking_scan",
        "ALTER TABLE orders ALTER a SET NOT NULL",
        "ALTER TABLE orders ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID",
    ),
    ("table_rewrite", "ALTER TABLE orders ALTER a TYPE BIGINT", "ALTER TABLE orders ALTER name TYPE VARCHAR(200)"),
    (
        "table_rewrite",
        "ALTER TABLE orders ALTER n TYPE NUMERIC(10, 3)",
        "ALTER TABLE orders ALTER n TYPE NUMERIC(9, 2)",
    ),
    (
        "blocking_scan",
        "ALTER TABLE orders ADD FOREIGN KEY (a) REFERENCES users (id)",
        "ALTER TABLE orders ADD FOREIGN KEY (a) REFERENCES users (id) NOT VALID",
    ),
    (
        "blocking_scan",
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE (a)",
        "ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX i",
    ),
    ("mass_change", "UPDATE orders SET a = 1", "UPDATE orders SET a = 1 WHERE id = 7"),
]


@pytest.mark.parametrize(("rule", "bad", "good"), PAIRS, ids=[bad for _, bad, _ in PAIRS])
def test_the_bad_way_is_told_and_the_good_one_is_not(rule: str, bad: str, good: str) -> None:
    [one] = found(part(bad))
    assert (one.rule, one.revision, one.table, one.rows, one.tenant) == (rule, "r1", "orders", 2_000_000, "acme")
    assert one.seconds
    assert found(part(good)) == []
    assert found(part(bad.replace("orders", "users"))) == []  # it is small
    assert found(part(bad), sizes={}) == []  # nobody knows
    assert found(part(f"CREATE TABLE orders (a int, name text, n numeric); {bad}")) == []
    assert found(part(bad), fresh=True) == []


def test_what_the_plan_makes_itself_is_nobodys_yet() -> None:
    made = part("CREATE TABLE orders (a int)", "ALTER TABLE orders RENAME TO sales")
    assert found(made, part("ALTER TABLE sales ALTER a TYPE bigint", "UPDATE sales SET a = 1")) == []


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "sqlite"])
def test_a_table_that_is_made_where_it_is_not_there_is_new_only_where_it_is_not(dialect: str) -> None:
    made, change = "CREATE TABLE IF NOT EXISTS orders (a int)", "UPDATE orders SET a = 1"
    assert weighing.tables([part(made, change)], dialect) == {Table("orders"): frozenset()}
    assert [one.rule for one in found(part(made, change), dialect=dialect)] == ["mass_change"]
    assert found(part(made, change), dialect=dialect, sizes={}) == []
    assert found(part("DROP TABLE IF EXISTS orders", made, change), dialect=dialect) == []
    assert weighing.weighed([part(made)], dialect, {}, LARGE).findings == []
    gone = weighing.tables([part("DROP TABLE users", made, "DROP TABLE orders", made)], dialect)
    assert {one.name for one in gone} <= {"users", "orders"}, "nobody is asked for what has a name of our own"


def test_a_table_that_makes_way_for_another_of_its_name_stays_as_large_as_it_was() -> None:
    way = part("ALTER TABLE orders RENAME TO old", "CREATE TABLE orders (a bigint)", transactional=False)
    [one] = found(way, part("UPDATE orders SET a = 1", "ALTER TABLE old ALTER a TYPE bigint"))
    assert (one.rule, one.table, one.rows) == ("table_rewrite", "old", 2_000_000)
    back = part("DROP TABLE orders", "ALTER TABLE old RENAME TO orders", transactional=False)
    [one] = found(way, back, part("ALTER TABLE orders ALTER a TYPE bigint"))
    assert (one.rule, one.table) == ("table_rewrite", "orders")


def test_a_table_that_is_gone_is_not_locked_any_more() -> None:
    dropped = part("DROP TABLE users", transactional=False)
    again = part("DROP TABLE IF EXISTS users", "CREATE INDEX i ON orders (a)")
    assert [one.rule for one in found(again)] == ["blocking_scan", "lock_held"]
    assert [one.rule for one in found(dropped, again)] == ["blocking_scan"]


def test_a_table_is_known_by_the_name_that_it_had() -> None:
    renamed = part("ALTER TABLE orders RENAME TO sales", transactional=False)
    [one] = found(renamed, part("CREATE INDEX i ON sales (a)"))
    assert (one.rule, one.table, one.rows) == ("blocking_scan", "sales", 2_000_000)
    assert set(weighing.tables([renamed, part("CREATE INDEX i ON sales (a)")], "postgresql")) == {Table("orders")}


def test_a_validated_check_spares_the_scan_for_not_null() -> None:
    check = part("ALTER TABLE orders ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID")
    validate, of_another = (part(f"ALTER TABLE orders VALIDATE CONSTRAINT {name}") for name in ("c", "d"))
    not_null = part("ALTER TABLE orders ALTER a SET NOT NULL")
    assert found(check, validate, not_null) == []
    assert [one.rule for one in found(check, not_null)] == ["blocking_scan"]
    assert [one.rule for one in found(check, of_another, not_null)] == ["blocking_scan"]
    assert found(not_null, sizes={Table("orders"): GROWN._replace(filled=frozenset({"a"}))}) == []


def test_a_lock_is_held_while_later_statements_work() -> None:
    quick, slow = "ALTER TABLE users ADD a int", "CREATE INDEX i ON orders (a)"
    rules = {one.rule: one for one in found(part(quick, slow))}
    assert set(rules) == {"blocking_scan", "lock_held"}
    held = rules["lock_held"]
    assert (held.revision, held.table, held.lock, held.statement) == ("r1", "users", "ACCESS EXCLUSIVE", quick)
    assert {one.rule for one in found(part(slow, quick))} == {"blocking_scan"}  # it is locked when the work is done
    assert {one.rule for one in found(part(quick), part(slow))} == {"blocking_scan"}
    assert {one.rule for one in found(part(quick, slow, transactional=False))} == {"blocking_scan"}


def test_validation_within_the_transaction_of_the_constraint_keeps_its_lock() -> None:
    add, validate = "ALTER TABLE orders ADD CHECK (a > 0) NOT VALID", "ALTER TABLE orders VALIDATE CONSTRAINT orders_a"
    assert [one.rule for one in found(part(add, validate))] == ["lock_held"]
    assert found(part(add), part(validate)) == []


def test_locks_are_told_of_each_revision_by_the_strongest() -> None:
    texts = ("ALTER TABLE users ADD FOREIGN KEY (a) REFERENCES orders (id) NOT VALID; ALTER TABLE orders DROP b",)
    weighed = weighing.weighed([part(*texts, "DROP INDEX i", "SELECT 1")], "postgresql", {}, LARGE)
    assert [(one.revision, one.lock, one.message) for one in weighed.findings] == [
        (
            "r1",
            "ACCESS EXCLUSIVE",
            "it locks users (SHARE ROW EXCLUSIVE: no writes), orders (ACCESS EXCLUSIVE: no reads or writes)",
        ),
        ("r2", "ACCESS EXCLUSIVE", "it locks the table of i (ACCESS EXCLUSIVE: no reads or writes)"),
    ]


def test_no_literal_is_shown() -> None:
    [one] = found(part("UPDATE orders SET a = 'hunter2', b = 4711"))
    assert one.statement == "UPDATE orders SET a = ?, b = ?"
    assert "hunter2" not in str(one)


GOOD_ON_MYSQL = [
    "MODIFY a INTEGER NULL",
    "MODIFY name VARCHAR(60) NULL",
    "ADD COLUMN b INT",
    "ADD COLUMN b VARCHAR(9) DEFAULT 'uuid()'",
    "ADD `stored` INT",
    "ADD CONSTRAINT UNIQUE (a)",
    "ADD INDEX i (a)",
    "ADD CONSTRAINT c UNIQUE (a), LOCK=NONE",
    "MODIFY a BIGINT, ALGORITHM INSTANT",
]
# MariaDB 10.11 refuses each with ALGORITHM=INPLACE.
COPIED_BY_MYSQL = [
    "ADD CONSTRAINT c CHECK (a > 0)",
    "ADD CHECK (a > 0)",
    "ADD CONSTRAINT CHECK (a > 0)",
    "ADD CONSTRAINT FOREIGN KEY (a) REFERENCES users (id)",
    "ADD COLUMN b INT GENERATED ALWAYS AS (a * 2) STORED",
    "ADD b INT AS (a * 2) PERSISTENT",
    "ADD COLUMN b VARCHAR(36) DEFAULT (uuid())",
    "ADD COLUMN b VARCHAR(36) DEFAULT uuid() NOT NULL",
    "PARTITION BY HASH(id) PARTITIONS 4",
    "ADD INDEX i (a), ALGORITHM=COPY",
    "MODIFY a BIGINT, LOCK=DEFAULT",
]


def test_on_mysql_a_copy_of_a_large_table_is_told() -> None:
    sizes = {Table("orders"): Size("acme", 2e6, 8e8, {"a": "int(11)", "name": "varchar(20)"})}
    [one] = found(part("ALTER TABLE orders MODIFY a BIGINT NOT NULL"), sizes=sizes, dialect="mysql")
    assert (one.rule, one.lock) == ("table_rewrite", "LOCK=SHARED")
    for good in GOOD_ON_MYSQL:
        assert found(part(f"ALTER TABLE orders {good}"), sizes=sizes, dialect="mysql") == [], good
    for bad in COPIED_BY_MYSQL:
        told = found(part(f"ALTER TABLE orders {bad}"), sizes=sizes, dialect="mysql")
        assert [one.rule for one in told] == ["table_rewrite"], bad


def test_on_sqlite_a_copied_table_stays_as_large_as_it_was() -> None:
    sizes = {Table("orders"): Size("acme", 2e6, 2e8)}
    batch = part(
        "CREATE TABLE _alembic_tmp_orders (a TEXT)",
        "INSERT INTO _alembic_tmp_orders (a) SELECT a FROM orders",
        "DROP TABLE orders",
        "ALTER TABLE _alembic_tmp_orders RENAME TO orders",
        "CREATE INDEX i ON orders (a)",
        transactional=False,
    )
    told = [(one.rule, one.revision, one.lock) for one in found(batch, sizes=sizes, dialect="sqlite")]
    assert told == [("table_rewrite", "r2", "the whole database"), ("blocking_scan", "r5", "the whole database")]
    assert found(batch, sizes={Table("orders"): Size("acme", 20, 2000)}, dialect="sqlite") == []
