from __future__ import annotations

import dataclasses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import SelectorError
from orchestrator.registry import selector
from orchestrator.registry.model import Target

ACME = Target("acme", "app", "pg-eu-1", "acme", labels={"tier": "free", "region": "eu", "note": "a, b", "empty": ""})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "tier",
        "!legacy",
        "! legacy",
        "tier=free",
        "tier==free",
        "tier = free , region=eu",
        "tier!=paid",
        "legacy!=x",
        "region in (eu,us)",
        "region in(us, eu)",
        "region notin (us,ap)",
        "legacy notin (x)",
        "tier=free,region in (eu,us),!legacy",
        "tenant=acme",
        "tenant=ac*",
        "tenant=[ab]cm?",
        "shard=pg-eu-*",
        "shard in (pg-us-*,pg-eu-*)",
        "track=app",
        "track",
        "tier=f*",
        'note="a, b"',
        "note='a, b'",
        'empty=""',
        "region in (us,\n  eu)",
    ],
)
def test_selectors_that_take_acme(text: str) -> None:
    assert selector.parse(text).matches(ACME)


@pytest.mark.parametrize(
    "text",
    [
        "legacy",
        "!tier",
        "!tenant",
        "tier=paid",
        "tier!=free",
        "tier!=fr*",
        "region in (us,ap)",
        "region notin (eu)",
        "legacy=x",
        "tier=free,region=us",
        "tenant=Acme",
        "tenant=*b*",
        'tenant="ac*"',
        "tenant=[!a]*",
    ],
)
def test_selectors_that_leave_acme_out(text: str) -> None:
    assert not selector.parse(text).matches(ACME)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("  ", ""),
        (" tier == free ,! legacy", "tier=free,!legacy"),
        ("region in ( eu )", "region=eu"),
        ("region notin ( eu )", "region!=eu"),
        ("region   in (eu , us)", "region in (eu,us)"),
        ("a='b'", "a=b"),
        ("a='b*'", 'a="b*"'),
        ("a='b c'", 'a="b c"'),
        ("""a='"'""", r'a="\""'),
        (r"""a="\\\"" """, r'a="\\\""'),
        ("a=''", 'a=""'),
        ("in in (in)", "in=in"),
    ],
)
def test_selectors_have_one_way_to_be_written(text: str, canonical: str) -> None:
    assert str(selector.parse(text)) == canonical
    assert selector.parse(canonical) == selector.parse(text)


@pytest.mark.parametrize(
    ("text", "at", "problem"),
    [
        (",", 0, "a label's key is expected"),
        ("tier=free,", 10, "a label's key is expected"),
        ("!", 1, "a label's key is expected"),
        ("=x", 0, "a label's key is expected"),
        ("tier=", 5, "a value is expected"),
        ("tier= ,x", 6, "a value is expected"),
        ("tier=!x", 5, "a value is expected"),
        ("tier===x", 6, "a value is expected"),
        ("tier in eu", 8, "in parentheses is expected"),
        ("tier in", 7, "in parentheses is expected"),
        ("tier in ()", 9, "a value is expected"),
        ("tier in (a", 10, "a closing parenthesis is expected"),
        ("tier in (a b)", 11, "a closing parenthesis is expected"),
        ("tier=free region=eu", 10, "a comma is expected between"),
        ('tier="free', 5, "this quote is not closed"),
        ("tier='a\\'", 5, "this quote is not closed"),
        ("a=b)", 3, "a comma is expected between"),
    ],
)
def test_what_cannot_be_read_is_pointed_at(text: str, at: int, problem: str) -> None:
    with pytest.raises(SelectorError) as caught:
        selector.parse(text)
    assert problem in caught.value.message
    assert caught.value.message.splitlines()[-1] == "  " + " " * at + "^"
    assert selector.EXAMPLE in str(caught.value)


def test_control_characters_do_not_move_the_caret() -> None:
    with pytest.raises(SelectorError) as caught:
        selector.parse("a,\n\t,")
    assert caught.value.message.splitlines()[1:] == ["  a,··,", "      ^"]


def test_selectors_are_values() -> None:
    parsed = selector.parse("tier=free")
    assert len({parsed, selector.parse("tier==free")}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed.requirements = ()  # type: ignore[misc]


WORDS = st.sampled_from(
    ["tier", "in", "notin", "(", ")", ",", "=", "==", "!=", "!", " ", '"', "'", "\\", "*", "[", "]", "-", "a"]
)


@settings(deadline=None)
@given(st.one_of(st.text(max_size=30), st.lists(WORDS, max_size=12).map("".join)))
@example("a=[z-a]")
@example("a=[[a]")
@example("a=[a--b]")
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        parsed = selector.parse(text)
    except SelectorError:
        return
    assert selector.parse(str(parsed)) == parsed
    parsed.matches(ACME)


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_value_can_be_written_in_quotes(value: str, other: str) -> None:
    written = str(selector.Requirement("note", "in", (selector.Value(value),)))
    parsed = selector.parse(written)
    assert parsed.matches(dataclasses.replace(ACME, labels={"note": value}))
    assert parsed.matches(dataclasses.replace(ACME, labels={"note": other})) is (value == other)
