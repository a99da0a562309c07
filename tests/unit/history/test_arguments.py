"""However env.py comes by the tenant's name, it is known that it has."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.history.arguments import Arguments

WAYS: dict[str, Callable[[Any], object]] = {
    "get": lambda given: given.get("tenant"),
    "pop": lambda given: given.pop("tenant"),
    "setdefault": lambda given: given.setdefault("tenant", "other"),
    "popitem": lambda given: [given.popitem() for _ in range(2)],
    "items": lambda given: [*given.items()],
    "keys": lambda given: [*given.keys()],
    "values": lambda given: [*given.values()],
    "copy": lambda given: given.copy()["tenant"],
}
# They tell nothing of what is in it.
SILENT = {"clear", "fromkeys", "update"}
OPERATORS: list[Callable[[Any], object]] = [
    lambda given: given["tenant"],
    lambda given: "tenant" in given,
    lambda given: [*given],
    lambda given: {**given},
    dict,
    lambda given: given | {},
    lambda given: {} | given,
    lambda given: [*reversed(given)],
    lambda given: given == {"tenant": "acme", "other": "x"},
    str,
    repr,
    lambda given: f"{given}",
    json.dumps,
    copy.copy,
]


def test_every_method_of_a_dictionary_is_one_of_these() -> None:
    assert {name for name in dir(dict) if not name.startswith("_")} == {*WAYS, *SILENT}


@pytest.mark.parametrize("way", [*WAYS.values(), *OPERATORS])
def test_whoever_looks_for_the_tenant_is_noticed(way: Callable[[Any], object]) -> None:
    asked: list[str] = []
    way(Arguments({"other": "x", "tenant": "acme"}, asked.append))
    assert "tenant" in asked


def test_whoever_looks_for_something_else_is_not() -> None:
    asked: list[str] = []
    given = Arguments({"other": "x", "tenant": "acme"}, asked.append)
    assert (given["other"], given.get("more"), given.pop("other", None)) == ("x", None, "x")
    assert asked == ["other", "more", "other"]
