"""docs/findings.md names each rule with the level that it has."""

from __future__ import annotations

from pathlib import Path

from orchestrator.execute import measuring
from orchestrator.plan import ddl
from orchestrator.registry.findings import LARGE, ON_REQUEST, OURS, SQUAWKS

TEXT = (Path(__file__).parents[2] / "docs" / "findings.md").read_text()


def test_each_rule_of_ours_is_there_with_its_level() -> None:
    rows = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]
    assert {row[0].strip("`"): row[1] for row in rows if row[1] in ("error", "warning", "info")} == OURS


def test_each_rule_of_squawks_that_is_no_warning_is_there() -> None:
    for level in ("error", "info"):
        [line] = [line for line in TEXT.splitlines() if line.startswith(f"| {level} | ")]
        assert set(line.split("`")[1::2]) == {name for name, of in SQUAWKS.items() if of == level}
    [line] = [line for line in TEXT.splitlines() if line.startswith("| off: matters")]
    assert set(line.split("`")[1::2]) == {name for name, of in SQUAWKS.items() if of == "off"} - ON_REQUEST


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"{LARGE} when left out" in TEXT
    assert f"{ddl.LONGEST:,} characters" in TEXT
    assert f"{measuring.MOST} in all, in {measuring.LONGEST_SECONDS:g} seconds" in TEXT
    assert measuring.MOST_OF_A_SHARD == 3
