"""What a person orders while backfills run, and of which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

Action = Literal["pause", "resume", "abort", "adjust"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Which backfills: all that is given must fit; a scope that gives nothing is all of them.

    >>> Scope(tenant="acme").covers("r1", "pg-1", "acme", "4d5e6f")
    True
    """

    rollout: str | None = None
    shard: str | None = None
    tenant: str | None = None
    revision: str | None = None

    def covers(self, rollout: str, shard: str, tenant: str, revision: str) -> bool:
        pairs = ((self.rollout, rollout), (self.shard, shard), (self.tenant, tenant), (self.revision, revision))
        return all(wanted is None or wanted == found for wanted, found in pairs)

    def holds(self, other: Scope) -> bool:
        """Whether the other one lies within this one, as far as the names tell: it names all that this one names.

        >>> Scope(shard="pg-1").holds(Scope(shard="pg-1", tenant="acme")), Scope(tenant="acme").holds(Scope())
        (True, False)
        """
        return all(wanted is None or wanted == found for wanted, found in zip(_parts(self), _parts(other), strict=True))

    def shared(self, other: Scope) -> Scope | None:
        """What both cover; None where they contradict each other.

        >>> Scope(shard="pg-1").shared(Scope(tenant="acme"))
        Scope(rollout=None, shard='pg-1', tenant='acme', revision=None)
        """
        pairs = list(zip(_parts(self), _parts(other), strict=True))
        if any(one is not None and two is not None and one != two for one, two in pairs):
            return None
        return Scope(*(two if one is None else one for one, two in pairs))


def _parts(scope: Scope) -> tuple[str | None, ...]:
    return scope.rollout, scope.shard, scope.tenant, scope.revision


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is other than the registry says; None, and what is not named: as it says. `rows_per_second` is a shard's,
    shared by its backfills (0: no budget); `duty` from above 0 to 1; `batch_size` in rows, fixed;
    `thresholds`: by name of signal, the value above which backfills are held."""

    rows_per_second: float | None = None
    duty: float | None = None
    batch_size: int | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """One order, as it is kept. A `resume` takes back each `pause` whose scope lies within its own; `adjust` replaces
    the adjustment of the same scope, and takes it back where it names nothing. `abort` counts for what runs when it is
    carried out. `at`: by the clock of whoever carries it out, once somebody has."""

    scope: Scope
    action: Action
    by: str
    at: datetime
    reason: str | None = None
    adjustment: Adjustment | None = None
