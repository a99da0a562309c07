"""The whole example, changed in places; and single values, whatever they hold."""

from __future__ import annotations

import copy
import math
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.errors import RegistryError, SelectorError
from orchestrator.registry import forms, manifest, selector
from tests.unit.registry.files import write

EXAMPLE = (Path(__file__).parents[3] / "tenants.example.yaml").read_text()
TREE = yaml.load(EXAMPLE, yaml.BaseLoader)
SECRET = "s3cret-word"
ENVIRON = dict.fromkeys(re.findall(r"\$\{(\w+)", EXAMPLE), SECRET) | {
    "PG_US_1_URL": f"postgresql://u:{SECRET}@h",
    "HOOK_SECRET": SECRET * 8,
    "SLACK_WEBHOOK_URL": f"https://chat.internal/hooks/{SECRET}",
}
LONG = settings(
    deadline=None,
    max_examples=3000 if os.environ.get("SOAK") else 60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ODD = st.sampled_from(
    ["", " ", "0", "-1", "1e999", "nan", "5m ", "1%", "101%", "%", "null", "${", "${X}", "${file:}", "\0", "\ud800"]
)
WORDS = st.sampled_from(["app", "pg-eu-1", "acme", "head", "canary", "true", "*", "tier=free", "sqlite:///x", "10m"])
NUMBERS = st.from_regex(r"\A[0-9]{1,9}(\.[0-9]{1,6})?[smhd%]?\Z")
SCALARS = st.one_of(st.none(), ODD, WORDS, st.text(max_size=8), st.integers(), st.floats(allow_nan=False))
Refused = TypeVar("Refused", bound=Exception)


def caught(kind: type[Refused], ask: Callable[[], object]) -> Refused | None:
    """The error of that kind; any other goes through."""
    try:
        ask()
    except kind as exc:
        return exc
    return None


def places(node: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of the tree."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [where, *(place for key, child in children for place in places(child, (*where, key)))]


PLACES = places(TREE)[1:]


def at(tree: Any, where: tuple[Any, ...]) -> Any:
    for part in where:
        tree = tree[part]
    return tree


def changed(data: st.DataObject) -> Any:
    """The example with one to three values left out, replaced, renamed, or given twice."""
    tree = copy.deepcopy(TREE)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, last = data.draw(st.sampled_from(PLACES))
        try:
            holder = at(tree, tuple(above))
            value = holder[last]
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has taken it away
        match data.draw(st.sampled_from(["drop", "scalar", "another", "wrap", "rename", "twice"])):
            case "drop":
                del holder[last]
            case "scalar":
                holder[last] = data.draw(SCALARS)
            case "another":
                holder[last] = copy.deepcopy(at(TREE, data.draw(st.sampled_from(PLACES))))
            case "wrap":
                holder[last] = data.draw(st.sampled_from([[value], {"x": value}, [value, value]]))
            case "rename" if isinstance(holder, dict):
                holder[str(data.draw(SCALARS))] = holder.pop(last)
            case "twice" if isinstance(holder, list):
                holder.append(copy.deepcopy(value))
    return tree


@pytest.mark.soak
@LONG
@given(st.data())
def test_the_example_with_something_changed_is_read_or_every_mistake_has_its_place(data: st.DataObject) -> None:
    text = yaml.safe_dump(changed(data), allow_unicode=True, sort_keys=False)
    last = len(text.splitlines()) + 1
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), "")
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        refused = caught(RegistryError, lambda: manifest.load(path, ENVIRON))
    if refused is None:
        return
    assert SECRET not in str(refused)
    assert refused.mistakes
    for mistake in refused.mistakes:
        assert 1 <= mistake.line <= last, str(mistake)
        assert mistake.column >= 1, str(mistake)
        assert mistake.message.strip()


def test_the_example_itself_is_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert manifest.load(write(Path(folder), EXAMPLE), ENVIRON).targets


@settings(deadline=None)
@given(st.text(max_size=20) | ODD | NUMBERS)
def test_any_limit_is_a_count_or_a_percentage(text: str) -> None:
    if (refused := caught(ValueError, lambda: forms.limit(text))) is not None:
        assert "2%" in str(refused)
        return
    count, percent = forms.limit(text)
    assert (count is None) != (percent is None)
    assert count is None or 0 <= count < 10**9
    assert percent is None or 0 <= percent <= 100
    assert re.fullmatch(r"[0-9]+(\.[0-9]+)?%?", text), "as the JSON Schema says it"


@settings(deadline=None)
@given(st.one_of(st.text(max_size=20), ODD, st.none(), st.floats(), NUMBERS))
def test_any_duration_is_seconds_or_refused(value: object) -> None:
    for read, least in ((forms._seconds, 1), (forms._soak, 0)):
        if (refused := caught(ValueError, lambda read=read: read(value))) is not None:  # type: ignore[misc]
            assert "duration" in str(refused)
            continue
        seconds = read(value)
        assert least <= seconds <= 10**6 * 86_400
        assert math.isfinite(seconds)
        assert re.fullmatch(r"[0-9]+(\.[0-9]+)?[smhd]?", str(value)), "as the JSON Schema says it"


@pytest.mark.parametrize("text", ["\N{ARABIC-INDIC DIGIT THREE}", "1\N{DEVANAGARI DIGIT TWO}", "5\n"])
def test_digits_are_those_of_ascii(text: str) -> None:
    for read in (forms.limit, forms._seconds, forms._soak):
        with pytest.raises(ValueError, match="this must be"):
            read(text)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_a_selector_is_read_or_its_mistake_is_pointed_at(text: str) -> None:
    if (refused := caught(SelectorError, lambda: selector.parse(text))) is None:
        return
    _, *shown, caret = refused.message.split("\n")
    assert len(shown) == 1, "one line, whatever is in it"
    assert caret.strip() == "^"
    assert len(caret) <= len(text) + 3, "it points into the text, or right behind it"
    assert refused.remedy


@pytest.mark.parametrize(
    "text", ["a," * 5000 + "a", "a in (" + "b," * 4000 + "c)", "'" * 9000, "a='" + "\\" * 9000, "a=" + "*a" * 4000]
)
def test_a_long_selector_is_read_or_refused_as_a_short_one(text: str) -> None:
    refused = caught(SelectorError, lambda: selector.parse(text))
    assert refused is None or len(refused.message) < 3 * len(text) + 200
