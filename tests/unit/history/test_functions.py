"""What a function is told as."""

from __future__ import annotations

import re
from functools import partial

import pytest

from orchestrator.history import functions


def test_long_patterns_are_told_apart_by_their_ends() -> None:
    one, other = ("a" * 300 + end for end in "xy")
    assert functions.told(partial(str, re.compile(one))) != functions.told(partial(str, re.compile(other)))
    assert functions.told(partial(str, re.compile(one))) == functions.told(partial(str, re.compile(one)))


@pytest.mark.parametrize("flag", [re.IGNORECASE, re.ASCII])
def test_patterns_are_told_apart_by_their_flags(flag: re.RegexFlag) -> None:
    assert functions.told(partial(str, re.compile("a"))) != functions.told(partial(str, re.compile("a", flag)))
