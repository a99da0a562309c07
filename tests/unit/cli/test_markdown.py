"""A plan as a comment: whole, bounded, and nobody's mark-up."""

from __future__ import annotations

from typing import Any, cast

from orchestrator.cli import markdown
from orchestrator.client.shapes import CompiledGroup, CompiledPlan, Finding


def finding(level: str, rule: str, message: str, statement: str | None = None) -> Finding:
    nothing: dict[str, Any] = dict.fromkeys(("table", "lock", "rows", "seconds", "tenant"))
    made = {"rule": rule, "level": level, "revision": "b2", "message": message, "statement": statement}
    return cast(Finding, nothing | made)


def group(count: int = 2, sql: str = "BEGIN;\nALTER TABLE a;\nCOMMIT;", **values: Any) -> CompiledGroup:
    made: dict[str, Any] = {
        "track": "app",
        "heads": ["a1"],
        "state": "behind",
        "steps": [{"revision": "b2", "execution": "online", "reason": "it asks"}],
        "sql": [sql] if sql else [],
        "digest": "d",
        "count": count,
        "targets": [f"t{number}" for number in range(count)],
        "problem": None,
        "irreversible": {},
        "findings": [finding("info", "online", "it asks | for\n@everyone <b>")],
    }
    return cast(CompiledGroup, made | values)


def plan(*groups: CompiledGroup) -> CompiledPlan:
    total = sum(one["count"] for one in groups)
    return CompiledPlan(
        track="app", to="head", direction="upgrade", total=total, digest="p1-x", worst="info", groups=list(groups)
    )


def test_it_tells_groups_findings_sql_and_digest() -> None:
    text = markdown.comment(plan(group(), group(1, "", steps=[], state="up_to_date", heads=[], findings=[])))
    assert text.startswith(f"{markdown.MARK}\n### Migrations: app to head\n\n2 of 3 targets would be migrated")
    assert "| 2 | behind | a1 | b2 (online) | t0, t1 |" in text
    assert "| 1 | up to date | - | - | t0 |" in text
    assert "- **info** `b2`: it asks \\| for @\u200beveryone &lt;b&gt; [online]" in text
    assert "```sql\nBEGIN;\nALTER TABLE a;\nCOMMIT;\n```" in text
    assert "`p1-x`" in text


def test_sql_cannot_end_its_block() -> None:
    text = markdown.comment(plan(group(sql="COMMENT ON TABLE a IS '```\n</details>';")))
    assert "\n````sql\n" in text
    assert text.count("````") == 2


def test_it_never_is_too_long_for_a_comment() -> None:
    text = markdown.comment(plan(*[group(3000, "x" * 25_000) for _ in range(4)]))
    assert len(text) < 65_536
    assert text.count("<details>") == text.count("</details>") == 2
    assert "`orchestrator sql` shows all of it" in text


def test_the_worst_findings_come_first_and_each_once() -> None:
    told = [finding("info", "online", "it asks"), finding("error", "table_rewrite", "slow", "ALTER TABLE `a`")]
    text = markdown.comment(plan(group(findings=told), group(findings=told[1:], problem="it is not there")))
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert lines == [
        "- it is not there",
        "- **error** `b2`: slow [table_rewrite] (`ALTER TABLE 'a'`)",
        "- **info** `b2`: it asks [online]",
    ]
