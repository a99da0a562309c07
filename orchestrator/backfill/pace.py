"""How large the next batch is, and how long to rest before it. Pure.

The time that a row takes is learned from batches (a moving average of its logarithm, so that one slow batch counts as
what it is), and the next batch is made to last as long as it should. It grows slowly and shrinks fast.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from orchestrator.backfill.model import Ran, Refused, Stop
from orchestrator.registry.backfills import Rules

GROWTH = 1.2
# Below a size that was refused, it grows with care: else it would run into the same refusal every few batches.
CAREFUL_GROWTH = 1.05
SHRINKING = 0.5
# How much one batch counts against all before it.
WEIGHT = 0.2
# A size this near to the one that is wanted stays as it is; else it goes so much of the way, as a power.
NEAR = 0.15
APPROACH = 0.6
# After a batch that lasted so many times as long as it should, none is larger, whatever those before it were; and after
# several in a row each is so much smaller.
FAR = 2.0
SLOWING = 0.7
# Of the time after which the server ends a statement, a batch should last so much.
TIMEOUT_PART = 0.6
# So often the smallest batch, and so often in a row a deadlock's victim, is tried again as it was.
LAST_TRIES = 3
DEADLOCKS = 5
SHORTEST_REST_SECONDS, LONGEST_REST_SECONDS = 0.1, 5.0
# Whoever pauses it, or a signal, is heeded after this at the latest, where batches are small.
UNASKED_SECONDS = 0.5
_LEAST_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of one backfill's batches. `size`: rows of the next one. `asked`: what its revision asks for.

    `row_seconds`: what a row takes; None before the first batch. `timeout_seconds`: after how long the server has ended
    a statement; None while it has ended none. `refused_size`: what the server last refused, until such a batch goes
    through. `slow`: how many in a row lasted far too long. `refusals`: how often the smallest was refused in a row,
    `deadlocks`: how often any was. `rest_seconds`: to wait before the next batch.
    """

    size: int
    asked: int
    row_seconds: float | None = None
    timeout_seconds: float | None = None
    refused_size: int | None = None
    slow: int = 0
    refusals: int = 0
    deadlocks: int = 0
    rest_seconds: float = 0.0


def begin(batch_size: int, rules: Rules) -> Pace:
    """Before the first batch; `batch_size` is what the revision asks for."""
    return resized(Pace(batch_size, batch_size), rules)


def resized(pace: Pace, rules: Rules) -> Pace:
    """The same under other rules: what they say of the size counts for the next batch."""
    size = pace.size if rules.batch_size is None or pace.refused_size is not None else rules.batch_size
    return replace(pace, size=_within(size, pace, rules))


def after(pace: Pace, last: Ran | Refused, rules: Rules) -> Pace | Stop:
    """What came of a batch. `Stop` tells what was refused; the loop knows between which keys that was."""
    if isinstance(last, Refused):
        return _refused(pace, last, rules)
    rest = last.seconds * (1 / rules.duty - 1) if rules.duty > 0 else 0.0
    slow = pace.slow + 1 if last.seconds > FAR * rules.target_seconds else 0
    pace = replace(pace, slow=slow, refusals=0, deadlocks=0, rest_seconds=rest)
    if last.size < 1 or (last.seen < last.size and last.seconds <= rules.target_seconds):
        return resized(pace, rules)  # the end of a table does not tell how long a whole batch takes
    cleared = pace.refused_size is not None and last.size >= pace.refused_size
    pace = replace(pace, row_seconds=_learned(pace, last), refused_size=None if cleared else pace.refused_size)
    return replace(pace, size=_within(_grown(pace, last, rules), pace, rules))


