"""Which questions are known to be answered by the catalog alone, and alike for equal schemas."""

from __future__ import annotations

import pytest

from orchestrator.plan.catalog_reads import LONGEST, doubt, strangers

ALIKE = [
    "SELECT 1 FROM information_schema.tables WHERE table_name = 'users' LIMIT 1",
    (
        "SELECT EXISTS (SELECT * FROM information_schema.tables WHERE table_schema = "
        "current_schema() AND table_name = 'a')"
    ),
    "SELECT count(*) FROM information_schema.columns WHERE table_name='a' AND column_name='b'",
    "SELECT to_regclass('public.users')",
    "SELECT to_regclass('public.users') IS NOT NULL",
    "SELECT column_name FROM information_schema.columns WHERE table_name='a' ORDER BY ordinal_position",
    "SELECT conname FROM pg_constraint WHERE conrelid = 'users'::regclass AND contype = 'u'",
    (
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
        "n.nspname = 'public' AND c.relkind IN ('r', 'p')"
    ),
    "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'a'",
    (
        "SELECT e.enumlabel FROM pg_catalog.pg_enum e LEFT JOIN pg_type t ON e.enumtypid = "
        "t.oid WHERE t.typname = 'mood' ORDER BY e.enumsortorder"
    ),
    (
        "SELECT 1 FROM pg_type WHERE typname = 'mood' AND typnamespace = (SELECT oid FROM "
        "pg_namespace WHERE nspname = 'public')"
    ),
    (
        "SELECT array_agg(a.attname ORDER BY a.attnum) AS cols FROM pg_attribute a WHERE "
        "a.attrelid = 'x'::regclass AND a.attnum = ANY (a.attnum) AND NOT a.attisdropped"
    ),
    "SELECT 1 FROM pg_attribute WHERE attrelid = 'a'::regclass AND attname = 'b' AND attisdropped = false",
    (
        "SELECT 1 FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] "
        "WHERE c.conname = 'k' AND a.attnum > 0 AND a.attisdropped IS false LIMIT 1"
    ),
    (
        "SELECT tc.constraint_name FROM information_schema.table_constraints AS tc, "
        "information_schema.key_column_usage kcu WHERE tc.constraint_name = "
        "kcu.constraint_name ORDER BY tc.constraint_name DESC"
    ),
    "SELECT count(DISTINCT relname) AS n FROM pg_class GROUP BY relkind ORDER BY n",
    "SELECT data_type FROM information_schema.columns WHERE table_name = 'a' UNION ALL SELECT 'x'",
    "SELECT CASE WHEN EXISTS (SELECT 1 FROM pg_extension WHERE extname='x') THEN 1 ELSE 0 END",
]
DOUBTED = [
    ("SELECT 1 FROM users", "it reads users"),
    ("SELECT 1 FROM tables", "it reads tables"),
    ("SELECT oid FROM pg_class", "it asks for oid"),
    ("SELECT c.oid FROM pg_class c", "it asks for oid"),
    ("SELECT reltuples FROM pg_class", "it asks for reltuples"),
    ("SELECT * FROM information_schema.tables", "it asks for `*`"),
    ("SELECT version()", "it asks for version()"),
    ("SELECT now()", "it asks for now()"),
    ("SELECT current_user", "it asks for current_user"),
    ("SELECT current_database()", "it asks for current_database()"),
    ("SELECT random()", "it asks for random()"),
    ("SELECT nextval('s')", "it asks for nextval()"),
    ("SELECT current_setting('x')", "it asks for current_setting()"),
    ("SELECT n_live_tup FROM pg_stat_user_tables", "it asks for n_live_tup"),
    ("SELECT last_value FROM pg_sequences", "it asks for last_value"),
    ("SELECT tableowner FROM pg_tables", "it asks for tableowner"),
    ("SELECT table_catalog FROM information_schema.tables", "it asks for table_catalog"),
    ("SELECT relname FROM pg_class ORDER BY oid", "it asks for oid"),
    ("SELECT relname FROM pg_class LIMIT 1", "it asks for some of the rows"),
    ("SELECT attnum FROM pg_attribute", "it asks for attnum"),
    ("SELECT 1 FROM pg_class WHERE relpages > 3", "it asks for relpages"),
    ("SELECT pg_relation_size('a')", "it asks for pg_relation_size()"),
    ("SELECT 'a'::regclass::oid", "it asks for a cast to oid"),
    ("SELECT c FROM pg_class c", "it asks for c"),
    ("SELECT 1 FROM pg_class, users", "it reads users"),
    ("SELECT 1 FROM pg_class JOIN users ON true", "it reads users"),
    ("SELECT (SELECT count(*) FROM users)", "it reads users"),
    ("SELECT 1 WHERE EXISTS (SELECT 1 FROM users)", "it reads users"),
    ("SELECT relname FROM pg_class WHERE relname IN (SELECT name FROM users)", "it asks for name"),
    ("SELECT 1 FROM pg_class; DELETE FROM users", "it asks for more than one statement"),
    ("SELECT relname INTO x FROM pg_class", "it asks for into"),
    ("SELECT 1 FROM pg_class FOR UPDATE", "it asks for update"),
    ("WITH x AS (DELETE FROM users RETURNING 1) SELECT 1 FROM pg_class", "it asks for with …"),
    ("SELECT setval('x', 1)", "it asks for setval()"),
    ("SELECT public.to_regclass('x')", "it asks for to_regclass"),
    ("SELECT relname FROM public.pg_class", "it reads public.pg_class"),
    ("SELECT relname AS reltuples, reltuples FROM pg_class", "it asks for reltuples"),
    ("SELECT f(1)", "it asks for f()"),
    ("SELECT max(oid) FROM pg_class", "it asks for oid"),
    ("SELECT (SELECT oid FROM pg_class)", "it asks for oid"),
    ("VALUES (1)", "it asks for values …"),
    ("TABLE users", "it asks for table …"),
    ("SHOW search_path", "it asks for show …"),
    ('SELECT 1 FROM "users"', "it reads users"),
    ("SELECT x.relname FROM pg_class c", "it asks for x"),
    ("SELECT count(*) FROM (SELECT 1 FROM users) u", "it reads users"),
    ("SELECT relname FROM pg_class WHERE oid = (SELECT oid FROM pg_class LIMIT 1)", "it asks for some of the rows"),
    ("SELECT 1 FROM", "it asks for a name is missing"),
    ("SELECT (1", "its question is unfinished"),
    ("SELECT 1 FROM pg_class NATURAL JOIN users", "it reads users"),
    ("SELECT 1 FROM ONLY users", "it reads only"),
    ("SELECT 1 FROM generate_series(1, 2)", "it reads generate_series"),
    ("SELECT count(*) FILTER (WHERE true) FROM users", "it reads users"),
    ("SELECT lower(name) FROM users", "it reads users"),
    ("SELECT relname FROM pg_class TABLESAMPLE system(1)", "it asks for system()"),
    ("SELECT relname FROM pg_class ORDER BY random()", "it asks for random()"),
    ("SELECT 'x' OPERATOR(public.+) 'y'", "it asks for operator()"),
    ("EXPLAIN SELECT 1", "it asks for explain …"),
    ("SELECT DISTINCT ON (relname) oid FROM pg_class", "it asks for on"),
    ("SELECT DISTINCT ON (relname) relname FROM pg_class LIMIT 1", "it asks for on"),
    *(
        (f"SELECT count(*) FROM {asks}", f"it asks for {number}, which has gaps where a column was dropped")
        for asks, number in (
            ("information_schema.columns WHERE ordinal_position > 3", "ordinal_position"),
            ("information_schema.columns WHERE ordinal_position IN (1, 2)", "ordinal_position"),
            ("information_schema.columns HAVING max(ordinal_position) > 3", "ordinal_position"),
            ("information_schema.columns WHERE ordinal_position::text = '3'", "ordinal_position"),
            ("pg_attribute WHERE NOT attisdropped AND 2 < attnum", "attnum"),
            ("pg_constraint WHERE conkey = ARRAY[2]", "conkey"),
            ("pg_constraint WHERE conkey[1] = 2", "conkey"),
        )
    ),
    ("SELECT count(*) FROM pg_attribute WHERE attnum > 0", "it asks for columns that were dropped"),
    ("SELECT attname FROM pg_attribute WHERE attname = 'a'", "it asks for columns that were dropped"),
    ("SELECT count(*) FROM pg_attribute WHERE attisdropped", "it asks for columns that were dropped"),
    (
        "SELECT count(*) FROM pg_attribute a WHERE NOT a.attisdropped OR attisdropped",
        "it asks for columns that were dropped",
    ),
]


