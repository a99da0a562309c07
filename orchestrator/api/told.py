"""What is said of an operation, or of a status, in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from orchestrator.api.problems import Problem


@dataclass(frozen=True)
class Told:
    """One operation. `answers` are examples by status, `asks` those of its body; `problems` are those that its shape
    does not tell (see `openapi.statuses`); `description` goes over its docstring."""

    summary: str
    answers: Mapping[HTTPStatus, dict[str, Any]]
    asks: dict[str, Any] = field(default_factory=dict)
    problems: tuple[HTTPStatus, ...] = ()
    description: str | None = None


@dataclass(frozen=True)
class Problems:
    """What a status stands for."""

    description: str
    examples: tuple[Problem, ...]
