"""Asks a Prometheus what a dashboard wants to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from tests.dashboards import questions, variables
from tests.dashboards.questions import Question, Sample, Window
from tests.dashboards.variables import Choice, Chosen, Json


@dataclass(frozen=True)
class Answered:
    """A dashboard with all that it takes to draw it. `answers`: by place, as `questions.where` names them."""

    dashboard: Json
    window: Window
    choices: list[Choice]
    chosen: Chosen
    asked: Mapping[str, Question]
    answers: Mapping[str, list[Sample]]


class Prometheus:
    """A server by its URL. Questions raise AssertionError where it refuses one, with what it said."""

    def __init__(self, url: str, client: httpx2.AsyncClient) -> None:
        self._url, self._client = url, client

    async def answered(self, dashboard: Json, window: Window, chosen: Chosen | None = None) -> Answered:
        chosen = chosen or {}
        choices: list[Choice] = []
        for one in variables.choices(dashboard):
            before = {choice.name: variables.written(choice, chosen) for choice in choices}
            narrowed = replace(one, metric=variables.filled(one.metric, before))
            choices.append(replace(one, values=await self._values(narrowed, window)))
        asked = questions.of_dashboard(dashboard, choices, chosen, window)
        answers = {where: await self.ask(question) for where, question in asked.items()}
        return Answered(dashboard, window, choices, chosen, asked, answers)

    async def ask(self, question: Question) -> list[Sample]:
        window = question.window
        if question.step is None:
            said = await self._call("query", {"query": question.promql, "time": window.end})
        else:
            first = window.start // question.step * question.step
            times = {"start": first, "end": window.end, "step": question.step}
            said = await self._call("query_range", {"query": question.promql, **times})
        if said["resultType"] == "scalar":
            return [{"metric": {}, "value": said["result"]}]
        found: list[Sample] = said["result"]
        return found

    async def _values(self, choice: Choice, window: Window) -> list[str]:
        query: dict[str, Any] = {"start": window.start, "end": window.end}
        if choice.metric:
            query["match[]"] = choice.metric
        found: list[str] = await self._call(f"label/{choice.label}/values", query, get=True)
        return found

    async def _call(self, path: str, parameters: dict[str, Any], *, get: bool = False) -> Any:
        url = f"{self._url}/api/v1/{path}"
        sent = self._client.get(url, params=parameters) if get else self._client.post(url, data=parameters)
        answer = (await sent).json()
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]
