"""What a plan says, as a value that can be compared: the goals, the files, the targets with their places, and the steps
of each group. Its digest binds a rollout to it. Pure.

A digest is `<hash>-<count>-<hints>`. The hash covers everything. The hints (goal, files, steps, targets) only serve to
say what differs where nothing but the digest is known: a plan that a terminal has made is nowhere stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from orchestrator.errors import ConfigurationError
from orchestrator.registry.model import Heads, TargetKey

DIGEST = r"[a-z2-7]{40}(?:-[0-9]{1,9}-[a-z2-7]{24})?"

# Base32: five bits a letter.
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_HASH, _GOAL, _FILES, _STEPS, _TARGETS = 40, 4, 4, 4, 12


@dataclass(frozen=True, slots=True)
class PlannedGroup:
    """Targets of one track with equal heads, and so with equal steps.

    `state` is a fleet state; of `unreachable` ones the heads are not known. `online` are the steps that env.py runs,
    `sql` is the digest of what is sent for the others.
    """

    track: str
    heads: Heads
    state: str
    steps: tuple[str, ...]
    online: tuple[str, ...]
    sql: str
    tenants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plan without its SQL. `goals` by track; `files` are digests by track and name; `places` say where each target
    is, without user, password, or any folder of this machine that the registry does not name itself."""

    direction: str
    goals: Mapping[str, Heads]
    files: Mapping[str, Mapping[str, str]]
    places: Mapping[TargetKey, str]
    groups: tuple[PlannedGroup, ...]

    @property
    def group_of(self) -> Mapping[TargetKey, PlannedGroup]:
        return {TargetKey(tenant, one.track): one for one in self.groups for tenant in one.tenants}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a digest alone tells: `targets` is a sum over all targets, so that one that came to them can be found."""

    count: int
    goal: str
    files: str
    steps: str
    targets: int


def joined(made: Sequence[Manifest]) -> Manifest:
    """The plans of several tracks as one."""
    return Manifest(
        made[0].direction,
        {track: goal for one in made for track, goal in one.goals.items()},
        {track: files for one in made for track, files in one.files.items()},
        {key: place for one in made for key, place in one.places.items()},
        tuple(group for one in made for group in one.groups),
    )


def digest(manifest: Manifest) -> str:
    """The same for equal manifests, in whatever order they were made."""
    parts = goal, files, steps = _goal(manifest), _files(manifest), _steps(manifest)
    targets = sorted([*key, place] for key, place in manifest.places.items())
    hints = [_letters(part, size) for part, size in zip(parts, (_GOAL, _FILES, _STEPS), strict=True)]
    whole = _letters([goal, files, steps, targets], _HASH)
    summed = _spelled(total(manifest.places.items()))
    return f"{whole}-{len(targets)}-{''.join(hints)}{summed}"


def same(one: str, other: str) -> bool:
    """Whether two digests are of one plan."""
    return one[:_HASH] == other[:_HASH]


def hints(text: str) -> Hints | None:
    """What the digest tells by itself; None for one that was cut to its hash. Raises ConfigurationError."""
    if not re.fullmatch(DIGEST, text):
        raise ConfigurationError(
            f"{text[:80]!r} is not the digest of a plan", remedy="take the one that `orchestrator plan` shows, whole"
        )
    _, *rest = text.split("-")
    if not rest:
        return None
    count, letters = rest
    goal, files, steps = letters[:4], letters[4:8], letters[8:12]
    return Hints(int(count), goal, files, steps, _number(letters[12:]))


def hints_of(manifest: Manifest) -> Hints:
    found = hints(digest(manifest))
    assert found is not None
    return found


def total(targets: Iterable[tuple[TargetKey, str]]) -> int:
    """The sum of the targets' own digests."""
    return sum(weight(key, place) for key, place in targets) % MODULUS


MODULUS = 1 << 5 * _TARGETS


def weight(key: TargetKey, place: str) -> int:
    """What one target adds to the sum."""
    return int.from_bytes(hashlib.sha256(_text([*key, place])).digest()) % MODULUS


def as_json(manifest: Manifest) -> dict[str, Any]:
    """For the store: lists and texts only."""
    return {
        "direction": manifest.direction,
        "goals": {track: list(goal) for track, goal in manifest.goals.items()},
        "files": {track: dict(files) for track, files in manifest.files.items()},
        "places": [[*key, place] for key, place in manifest.places.items()],
        "groups": [
            [one.track, *map(list, (one.heads, one.steps, one.online, one.tenants)), one.state, one.sql]
            for one in manifest.groups
        ],
    }


def from_json(value: Mapping[str, Any]) -> Manifest:
    return Manifest(
        value["direction"],
        {track: tuple(goal) for track, goal in value["goals"].items()},
        value["files"],
        {TargetKey(tenant, track): place for tenant, track, place in value["places"]},
        tuple(
            PlannedGroup(track, tuple(heads), state, tuple(steps), tuple(online), sql, tuple(tenants))
            for track, heads, steps, online, tenants, state, sql in value["groups"]
        ),
    )


def _goal(manifest: Manifest) -> Any:
    return [manifest.direction, sorted([track, *goal] for track, goal in manifest.goals.items())]


def _files(manifest: Manifest) -> Any:
    return sorted([track, name, found] for track, files in manifest.files.items() for name, found in files.items())


def _steps(manifest: Manifest) -> Any:
    return sorted(
        [one.track, one.state, one.heads, one.steps, sorted(one.online), one.sql, sorted(one.tenants)]
        for one in manifest.groups
    )


def _letters(value: Any, count: int) -> str:
    return base64.b32encode(hashlib.sha256(_text(value)).digest()).decode().lower()[:count]


def _spelled(number: int) -> str:
    """
    >>> _spelled(33), _number(_spelled(33))
    ('aaaaaaaaaabb', 33)
    """
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_TARGETS)))


def _number(letters: str) -> int:
    return reduce(lambda number, letter: number * 32 + _ALPHABET.index(letter), letters, 0)


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
