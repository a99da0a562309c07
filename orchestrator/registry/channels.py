"""Who is told of what happens, as values: the file's `notifications`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

NoticeKind = Literal[
    "rollout_started", "approval_needed", "rollout_paused", "rollout_finished", "shard_throttled", "drift_found"
]
Way = Literal["webhook", "slack", "command"]

KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
EVERY_TRACK = "*"


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to tell somebody. `url`, `secret`, `token` and `environment` may be secrets: they are left out of the
    repr.

    `command` is given the event on standard input. `kinds`: what is told. `tracks`: of which tracks' rollouts, empty
    for all. A shard that is throttled for `after_seconds` is told of. A delivery is given up after `attempts`.
    """

    name: str
    way: Way
    url: str = field(default="", repr=False)
    command: tuple[str, ...] = ()
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    kinds: tuple[NoticeKind, ...] = KINDS
    tracks: tuple[str, ...] = ()
    after_seconds: float = 600.0
    timeout_seconds: float = 10.0
    attempts: int = 8

    def wants(self, kind: str, track: str) -> bool:
        """Whether it is to be told of this; a rollout over every track concerns each of them.

        >>> Channel("ops", "slack", tracks=("app",)).wants("rollout_paused", "dw")
        False
        """
        return kind in self.kinds and (not self.tracks or track == EVERY_TRACK or track in self.tracks)
