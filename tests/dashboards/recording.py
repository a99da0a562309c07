"""Answers of a Prometheus in a file, so that dashboards can be drawn without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tests.dashboards import questions, variables
from tests.dashboards.asking import Answered
from tests.dashboards.questions import Question, Sample, Window

Json = dict[str, Any]


def written(found: Mapping[str, Answered]) -> Json:
    return {
        name: {
            "window": asdict(one.window),
            "values": {choice.name: list(choice.values) for choice in one.choices},
            "answers": {_key(question): one.answers[where] for where, question in one.asked.items()},
        }
        for name, one in found.items()
    }


def read(recorded: Json, dashboard: Json) -> Answered:
    """The dashboard as it is now with what was answered then; nothing to what was not asked then."""
    window = Window(**recorded["window"])
    choices = [replace(one, values=recorded["values"].get(one.name, ())) for one in variables.choices(dashboard)]
    asked = questions.of_dashboard(dashboard, choices, {}, window)
    answers: dict[str, list[Sample]] = {
        where: recorded["answers"].get(_key(question), []) for where, question in asked.items()
    }
    return Answered(dashboard, window, choices, {}, asked, answers)


def _key(question: Question) -> str:
    return f"{question.promql} every {question.step:g}s" if question.step else question.promql
