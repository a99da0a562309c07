"""Keys as they are kept: what is written comes back, and what lies before a key is less than it."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backfill import keys

VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.text(),
    st.uuids(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.binary(),
)


@given(st.lists(VALUES, min_size=1, max_size=4).map(tuple))
def test_what_is_written_comes_back(key: tuple[Any, ...]) -> None:
    back = keys.read(keys.written(key))
    assert back == key
    assert [type(value) for value in back] == [type(value) for value in key]


@given(
    st.one_of(
        st.integers(),
        st.text(min_size=1),
        st.uuids().filter(lambda value: value.int > 0),
        st.datetimes(min_value=datetime.min + timedelta(days=1)),
        st.dates(min_value=date.min + timedelta(days=1)),
        st.times(min_value=time(0, 0, 0, 1)),
        st.decimals(-(10**9), 10**9, places=3),
        st.decimals(-(10**60), 10**60, places=30),
        st.binary(min_size=1),
    )
)
def test_what_comes_before_is_less(value: Any) -> None:
    found = keys.before((3, value))
    assert found is not None
    assert found[0] == 3
    assert found[1] < value


def test_nothing_comes_before_an_empty_text() -> None:
    assert keys.before(("",)) is None
    assert keys.before((b"",)) is None


@pytest.mark.parametrize("value", [datetime.min, date.min, time.min, Decimal("-Infinity"), Decimal("NaN")])
def test_nothing_comes_before_the_first_of_all(value: Any) -> None:
    assert keys.before((value,)) is None


def test_a_long_number_is_exactly_one_more_than_what_comes_before() -> None:
    assert keys.before((Decimal("123456789012345678901234567890123456.25"),)) == (
        Decimal("123456789012345678901234567890123455.25"),
    )


@pytest.mark.parametrize("value", [None, True, float("nan"), float("inf"), ["a"]])
def test_values_to_go_by_are_few(value: Any) -> None:
    with pytest.raises(TypeError, match="is no key to go by"):
        keys.written((value,))


def test_a_datetime_is_not_kept_as_a_date() -> None:
    assert keys.written((datetime(2026, 1, 2),)) == '[{"datetime": "2026-01-02T00:00:00"}]'
    assert keys.written((Decimal("1.50"),)) == '[{"decimal": "1.50"}]'


def test_moments_of_the_hour_that_comes_twice_are_two() -> None:
    moments = [datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold) for fold in (0, 1)]
    first, second = (keys.plainly([moment]) for moment in moments)
    assert first < second
    assert keys.read(keys.written(first)) == first