@pytest.mark.parametrize("question", ALIKE)
def test_what_the_catalog_answers_alike_is_in_no_doubt(question: str) -> None:
    assert doubt(question) is None
    assert doubt(f"{question} -- once more\n;") is None


@pytest.mark.parametrize(("question", "said"), DOUBTED)
def test_what_is_not_known_is_in_doubt(question: str, said: str) -> None:
    assert doubt(question) == said


@pytest.mark.parametrize("question", ["SELECT 'a", 'SELECT "a', "SELECT /* a", "SELECT $$a"])
def test_a_question_that_does_not_end_is_in_doubt(question: str) -> None:
    assert "does not end" in (doubt(question) or "")


def test_a_question_without_end_is_not_read() -> None:
    assert doubt(f"SELECT 1 FROM pg_class WHERE relname = '{'a' * LONGEST}'") == "it asks a very long question"


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("SELECT a FROM pg_catalog.pg_class AS c LEFT OUTER JOIN pg_catalog.pg_index ON c.a = b, pg_catalog.x", None),
        ("SELECT a IS DISTINCT FROM b, extract(year FROM c) FROM pg_catalog.pg_class", None),
        ("SELECT a FROM (SELECT b FROM pg_catalog.pg_class) AS x JOIN LATERAL (SELECT 1) AS y ON true", None),
        ("SELECT a FROM pg_catalog.pg_class WHERE a IN (SELECT b FROM users)", "users"),
        ("SELECT a FROM pg_catalog.pg_class JOIN app.users ON true", "app.users"),
        ("SELECT (SELECT b FROM users) FROM pg_catalog.pg_class", "users"),
        ("SELECT a FROM (SELECT b FROM pg_catalog.pg_class) AS x, users", "users"),
        ("SELECT 'a", "something that cannot be read"),
    ],
)
def test_relations_outside_of_the_catalog_are_found(question: str, found: str | None) -> None:
    assert strangers(question) == found
