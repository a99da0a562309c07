"""Whether a failure came out of the rows of a tenant: what a backfill's function raises is kept out of the ledger, of
events and of logs, as are the values that a server shows (`plan.rowless`)."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep
_LOOP = str(Path(__file__).with_name("batches.py"))


def is_in_backfill(exc: BaseException) -> bool:
    """Whether it came out of a batch, by others' code: the function that is given the rows, a driver, SQLAlchemy."""
    for one in _chain(exc):
        files = [frame.filename for frame in traceback.extract_tb(one.__traceback__)]
        if _LOOP in files:
            return not files[-1].startswith(_PACKAGE)
    return False


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