def unasked_seconds(pace: Pace, last: Ran | Refused | None, rules: Rules) -> float:
    """For how long small batches may follow one another without a question, which takes a millisecond: as long as one
    batch should last, where nothing that they tell would change the answer.

    >>> steady = Pace(size=1000, asked=1000)
    >>> unasked_seconds(steady, Ran(1000, 1000, 7, 0.1), Rules()), unasked_seconds(steady, None, Rules())
    (0.4, 0.0)
    >>> unasked_seconds(steady, Ran(1000, 1000, 7, 0.1), Rules(duty=0.5))
    0.0
    """
    if not isinstance(last, Ran) or not last.seen == last.size == pace.size:
        return 0.0
    learns = pace.refused_size is not None or pace.slow or rules.duty < 1
    return 0.0 if learns else max(0.0, min(rules.target_seconds, UNASKED_SECONDS) - last.seconds)


def _learned(pace: Pace, last: Ran) -> float:
    seen = max(last.seconds, _LEAST_SECONDS) / last.size
    if pace.row_seconds is None:
        return seen
    return math.exp((1 - WEIGHT) * math.log(pace.row_seconds) + WEIGHT * math.log(seen))


def _grown(pace: Pace, last: Ran, rules: Rules) -> float:
    """The size that is wanted, as far as one step goes from what ran. A budget may have made that a smaller one."""
    if rules.batch_size is not None and pace.refused_size is None:
        return rules.batch_size
    if rules.batch_size is not None:
        wanted: float = rules.batch_size
    else:
        wanted = _target(pace, rules) / (pace.row_seconds or _LEAST_SECONDS)
        if pace.slow < 2 and abs(wanted - pace.size) <= NEAR * pace.size and last.size >= pace.size:
            return pace.size
        wanted = last.size * (wanted / last.size) ** APPROACH
        if pace.slow:
            wanted = min(wanted, last.size * SLOWING ** (pace.slow - 1))
    growth = GROWTH if pace.refused_size is None else CAREFUL_GROWTH
    return min(max(wanted, last.size * SHRINKING), max(last.size * growth, last.size + 1))


def _target(pace: Pace, rules: Rules) -> float:
    """What a batch should last. Where the server ends statements sooner, well before that."""
    if pace.timeout_seconds is None:
        return rules.target_seconds
    return min(rules.target_seconds, pace.timeout_seconds * TIMEOUT_PART)


def _refused(pace: Pace, last: Refused, rules: Rules) -> Pace | Stop:
    if last.reason == "deadlock" and pace.deadlocks < DEADLOCKS:
        rest = min(SHORTEST_REST_SECONDS * 2**pace.deadlocks, LONGEST_REST_SECONDS)
        return replace(pace, deadlocks=pace.deadlocks + 1, rest_seconds=rest)
    if last.reason == "statement_timeout":
        pace = replace(pace, timeout_seconds=last.seconds)
    smallest = _smallest(pace, rules)
    if last.size > smallest:
        size = _within(last.size * SHRINKING, pace, rules)
        rest = 0.0 if last.reason == "statement_timeout" else SHORTEST_REST_SECONDS
        return replace(pace, size=size, refused_size=last.size, refusals=0, rest_seconds=rest)
    refusals = pace.refusals + 1
    if refusals >= LAST_TRIES:
        return Stop("too_slow", _said(last, refusals))
    rest = min(2.0 ** (refusals - 1), LONGEST_REST_SECONDS)
    return replace(pace, size=last.size, refused_size=last.size, refusals=refusals, rest_seconds=rest)


def _said(last: Refused, times: int) -> str:
    why = {
        "lock_timeout": "others held its rows for longer than the lock timeout",
        "statement_timeout": "it took longer than the statement timeout",
        "deadlock": "it was a deadlock's victim",
    }[last.reason]
    rows = "1 row" if last.size == 1 else f"{last.size:,} rows"
    return f"a batch of {rows}, the smallest there is, was refused {times} times: {why}"


def _smallest(pace: Pace, rules: Rules) -> int:
    """Never more than what the revision asks for, or a person: whoever asks for 5 rows at once means it."""
    return max(1, min(rules.smallest, pace.asked, rules.batch_size or rules.smallest))


def _within(size: float, pace: Pace, rules: Rules) -> int:
    largest = rules.largest if rules.batch_size is None else rules.batch_size
    return max(_smallest(pace, rules), min(int(size), largest))
