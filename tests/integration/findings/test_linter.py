"""squawk itself, as the package brings it; and what is said when it is not there, or is not itself."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from orchestrator.execute.linter import Linter, LinterFailedError, LinterMissingError, found
from orchestrator.plan import squawk
from orchestrator.plan.parts import Part, Statement
from orchestrator.plan.squawk import Question
from orchestrator.plan.weighing import Verdict
from orchestrator.registry.findings import ON_REQUEST, SQUAWKS, Findings

needs_squawk = pytest.mark.skipif(found() is None, reason="squawk is not installed: it comes with the extra `lint`")

PAIRS = [
    ("adding-required-field", "ALTER TABLE t ADD a bigint NOT NULL", "ALTER TABLE t ADD a bigint"),
    (
        "adding-field-with-default",
        "ALTER TABLE t ADD a uuid DEFAULT gen_random_uuid() NOT NULL",
        "ALTER TABLE t ADD a bigint DEFAULT 7 NOT NULL",
    ),
    ("require-concurrent-index-creation", "CREATE INDEX i ON t (a)", "CREATE INDEX CONCURRENTLY i ON t (a)"),
    (
        "adding-not-nullable-field",
        "ALTER TABLE t ALTER a SET NOT NULL",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID",
    ),
    ("changing-column-type", "ALTER TABLE t ALTER a TYPE bigint", "ALTER TABLE t ADD b bigint"),
    (
        "constraint-missing-not-valid",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id)",
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u (id) NOT VALID",
    ),
    ("ban-drop-column", "ALTER TABLE t DROP COLUMN a", "ALTER TABLE t ALTER a SET DEFAULT 1"),
    ("renaming-column", "ALTER TABLE t RENAME a TO b", "ALTER TABLE t ADD b text"),
    ("renaming-table", "ALTER TABLE t RENAME TO u", "CREATE VIEW u AS SELECT a FROM t"),
]


def part(*texts: str, transactional: bool = True) -> Part:
    return Part(transactional, tuple(Statement(f"r{number}", text) for number, text in enumerate(texts, 1)))


async def said(of: Part, rules: Findings | None = None) -> list[tuple[str, str | None]]:
    rules = rules or Findings()
    question = squawk.question(of, rules, 16)
    answer = await Linter().ask(question)
    findings = squawk.findings(question, of, answer, [Verdict()] * len(of.statements), rules)
    return [(one.rule.removeprefix("squawk/"), one.revision) for one in findings]


@needs_squawk
@pytest.mark.parametrize(("rule", "bad", "good"), PAIRS, ids=[rule for rule, _, _ in PAIRS])
async def test_the_bad_way_is_told_and_the_good_one_is_not(rule: str, bad: str, good: str) -> None:
    alone = "CONCURRENTLY" not in good
    assert (rule, "r2") in await said(part("SELECT 'ü\u2028\r\n\x0b;'", bad))
    assert await said(part("SELECT 1", good, transactional=alone)) == []


@needs_squawk
async def test_it_knows_what_a_transaction_holds() -> None:
    index, check = "CREATE INDEX CONCURRENTLY i ON t (a)", "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID"
    assert await said(part(index)) == [("ban-concurrent-index-creation-in-transaction", "r1")]
    assert await said(part(index, transactional=False)) == []
    assert await said(part("CREATE TABLE t (a bigint)", "CREATE INDEX i ON t (a)")) == []
    validate = "ALTER TABLE t VALIDATE CONSTRAINT c"
    assert await said(part(check, validate)) == [("constraint-missing-not-valid", "r2")]
    assert await said(part(check)) == await said(part(validate)) == []


@needs_squawk
async def test_each_rule_that_we_know_is_one_of_its_own() -> None:
    rules = Findings({f"squawk/{name}": "warning" for name in SQUAWKS})
    question = squawk.question(part("ALTER TABLE t ADD a int"), rules)
    assert set(question.include) == ON_REQUEST
    known = Question("SELECT 1;\n", (0,), None, tuple(sorted(SQUAWKS)))
    assert await Linter().ask(known) == []  # it refuses a name that it does not know
    with pytest.raises(LinterFailedError, match=r"code 2: .*no-such-rule"):
        await Linter().ask(Question("SELECT 1;\n", (0,), None, ("no-such-rule",)))
    assert ("ban-add-column", "r1") in await said(part("ALTER TABLE t ADD a int"), rules)
    # What is said without being asked for is what has a level without being given one.
    without = {one.rule for one in await Linter().ask(squawk.question(part("ALTER TABLE t ADD a int"), Findings()))}
    assert "ban-add-column" not in without


@needs_squawk
async def test_nobodys_configuration_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".squawk.toml").write_text('excluded_rules = ["ban-drop-table"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert await said(part("DROP TABLE t")) == [("ban-drop-table", "r1")]


@needs_squawk
async def test_a_statement_that_it_cannot_read_hides_no_other_and_raises_no_alarm() -> None:
    of = part("CREATE TABLE t (a int, b FUTURE SYNTAX (;", "CREATE INDEX i ON t (a)", "DROP TABLE u")
    rules = Findings()
    question = squawk.question(of, rules)
    numbers = squawk.unreadable(question, await Linter().ask(question))
    assert numbers == {0}
    again = squawk.question(of, rules, None, numbers)
    answer = await Linter().ask(again)
    assert not squawk.unreadable(again, answer)
    found = list(squawk.findings(again, of, answer, [Verdict()] * 3, rules))
    assert [(one.rule, one.revision) for one in found] == [("squawk/ban-drop-table", "r3")]


QUESTION = squawk.question(part("DROP TABLE t"), Findings())


def program(folder: Path, script: str) -> Path:
    path = folder / "squawk"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_where_there_is_none_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(LinterMissingError):
        await Linter(tmp_path / "nothing").ask(QUESTION)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("cat; exit 0", "is another program named so?"),
        ("echo '[]'; echo no such option >&2; exit 2", "it ended with code 2: no such option"),
        ("exit 101", "it ended with code 101: it said nothing"),
        ("kill -9 $$", "it ended with code -9"),
        ("exec sleep 600", "it gave no answer within 0.5 s"),
        ("exec 0<&-; echo '{'; exit 1", "is another program named so?"),
    ],
)
async def test_one_that_is_of_no_help_is_told_of_and_left_behind(script: str, why: str, tmp_path: Path) -> None:
    seconds = 0.5 if "sleep" in script else 60.0
    with anyio.fail_after(100), pytest.raises(LinterFailedError) as failed:
        await Linter(program(tmp_path, script), seconds).ask(QUESTION)
    assert why in str(failed.value)
    assert "DROP TABLE" not in str(failed.value)


async def test_it_has_none_of_our_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_STORE_URL", "postgresql://u:hunter2@h/d")
    script = '/usr/bin/env >&2; echo "$*" >&2; exit 3'
    with pytest.raises(LinterFailedError) as failed:
        await Linter(program(tmp_path, script)).ask(QUESTION)
    assert "hunter2" not in str(failed.value)
