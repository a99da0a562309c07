"""Whether an answer passes a check, and what to say of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from orchestrator.execute import answers
from orchestrator.registry.model import Check

# So many of several that do not pass are named.
NAMED = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """`said` begins in small letters and goes on after a check's or a tenant's name."""

    passed: bool
    said: str


@dataclass(frozen=True, slots=True)
class Series:
    """What Prometheus answered of one series: (moment in Unix seconds, value). `labels` as they are written there."""

    labels: str
    samples: tuple[tuple[float, float], ...]


def of_rows(check: Check, rows: Sequence[tuple[object, ...]], *, booleans: bool = True) -> Finding:
    """`booleans` as in `answers`. Text is shown of a database that the check names, and of no tenant's.

    >>> of_rows(Check("queue", "sql", "", most=5), [(7,)]).said
    '7, allowed is at most 5'
    """
    if not rows:
        return Finding(False, "the answer has no row")
    if len(rows) > 1:
        return Finding(False, "the answer has more than one row")
    if not rows[0]:
        return Finding(False, "the answer has no column")
    value = rows[0][0]
    said = answers.shown(value, texts=check.shard is not None)
    if check.equals is not None:
        passed = answers.equals(value, check.equals, booleans=booleans)
    elif check.least is not None or check.most is not None:
        passed = answers.is_number(value) and within(check, value)
    elif answers.is_number(value) and (booleans or value not in (0, 1)):
        return Finding(False, f"{said} is neither true nor false: give the check `min`, `max` or `equals`")
    else:
        passed = answers.is_true(value, booleans=booleans)
    return Finding(passed, said if passed else f"{said}, {allowed(check)}")


def within(check: Check, value: float | Decimal) -> bool:
    """Whether a number is within the check's limits; what is infinite or not a number (NaN) never is."""
    if not math.isfinite(value):
        return False
    return (check.least is None or value >= check.least) and (check.most is None or value <= check.most)


def of_series(check: Check, series: Sequence[Series], moments: int) -> Finding:
    """Every sample must be within the limits, and there must be one at each of the `moments` that were asked for."""
    told = {moment for one in series for moment, _ in one.samples}
    if len(told) < moments and not check.empty_passes:
        if check.for_seconds and told:
            return Finding(False, f"no answer for {moments - len(told)} of {moments} moments of {_window(check)}")
        return Finding(False, "no answer: nothing matches the query")
    bad = [(one, found[0]) for one in series if (found := _outside(check, one))]
    if not bad:
        return Finding(True, _all_well(series))
    said = "; ".join(f"{one.labels}{' ' if one.labels else ''}{shown(value)}" for one, value in bad[:NAMED])
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    during = f" within {_window(check)}" if check.for_seconds else ""
    return Finding(False, f"{said}{more}{during}, {allowed(check)}")


def _outside(check: Check, series: Series) -> Sequence[float]:
    """The values that are not within the limits, the newest first."""
    return [value for _, value in reversed(series.samples) if not within(check, value)]


def _all_well(series: Sequence[Series]) -> str:
    newest = [shown(one.samples[-1][1]) for one in series if one.samples]
    if len(newest) == 1:
        return newest[0]
    return f"{len(newest)} series are within the limits" if newest else "nothing matches the query, as it should be"


def _window(check: Check) -> str:
    return f"the last {check.for_seconds:g} s"


def of_tenants(findings: Sequence[tuple[str, Finding]], unasked: int = 0) -> Finding:
    """One finding for many tenants: all must pass, and all must have been asked."""
    bad = [(name, finding) for name, finding in findings if not finding.passed]
    total = len(findings) + unasked
    if not bad and not unasked:
        return Finding(True, f"{_tenants(total)} pass" if total != 1 else f"{findings[0][0]}: {findings[0][1].said}")
    said = [f"{name}: {finding.said}" for name, finding in bad[:NAMED]]
    if len(bad) > NAMED:
        said.append(f"{len(bad) - NAMED} more")
    if unasked:
        said.append(f"{_tenants(unasked)} not asked in time")
    return Finding(False, f"{len(bad)} of {_tenants(total)} do not pass: {'; '.join(said)}")


def _tenants(number: int) -> str:
    return f"{number} tenant{'' if number == 1 else 's'}"


def allowed(check: Check) -> str:
    """
    >>> allowed(Check("c", "sql", "", least=1, most=5))
    'allowed is 1 to 5'
    """
    if check.equals is not None:
        return f"allowed is {shown(check.equals)}"
    if check.least is not None and check.most is not None:
        return f"allowed is {shown(check.least)} to {shown(check.most)}"
    if check.least is not None:
        return f"allowed is at least {shown(check.least)}"
    return f"allowed is at most {shown(check.most)}" if check.most is not None else "it must be true"


def shown(value: object) -> str:
    """A value of the operator's own, or of a database that is no tenant's."""
    return answers.shown(value, texts=True)
