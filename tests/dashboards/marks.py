"""Annotations: what marks a moment, or a time, on all graphs of a dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.dashboards import colours, series
from tests.dashboards.questions import Question, Sample

Json = dict[str, Any]


@dataclass(frozen=True)
class Mark:
    start: float
    end: float
    title: str
    text: str
    colour: str


def of(annotation: Json, question: Question, answer: Sequence[Sample]) -> list[Mark]:
    """Those in the question's window. Values above 0 in a row are one; or, where the annotation says so, each value
    that occurs is a moment in milliseconds."""
    made = _moments if annotation.get("useValueForTime") else _rows
    colour = colours.colour(annotation["iconColor"])
    found = []
    for line in series.read("", question, answer):
        title, text = (series.legend(annotation[key], line.labels) for key in ("titleFormat", "textFormat"))
        found += [Mark(start, end, title, text, colour) for start, end in made(line, question.step or 1)]
    return [mark for mark in found if mark.end >= question.window.start and mark.start <= question.window.end]


def _moments(line: series.Series, step: float) -> Iterator[tuple[float, float]]:
    for value in dict.fromkeys(value for _, value in line.points if value):
        yield value / 1000, value / 1000


def _rows(line: series.Series, step: float) -> Iterator[tuple[float, float]]:
    first = last = None
    for time, value in line.points:
        if not value or value < 0:
            continue
        if first is not None and last is not None and time > last + step:
            yield first, last
            first = None
        first, last = first if first is not None else time, time
    if first is not None and last is not None:
        yield first, last
