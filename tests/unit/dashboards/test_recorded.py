"""Every dashboard as it is, drawn from what a Prometheus once answered; `make screenshots` records that anew."""

from __future__ import annotations

import json
import re
from html import escape
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana import generate
from tests.dashboards import page, recording
from tests.dashboards.__main__ import SHOWN

RECORDED = json.loads((Path(__file__).parent / "answers.json").read_text())


def drawn(name: str) -> tuple[dict[str, Any], str]:
    dashboard = generate.dashboards()[f"{SHOWN[name]}.json"]
    return dashboard, page.html(recording.read(RECORDED[name], dashboard))


def test_each_dashboard_has_a_picture() -> None:
    assert {f"{of}.json" for of in SHOWN.values()} == set(generate.dashboards())


@pytest.mark.parametrize("name", SHOWN)
def test_every_panel_is_there_and_no_variable_is_left(name: str) -> None:
    dashboard, made = drawn(name)
    for panel in dashboard["panels"]:
        assert f"<h2>{escape(panel['title'])}<abbr" in made
        assert escape(panel["description"]) in made
    assert "$" not in made
    assert "{{" not in made.split("</style>")[1]


@pytest.mark.parametrize("name", ["rollout", "backfills", "fleet", "daemon"])
def test_during_a_rollout_hardly_anything_is_empty(name: str) -> None:
    dashboard, made = drawn(name)
    empty = re.findall(r'class="empty">(.*?)<', made)
    assert len(empty) * 3 <= len(dashboard["panels"]), empty
    assert made.count('class="legend"') >= 4


def test_before_the_first_rollout_panels_say_why_they_are_empty() -> None:
    _, made = drawn("empty")
    words = set(re.findall(r'class="empty">(.*?)<', made))
    assert {"no rollout is active", "nothing has failed", "no migration has ended"} <= words
    assert not {"nothing to show", "No data"} & words


def test_a_rollout_that_is_underway_is_seen_with_its_state_and_what_failed() -> None:
    _, made = drawn("rollout")
    rows = [re.findall(r"<span.*?>(.*?)</span>", row) for row in re.findall(r"<tr>(<td.*?)</tr>", made)]
    assert any(row[1:3] == ["app", "running"] for row in rows)
    assert any("23514" in row[1] and row[2] == "3" for row in rows)
    assert made.count('class="mark"') > 0
