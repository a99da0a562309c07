"""Panels as our dashboards have them, with answers that a test makes up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.grafana.panels import Panel, dashboard
from tests.dashboards import questions, variables
from tests.dashboards.asking import Answered
from tests.dashboards.questions import Sample, Window

Json = dict[str, Any]
WINDOW = Window(1000, 1060, scrape_seconds=1)


def answered(panel: Panel, *answers: Sequence[Sample]) -> Answered:
    """A dashboard of one panel, and what each of its queries was answered."""
    made = dashboard("uid", "Title", "What it tells.", [], [panel])
    asked = questions.of_dashboard(made, variables.choices(made), {}, WINDOW)
    [only] = made["panels"]
    wheres = [questions.where(only, target) for target in only["targets"]]
    given: dict[str, list[Sample]] = {where: [] for where in asked}
    given.update((where, list(answer)) for where, answer in zip(wheres, answers, strict=True))
    return Answered(made, WINDOW, [], {}, asked, given)


def now(value: float, **labels: str) -> Sample:
    return {"metric": labels, "value": [WINDOW.end, str(value)]}


def line(values: dict[int, float], **labels: str) -> Sample:
    """Values by seconds after the window's beginning."""
    return {"metric": labels, "values": [[WINDOW.start + at, str(value)] for at, value in values.items()]}
