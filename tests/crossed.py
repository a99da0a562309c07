"""Tests over several things at once: each of each in `make test`, all together in `make soak`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import cycle, islice, product
from typing import Any

import pytest

SOAK = bool(os.environ.get("SOAK"))


def crossed(**values: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrise by name. Each value comes at least once, beside different ones; in the soak each beside each."""
    if SOAK:
        return pytest.mark.parametrize(
            tuple(values), [pytest.param(*row, marks=pytest.mark.soak) for row in product(*values.values())]
        )
    return pytest.mark.parametrize(tuple(values), _diagonal(*values.values()))


def _diagonal(*values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """As many rows as the longest has values, through which the others go round.

    >>> _diagonal("ab", [1, 2, 3])
    [('a', 1), ('b', 2), ('a', 3)]
    """
    most = max(map(len, values))
    return list(zip(*(islice(cycle(one), most) for one in values), strict=True))
