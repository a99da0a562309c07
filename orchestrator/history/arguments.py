"""What `-x` gave env.py, as a dictionary that tells who looks for the tenant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

TENANT = "tenant"


class Arguments(dict[str, str]):
    """`asked` is told each key that is looked for, and the tenant's by whoever looks at all of them."""

    def __init__(self, given: Mapping[str, str], asked: Callable[[str], None]) -> None:
        super().__init__(given)
        self._asked = asked


def _of_one(name: str) -> Callable[..., Any]:
    def method(self: Any, key: object, *rest: Any, **named: Any) -> Any:
        self._asked(str(key))
        return getattr(super(Arguments, self), name)(key, *rest, **named)

    return method


def _of_all(name: str) -> Callable[..., Any]:
    def method(self: Any, *rest: Any) -> Any:
        self._asked(TENANT)
        return getattr(super(Arguments, self), name)(*rest)

    return method


for _name in ("__getitem__", "__contains__", "get", "pop", "setdefault"):
    setattr(Arguments, _name, _of_one(_name))
# Iterating is also what `{**arguments}` and `dict(arguments)` do.
for _name in ("__iter__", "__reversed__", "items", "keys", "values", "copy", "popitem"):
    setattr(Arguments, _name, _of_all(_name))
for _name in ("__or__", "__ror__", "__eq__", "__ne__", "__repr__", "__str__", "__format__", "__reduce_ex__"):
    setattr(Arguments, _name, _of_all(_name))
