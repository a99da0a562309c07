"""What squawk says, brought back to revision and statement, and weighed by what only we know."""

from __future__ import annotations

import pytest

from orchestrator.plan import squawk
from orchestrator.plan.parts import Part, Statement
from orchestrator.plan.squawk import Violation
from orchestrator.plan.weighing import Verdict
from orchestrator.registry.findings import Findings

PART = Part(
    True,
    (
        Statement("a1", "DROP TABLE\r\n  a\r;"),
        Statement("b2", "ALTER TABLE b DROP c -- squawk-ignore-file"),
        Statement("b2", "CREATE INDEX i ON b (c);\nSELECT 'hunter2'"),
    ),
)
NOTHING = [Verdict()] * 3


def found(rule: str, line: int, verdict: Verdict | None = None, **rules: object) -> list[tuple[str, str | None, str]]:
    findings = Findings(**rules)  # type: ignore[arg-type]
    asked = squawk.question(PART, findings)
    verdicts = NOTHING if verdict is None else [verdict] * 3
    said = squawk.findings(asked, PART, [Violation(rule, line, "it is bad")], verdicts, findings)
    return [(one.level, one.revision, one.statement or "") for one in said]


def test_a_line_tells_the_statement_and_its_revision() -> None:
    asked = squawk.question(PART, Findings(), 16)
    assert asked.text.split("\n")[:4] == ["BEGIN;", "DROP TABLE", "  a", ";"]
    assert [asked.statement(line) for line in range(len(asked.text.split("\n")))] == [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert found("ban-drop-table", 3) == [("warning", "a1", "DROP TABLE a ;")]
    assert found("ban-drop-column", 4) == [("warning", "b2", "ALTER TABLE b DROP c")]
    assert found("require-concurrent-index-creation", 6)[0][1:] == ("b2", "CREATE INDEX i ON b (c); SELECT ?")


def test_a_revision_cannot_silence_the_others() -> None:
    assert "squawk-ignore-file" not in squawk.question(PART, Findings()).text


def test_a_track_says_how_bad_a_rule_is() -> None:
    assert found("prefer-robust-stmts", 0) == []
    assert found("ban-drop-table", 0, rules={"squawk/ban-drop-table": "error"})[0][0] == "error"
    assert found("ban-drop-table", 0, rules={"squawk/ban-drop-table": "off"}) == []
    assert found("adding-required-field", 0)[0][0] == "error"
    assert found("from-a-later-release", 0)[0][0] == "warning"


def test_what_comes_with_the_plan_or_is_known_not_to_be_done_is_left_out() -> None:
    assert found("ban-drop-column", 4, Verdict(new=True)) == []
    assert len(found("ban-concurrent-index-creation-in-transaction", 6, Verdict(new=True))) == 1
    assert found("adding-not-nullable-field", 4, Verdict(filled=True)) == []
    assert found("changing-column-type", 4, Verdict(alike=True))[0][0] == "info"


def test_on_a_small_table_what_takes_long_is_only_told() -> None:
    rule, small = "require-concurrent-index-creation", Verdict(small=True)
    assert found(rule, 6, small)[0][0] == "info"
    assert found(rule, 6)[0][0] == "warning"
    assert found("ban-drop-column", 4, small)[0][0] == "warning"
    assert found(rule, 6, small, rules={f"squawk/{rule}": "error"})[0][0] == "error"


def test_what_squawk_cannot_read_is_told_and_stands_for_no_more_than_its_tables() -> None:
    part = Part(False, (Statement("a1", 'CREATE TABLE "x\'y" (a int) FUTURE\nSYNTAX'), Statement("a1", "FOO BAR")))
    asked = squawk.question(part, Findings())
    numbers = squawk.unreadable(asked, [Violation("syntax-error", 1, "expected"), Violation("x", 2, "")])
    assert numbers == {0}
    again = squawk.question(part, Findings(), None, {0, 1})
    assert again.text == 'CREATE TABLE "x\'y" ();\n\n'
    assert [(one.rule, one.statement) for one in squawk.unread(part, {1})] == [("unread", "FOO BAR")]


def test_it_is_told_of_the_transaction_the_version_and_what_is_asked_for() -> None:
    rules = Findings({"squawk/ban-add-column": "warning"})
    assert squawk.arguments(squawk.question(PART, rules, 16)) == [
        *("--reporter", "json", "--config", "/dev/null"),
        *("--pg-version=16.0", "--include=ban-add-column"),
    ]
    alone = squawk.question(PART._replace(transactional=False), Findings())
    assert alone.text.startswith("DROP TABLE\n")
    assert "--pg-version" not in " ".join(squawk.arguments(alone))


@pytest.mark.parametrize("printed", [b"", b"{}x", b"[1]", b'[{"line": 1}]', b'{"a": 1}', b"null"])
def test_what_is_not_squawks_is_refused(printed: bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra|squawk"):
        squawk.answer(printed)


def test_a_text_that_holds_data_is_not_handed_on() -> None:
    long = Statement("a1", f"INSERT INTO t VALUES {', '.join(['(1)'] * 40_000)}")
    part = Part(False, (Statement("a1", "CREATE TABLE t (a int)"), long))
    assert squawk.too_long(part) == {1}
    assert squawk.question(part, Findings(), None, {1}).text == "CREATE TABLE t (a int);\n\n"
    [one] = squawk.unread(part, {1})
    assert "so long a statement" in one.message
    assert one.statement is not None
    assert len(one.statement) <= 120
