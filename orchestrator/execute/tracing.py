"""What was sent to a target, segment by segment: told for whoever makes traces, and otherwise not even noted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestrator.databases.base import Place
from orchestrator.errors import OrchestratorError, TargetError
from orchestrator.events import Event, SegmentRan, Statement, now
from orchestrator.history.traced import NAMED, Traced

# How a segment ended that no error of its target has ended.
CANCELLED, STOPPED, BUG = "cancelled", "stopped", "bug"


@dataclass(slots=True)
class Segment:
    """One that is underway."""

    statements: list[Statement] = field(default_factory=list)
    unnamed: int = 0

    def heard(self, traced: Traced) -> None:
        """What a worker tells at its end; called from the thread that listens to it."""
        self.statements += traced.statements
        self.unnamed += traced.unnamed


class Tracing:
    """Of one attempt at a target. `who`: the fields that name its migration in events."""

    def __init__(
        self, place: Place | None, who: Mapping[str, Any], publish: Callable[[Event], None] | None = None
    ) -> None:
        self._place, self._who, self._publish = place, who, publish

    @contextmanager
    def segment(self, execution: str, revisions: Sequence[str]) -> Iterator[Segment | None]:
        """Tell of what is carried out within, however it ends; yields None where nobody wants to know."""
        if self._place is None or self._publish is None:
            yield None
            return
        segment, began_at, began = Segment(), now(), time.monotonic()
        kind: str | None = CANCELLED
        code: str | None = None
        try:
            yield segment
            kind = None
        except TargetError as exc:
            kind, code = exc.kind, exc.code
            raise
        except OrchestratorError:  # the store's, which ends the rollout's work here
            kind = STOPPED
            raise
        except Exception:
            kind = BUG
            raise
        finally:
            url, target = self._place.url, self._place.target
            more = max(0, len(segment.statements) - 2 * NAMED)
            told = SegmentRan(
                **self._who,
                execution=execution,
                revisions=tuple(revisions),
                began_at=began_at,
                seconds=time.monotonic() - began,
                system=url.get_backend_name(),
                namespace=f"{url.database or ''}{f'|{target.schema}' if target.schema else ''}",
                server=url.host or None,
                port=url.port,
                statements=tuple(segment.statements[: 2 * NAMED]),
                unnamed=segment.unnamed + more,
                kind=kind,
                code=code,
            )
            self._publish(told)


UNTRACED = Tracing(None, {})
