"""Which targets differ from the others: decided from values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.events import DriftFound, DriftGone, DriftUndecided
from orchestrator.plan.catalog import Catalog, Fingerprint, Line, fingerprint, without
from orchestrator.plan.drift import Group, Seen, Standing, Verdict, apart, group_of, judge, sums
from orchestrator.plan.drift_records import NAMED, Record, follow
from orchestrator.plan.drifted_lines import LONGEST, difference
from orchestrator.registry.model import TargetKey

MOMENT = datetime(2026, 11, 21, 3, tzinfo=UTC)


def seen(tenant: str, schema: str, heads: tuple[str, ...] = ("b2",), server: str = "postgresql 16") -> Seen:
    return Seen(TargetKey(tenant, "app"), Group("app", server, heads), Fingerprint(schema, 7))


def standings(members: list[Seen], reference: str | None = None) -> dict[str, str]:
    return {verdict.key.tenant: str(verdict.standing) for verdict in judge(members, reference)}


def test_what_most_targets_have_is_right() -> None:
    found = judge([seen("a", "x"), seen("b", "y"), seen("c", "x")])
    assert [verdict.standing for verdict in found] == [Standing.EQUAL, Standing.DRIFTED, Standing.EQUAL]
    assert found[1].reference == TargetKey("a", "app")


@pytest.mark.parametrize(
    ("schemas", "kinds"), [("xy", 2), ("xxyy", 2), ("xyz", 3), ("xxyz", 3), ("xxxyyz", 3)], ids=str
)
def test_without_a_majority_nobody_is_right(schemas: str, kinds: int) -> None:
    found = judge([seen(f"t{n}", schema) for n, schema in enumerate(schemas)])
    assert {verdict.standing for verdict in found} == {Standing.UNDECIDED}
    assert found[0].why == f"no majority: {kinds} kinds among {len(schemas)} targets"


def test_a_person_can_say_who_is_right() -> None:
    members = [seen("a", "x"), seen("b", "y"), seen("c", "x"), seen("old1", "z", ("a1",)), seen("old2", "z", ("a1",))]
    found = standings(members, "b")
    assert found == {"a": "drifted", "b": "equal", "c": "drifted", "old1": "equal", "old2": "equal"}
    assert standings([seen("a", "x"), seen("b", "y")], "b") == {"a": "drifted", "b": "equal"}


def test_only_targets_with_equal_heads_on_equal_servers_are_compared() -> None:
    members = [seen("a", "x"), seen("b", "y", ("a1",)), seen("c", "z", server="postgresql 17")]
    assert set(standings(members).values()) == {"alone"}


def test_two_that_are_named_are_told_apart_where_they_cannot_be_compared() -> None:
    old, new, other = seen("a", "x", ("a1",)), seen("b", "x"), seen("c", "x")
    unclaimed = Seen(TargetKey("new", "app"), None, Fingerprint("x", 0))
    found = judge([old, new, other, unclaimed])
    assert apart(found, "a", "b") == (old.group, new.group)
    assert apart(found, "new", "b") == (None, new.group)
    assert apart(found, "b", "c") is None
    assert apart(found, "b", "unread") is None


def test_what_claims_no_revision_is_not_judged() -> None:
    assert group_of("app", Catalog("sqlite", None, ())) is None
    assert group_of("app", Catalog("sqlite", (), ())) is None
    assert group_of("app", Catalog("sqlite", ("b", "a"), ())) == Group("app", "sqlite", ("a", "b"))
    unclaimed = Seen(TargetKey("new", "app"), None, Fingerprint("x", 0))
    assert standings([unclaimed, seen("a", "x")]) == {"a": "alone", "new": "unprovisioned"}


def test_other_tracks_in_the_same_place_make_another_group() -> None:
    one = Catalog("sqlite", ("b2",), (), (("dw", ("d1",)),))
    other = Catalog("sqlite", ("b2",), (), (("dw", ("d2",)),))
    assert group_of("app", one) != group_of("app", other)


def test_no_targets_are_no_drift() -> None:
    assert judge([]) == []
    assert set(sums([]).values()) == {0}


@pytest.mark.parametrize("size", [1000, 20_000])
def test_the_one_outlier_among_thousands_is_found(size: int) -> None:
    members = [seen(f"t{n:05}", "odd" if n == 777 else "x", (f"r{n % 3}",)) for n in range(size)]
    found = judge(members)
    assert [verdict.key.tenant for verdict in found if verdict.standing is Standing.DRIFTED] == ["t00777"]
    assert sums(found)[Standing.EQUAL] == size - 1


def test_globs_leave_out_tables_with_all_that_is_in_them() -> None:
    lines = [
        Line("relation | tmp_a", "tmp_a", space="public"),
        Line("column | tmp_a.x", "tmp_a", "x", "public"),
        Line("index | events_2026_11", "events_2026_11", "ix", "public"),
        Line("column | orders.note", "orders", "note", "public"),
        Line("index | orders", "orders", "ix_tuned", "public"),
        Line("column | orders.tmp_flag", "orders", "tmp_flag", "public"),
    ]
    left = without(lines, ["tmp_*", "public.events_2*", "orders.note", "*.ix_tuned"])
    assert [line.text for line in left] == ["column | orders.tmp_flag"]


def test_a_digest_tells_lines_apart_whose_texts_run_together() -> None:
    assert fingerprint([Line("ab"), Line("c")]) != fingerprint([Line("a"), Line("bc")])
    assert fingerprint([Line("a"), Line("a")]) != fingerprint([Line("a")])


def test_a_difference_is_bounded_and_shows_where_long_lines_part() -> None:
    body = "function | f | " + "SELECT 1; " * 200
    [gone, new] = difference([Line(f"{body}old", "f")], [Line(f"{body}new", "f")], 10).lines
    assert gone.text.endswith("old")
    assert new.text.endswith("new")
    assert gone.text.startswith("function | f |")
    assert max(len(gone.text), len(new.text)) <= LONGEST
    many = difference([], [Line(f"column | {n}", "t", str(n)) for n in range(5000)], 20)
    assert (len(many.lines), many.total) == (20, 5000)


def test_no_secret_of_a_function_is_shown() -> None:
    found = difference([], [Line("function | connect('host=x password=hunter2')", "f")], 10)
    assert "hunter2" not in str(found.lines[0])


def test_a_comment_cannot_speak_to_the_terminal_of_who_looks() -> None:
    found = difference([], [Line("comment | orders | \x1b]0;mine\x07 \x9b31m caf\xe9 \udce9", "orders")], 10)
    assert found.lines[0].text == "comment | orders | \\x1b]0;mine\\x07 \\x9b31m caf\xe9 \\udce9"


# What is kept, and told once


def record(standing: Standing, digest: str = "x", since: datetime | None = None) -> Record:
    return Record("a", "app", "pg", standing, MOMENT, ("b2",), digest=digest, drifted_since=since)


def verdict(standing: Standing, digest: str = "x") -> Verdict:
    group = Group("app", "postgresql 16", ("b2",))
    return Verdict(TargetKey("a", "app"), standing, group, Fingerprint(digest, 3), TargetKey("b", "app"))


UNREAD = Verdict(TargetKey("a", "app"), Standing.UNREAD, why="no answer")
LATER = MOMENT + timedelta(hours=6)


@pytest.mark.parametrize(
    ("before", "now", "told", "since"),
    [
        (None, verdict(Standing.EQUAL), None, None),
        (None, verdict(Standing.DRIFTED), DriftFound, LATER),
        (record(Standing.EQUAL), verdict(Standing.UNDECIDED), DriftUndecided, LATER),
        (record(Standing.UNDECIDED, since=MOMENT), verdict(Standing.UNDECIDED), None, MOMENT),
        (record(Standing.DRIFTED, since=MOMENT), verdict(Standing.DRIFTED), None, MOMENT),
        (record(Standing.DRIFTED, "y", MOMENT), verdict(Standing.DRIFTED), DriftFound, MOMENT),
        (record(Standing.DRIFTED, since=MOMENT), UNREAD, None, MOMENT),
        (record(Standing.UNREAD, since=MOMENT), verdict(Standing.DRIFTED), None, MOMENT),
        (record(Standing.UNREAD, since=MOMENT), verdict(Standing.EQUAL), DriftGone, None),
        (record(Standing.DRIFTED, since=MOMENT), verdict(Standing.ALONE), None, MOMENT),
        (record(Standing.DRIFTED, since=MOMENT), verdict(Standing.UNPROVISIONED), None, MOMENT),
        (None, UNREAD, None, None),
    ],
)
def test_only_changes_are_told(
    before: Record | None, now: Verdict, told: type[object] | None, since: datetime | None
) -> None:
    earlier = {} if before is None else {before.key: before}
    followed = follow(earlier, [now], {}, {TargetKey("a", "app"): "pg"}, LATER)
    assert [type(event) for event in followed.events] == ([told] if told is not None else [])
    [kept] = followed.records
    assert (kept.standing, kept.drifted_since, kept.looked_at) == (now.standing, since, LATER)


def test_targets_of_which_none_is_right_are_told_of_together() -> None:
    groups = [Group("app", "postgresql 16", (heads,)) for heads in ("b2", "c3")]
    found = [
        Verdict(
            TargetKey(f"t{n:03}", "app"), Standing.UNDECIDED, groups[n % 2], Fingerprint(str(n), 3), why="no majority"
        )
        for n in range(500)
    ]
    shards = {one.key: "pg" for one in found}
    followed = follow({}, found, {}, shards, MOMENT)
    told = [event for event in followed.events if isinstance(event, DriftUndecided)]
    assert len(followed.events) == 2
    assert [(one.heads, one.count, one.tenants[:2], one.reason) for one in told] == [
        (("b2",), 250, ("t000", "t002"), "no majority"),
        (("c3",), 250, ("t001", "t003"), "no majority"),
    ]
    assert max(len(one.tenants) for one in told) <= NAMED
    before = {one.key: one for one in followed.records}
    changed = [replace(found[0], fingerprint=Fingerprint("other", 3)), *found[1:]]
    (again,) = follow(before, changed, {}, shards, LATER).events
    assert isinstance(again, DriftUndecided)
    assert (again.count, again.tenants) == (1, ("t000",)), "the others are as they were"


def test_targets_that_were_not_looked_at_stay_and_those_that_are_gone_leave() -> None:
    earlier = record(Standing.DRIFTED, since=MOMENT)
    assert follow({earlier.key: earlier}, [], {}, {earlier.key: "pg"}, LATER).records == (earlier,)
    assert follow({earlier.key: earlier}, [], {}, {}, LATER).records == ()


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        (Line("function | f | perform set_config('app.key', 'hunter2', false)", "f"), "hunter2"),
        (Line("function | f | http('Authorization: Basic aHVudGVyMg==')", "f"), "aHVudGVyMg"),
        (Line("function | f | pgp_sym_decrypt(x, 'hunter2')", "f"), "hunter2"),
        (Line("function | f | api_token text := 'hun''ter2'", "f"), "ter2"),
        (Line("function | f | charge('sk_live_hunter2')", "f"), "hunter2"),
        (Line("function | f | SET app.secret TO 'hunter2'", "f"), "hunter2"),
        (Line("column | public.t | - | secret | text | true | 'hunter2'::text | default", "t", "secret"), "hunter2"),
        (Line("column | t | api_key | varchar(9) | YES | hunter2 | - | - | - | -", "t", "api_key"), "hunter2"),
        (Line("column | t | password varchar(9) default 'hunter2'", "t", "password"), "hunter2"),
        (Line("index | CREATE INDEX i ON t (id) WHERE ((token)::text = 'hunter2'::text)", "t", "i"), "hunter2"),
        (Line("function | f | api_token := $$hunter2 x$$", "f"), "hunter2"),
        (Line("function | f | v_password text := $q$hunter2$q$", "f"), "hunter2"),
        (Line("function | f | EXECUTE 'ALTER ROLE x PASSWORD ''hunter2'''", "f"), "hunter2"),
        (Line("routine | f | CREATE USER x IDENTIFIED BY 'hunter2'", "f"), "hunter2"),
        (Line("function | f | password := E'x\\'hunter2'", "f"), "hunter2"),
        (Line("function | f | secret := 'a' || 'hunter2'", "f"), "hunter2"),
        (Line("function | f | crypt('hunter2', gen_salt('bf'))", "f"), "hunter2"),
        (Line("function | f | jsonb_build_object('api_key', 'hunter2')", "f"), "hunter2"),
        (Line("function | f | '-----BEGIN RSA PRIVATE KEY----- hunter2 -----END'", "f"), "hunter2"),
        (Line("function | f | use('eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.hunter2')", "f"), "hunter2"),
        (Line(f"function | f | token := 'hunter2{'x' * 2_000}", "f"), "hunter2"),  # its end is not among what is shown
        (Line(f"function | f | token := '{'x' * 1_000}''hunter2{'y' * 2_000}'", "f"), "hunter2"),
        (Line("function | f | set_config('my.key.of', 'hunter2', true)", "f"), "hunter2"),
        (Line("function | f | pgp_pub_decrypt_bytea(x, k, 'hunter2')", "f"), "hunter2"),
        (Line("function | f | IDENTIFIED BY 'hunter2''", "f"), "hunter2"),
    ],
)
def test_secrets_in_a_schema_are_masked(line: Line, secret: str) -> None:
    [shown] = difference([], [line], 9).lines
    assert secret not in shown.text
    assert "***" in shown.text


def test_long_texts_are_shown_where_they_part_without_what_is_secret_before() -> None:
    filler = "perform nothing('x'); " * 30_000
    one, other = (Line(f"function | f | {filler} token := 'hunter{n}'; n := {n}; {filler}", "f") for n in (1, 2))
    found = difference([one], [other], 9).lines
    assert all(len(line.text) <= LONGEST for line in found)
    assert [line.text[:15] for line in found] == ["function | f | "] * 2
    assert "n := 1" in found[0].text
    assert "n := 2" in found[1].text
    assert "hunter" not in str(found)


def test_what_is_no_secret_is_shown() -> None:
    line = Line("column | public.t | - | note | text | true | 'none'::text | default", "t", "note")
    [shown] = difference([], [line], 9).lines
    assert shown.text == line.text
