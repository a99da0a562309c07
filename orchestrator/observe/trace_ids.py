"""The ids of traces and spans. Pure.

Those of a rollout and its waves follow from the rollout's own id: a daemon that goes on with a rollout after a restart,
or takes it over, goes on in the same trace, and knows the parents that it never saw begin.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


class Link(NamedTuple):
    """Somebody else's span, as `traceparent` names it."""

    trace_id: int
    span_id: int
    flags: int


def of_rollout(rollout: str) -> int:
    """The id of its trace.

    >>> shown_trace(of_rollout("20261121-040506-abcd"))
    '9cf23b31f157094775e56d315ed588ca'
    """
    return _derived(16, "trace", rollout)


def of_span(rollout: str, wave: str | None = None, *, attempt: int = 1, visit: int = 1) -> int:
    """The id of a rollout's own span, or of a wave's; `attempt` and `visit` count runs of the rollout, and visits to
    the wave in that run.

    >>> shown_span(of_span("20261121-040506-abcd")), shown_span(of_span("20261121-040506-abcd", "canary"))
    ('aba300da50b521c3', 'dcac55e0eb8365ca')
    """
    further = [f"run {attempt}"] if attempt > 1 else []
    if wave is None:
        return _derived(8, "rollout", rollout, *further)
    return _derived(8, "wave", rollout, wave, *further, *([f"visit {visit}"] if visit > 1 else []))


def shown_trace(trace_id: int) -> str:
    return f"{trace_id:032x}"


def shown_span(span_id: int) -> str:
    return f"{span_id:016x}"


def link(traceparent: str) -> Link | None:
    """What a header says (https://www.w3.org/TR/trace-context/); None for one that is not well formed.

    >>> link("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").flags
    1
    >>> link("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), link("latest")
    (None, None)
    """
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or found[1] == "ff" or (found[1] == "00" and found[5]):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return Link(trace_id, span_id, int(found[4], 16)) if trace_id and span_id else None


def _derived(size: int, *parts: str) -> int:
    """Never 0, which no trace and no span may have."""
    digest = hashlib.sha256("\0".join(("orchestrator", *parts)).encode()).digest()
    return int.from_bytes(digest[:size], "big") or 1
