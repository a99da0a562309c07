"""Which wave takes which target. Pure, and the same whenever it is asked for one rollout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import ConfigurationError
from orchestrator.registry import selector
from orchestrator.registry.model import Strategy, Target, Wave

# The targets of one tenant: they stay together.
_Unit = tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A wave with its targets, in the order in which they are begun."""

    wave: Wave
    targets: tuple[Target, ...]


def assign(strategy: Strategy, targets: Sequence[Target], salt: str) -> Sequence[Part]:
    """Divide the targets of a rollout among its strategy's waves; `salt` is what is stable for the rollout: its id.

    A tenant's targets go together, into the wave of the first that is chosen. Raises ConfigurationError when a wave
    would be empty while targets are left: a canary that nobody is in protects nobody.
    """
    rest = _units(targets)
    total, parts = len(rest), []
    for wave in strategy.waves:
        taken = _taken(wave, rest, total, salt)
        if not taken and rest and not wave.optional:
            raise _empty(strategy, wave, rest)
        gone = {unit[0].tenant for unit in taken}
        rest = [unit for unit in rest if unit[0].tenant not in gone]
        members = [target for unit in taken for target in unit]
        parts.append(Part(wave, tuple(ordered(members, strategy.order))))
    return parts


def _units(targets: Iterable[Target]) -> list[_Unit]:
    units: dict[str, list[Target]] = {}
    for target in targets:
        units.setdefault(target.tenant, []).append(target)
    return [tuple(members) for members in units.values()]


def _taken(wave: Wave, rest: Sequence[_Unit], total: int, salt: str) -> Sequence[_Unit]:
    wanted = selector.parse(wave.select)
    chosen = [unit for unit in rest if any(wanted.matches(target) for target in unit)]
    if wave.count is not None:
        return spread(chosen, wave.count, salt)
    if wave.percent is not None:
        return spread(chosen, math.ceil(round(total * wave.percent / 100, 6)), salt)
    return chosen


def spread(units: Sequence[_Unit], number: int, salt: str) -> Sequence[_Unit]:
    """So many of the units, each shard and each set of labels in proportion (a systematic sample of the units in
    their order by shard, labels and hash)."""
    if number >= len(units):
        return units
    in_order = sorted(units, key=lambda unit: (unit[0].shard, sorted(unit[0].labels.items()), _hash(salt, unit)))
    offset = int(_hash(salt), 16) % len(units)
    places = {(offset + i * len(units) // number) % len(units) for i in range(number)}
    taken = {in_order[place][0].tenant for place in places}
    return [unit for unit in units if unit[0].tenant in taken]


def _hash(salt: str, unit: _Unit = ()) -> str:
    return hashlib.sha256("\0".join([salt, *(target.tenant for target in unit[:1])]).encode()).hexdigest()


def ordered(targets: Iterable[Target], order: Sequence[str]) -> Sequence[Target]:
    """The targets by the ordering keys; numbers among the values count as numbers, and those without one come last.

    >>> a, b = (Target(name, "app", "pg", name, labels={"size": size}) for name, size in (("a", "10"), ("b", "9")))
    >>> [target.tenant for target in ordered([a, b], ["size"])]
    ['b', 'a']
    """
    found = list(targets)
    for key in reversed(order):
        value, descending = _value(key.removeprefix("-")), key.startswith("-")
        have = [target for target in found if value(target) is not None]
        have.sort(key=lambda target: _natural(value(target) or ""), reverse=descending)
        found = [*have, *(target for target in found if value(target) is None)]
    return found


def _value(key: str) -> Callable[[Target], str | None]:
    def read(target: Target) -> str | None:
        built_in: Mapping[str, str] = {"tenant": target.tenant, "shard": target.shard, "track": target.track}
        return built_in[key] if key in selector.BUILT_IN_KEYS else target.labels.get(key)

    return read


def _natural(text: str) -> tuple[bool, float, str]:
    try:
        number = float(text)
    except ValueError:
        return True, 0.0, text
    return (False, number, "") if math.isfinite(number) else (True, 0.0, text)


def _empty(strategy: Strategy, wave: Wave, rest: Sequence[_Unit]) -> ConfigurationError:
    return ConfigurationError(
        f"wave {wave.name!r} of strategy {strategy.name!r} would be empty: {wave.select!r} chooses none of the "
        f"{len(rest)} tenants that are left",
        remedy="take another strategy or selector, or write `optional: true` at the wave",
    )
