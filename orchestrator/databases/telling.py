"""Tell of what a target's server is sent while compiled SQL is replayed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from orchestrator.errors import TargetError
from orchestrator.events import Statement, now


@contextmanager
def told(on_sent: Callable[[Statement], None], statement: Callable[[datetime, float], Statement]) -> Iterator[None]:
    """Tell of what is sent within, also where it fails. `statement` makes it, of when it began and its seconds."""
    began_at, began = now(), time.monotonic()
    failed, code = True, None
    try:
        yield
        failed = False
    except TargetError as exc:
        code = exc.code
        raise
    finally:
        on_sent(replace(statement(began_at, time.monotonic() - began), failed=failed, code=code))
