"""The variables of a dashboard: which values they may have, and what they become in a query."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Chosen = Mapping[str, Sequence[str]]  # values by the name of a variable; one that is not named has all

_REFERENCE = re.compile(r"\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]")
_LABEL_VALUES = re.compile(r"label_values\(\s*(?:(?P<metric>.+?)\s*,\s*)?(?P<label>\w+)\s*\)")


@dataclass(frozen=True)
class Choice:
    """A variable that is asked of Prometheus: the values of `label` among the series that `metric` selects.
    `instead`: what `All` becomes where the dashboard says so. `single`: one at a time, and the first unless chosen."""

    name: str
    title: str
    label: str
    metric: str
    instead: str = ""
    hidden: bool = False
    values: Sequence[str] = field(default=())
    single: bool = False


def choices(dashboard: Json) -> list[Choice]:
    """Raises ValueError for a variable of a kind that our dashboards have not had."""
    return [_choice(one) for one in dashboard["templating"]["list"] if one["type"] != "datasource"]


def _choice(variable: Json) -> Choice:
    found = _LABEL_VALUES.fullmatch(variable["query"]["query"]) if variable["type"] == "query" else None
    if found is None:
        raise ValueError(f"variable {variable['name']}: not known how to ask for its values")
    title = variable.get("label") or variable["name"]
    hidden = bool(variable.get("hide"))
    instead, single = variable.get("allValue") or "", not variable.get("multi")
    return Choice(variable["name"], title, found["label"], found["metric"] or "", instead, hidden, single=single)


def written(choice: Choice, chosen: Chosen) -> str:
    """What stands in a query in place of the variable, as Grafana writes it for Prometheus.

    >>> track = Choice("track", "Track", "track", "m", ".*", values=("app", "a.b"))
    >>> written(track, {}), written(track, {"track": ["a.b"]}), written(track, {"track": ["app", "a.b"]})
    ('.*', 'a\\\\\\\\.b', '(app|a\\\\\\\\.b)')
    """
    taken = chosen.get(choice.name)
    if choice.single:
        return next(iter(taken or choice.values), "")
    if taken is None and choice.instead:
        return choice.instead
    escaped = [_escaped(value) for value in (choice.values if taken is None else taken)]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _escaped(value: str) -> str:
    """As a part of a regular expression that stands in a string of PromQL."""
    doubled = value.replace("\\", "\\" * 4)
    return re.sub(r"([$^*{}\[\]'+?.()|])", r"\\\\\1", doubled)


def shown(choice: Choice, chosen: Chosen) -> str:
    if choice.single:
        return written(choice, chosen)
    return " + ".join(chosen.get(choice.name, ["All"]))


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables replaced; one that is not known stays, as it does in Grafana.

    >>> filled("rate(a{b=~'$b'}[$__rate_interval]) ${c:regex} $d", {"b": "x", "__rate_interval": "4s", "c": "y"})
    "rate(a{b=~'x'}[4s]) y $d"
    """
    return _REFERENCE.sub(lambda found: values.get(found[1] or found[2] or found[3], found[0]), text)
