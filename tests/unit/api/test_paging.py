from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api import paging


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300), st.integers(-1, 2**31 - 1)
)
def test_a_cursor_comes_back_as_its_place(name: str, number: int) -> None:
    assert paging.decode(paging.encode("tenants", name), "tenants", str) == name
    assert paging.decode(paging.encode("migrations", number), "migrations", int) == number
    assert paging.encode("tenants", name).isascii()


@given(st.text(max_size=40))
def test_anything_else_is_no_cursor(text: str) -> None:
    with pytest.raises(paging.CursorError):
        paging.decode(text, "tenants", str)


@pytest.mark.parametrize(
    "cursor",
    [
        paging.encode("rollouts", "acme"),
        paging.encode("tenants", 7),
        paging.encode("tenants", True),
    ],
)
def test_a_cursor_of_another_listing_is_refused(cursor: str) -> None:
    with pytest.raises(paging.CursorError):
        paging.decode(cursor, "tenants", str)
    with pytest.raises(paging.CursorError):
        paging.decode(paging.encode("migrations", True), "migrations", int)


@pytest.mark.parametrize("place", ["a\0b", "\ud800", "x" * 1001])
def test_a_place_that_no_database_can_look_up_is_refused(place: str) -> None:
    with pytest.raises(paging.CursorError):
        paging.decode(paging.encode("tenants", place), "tenants", str)


@pytest.mark.parametrize("place", [-2, 2**31, 10**30, -(10**30)])
def test_a_number_that_no_database_can_look_up_is_refused(place: int) -> None:
    with pytest.raises(paging.CursorError):
        paging.decode(paging.encode("migrations", place), "migrations", int)


@given(st.lists(st.integers(0, 1000), unique=True).map(sorted), st.integers(1, 10))
def test_pages_hold_everything_once(items: list[int], limit: int) -> None:
    seen: list[int] = []
    after, cursor = -1, ""
    while cursor is not None:
        rest = [item for item in items if item > after]
        page, following = paging.cut(rest[: limit + 1], limit, "numbers", int)
        seen += page
        assert len(page) <= limit
        if following is None:
            break
        cursor = following
        after = paging.decode(cursor, "numbers", int)
    assert seen == items
