from __future__ import annotations

import pytest

from orchestrator.errors import StoreError
from orchestrator.service.repeating import again_and_again

AWAY = StoreError("no answer")


async def test_an_outage_is_told_once_until_there_was_an_answer_and_others_are_raised() -> None:
    coming: list[Exception | None] = [AWAY, AWAY, None, AWAY, None, ValueError("a bug")]
    left: list[Exception | None] = list(coming)
    told: list[StoreError] = []

    async def once() -> None:
        if (exc := left.pop(0)) is not None:
            raise exc

    with pytest.raises(ValueError, match="a bug"):
        await again_and_again(once, told.append, 0.0)
    assert (left, told) == ([], [AWAY, AWAY])
