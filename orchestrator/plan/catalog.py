"""A database's schema as comparable lines, with what each line is about. Pure."""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from orchestrator.plan import roles
from orchestrator.registry.model import Heads


class Line(NamedTuple):
    """One line of a catalog: `text` is what is compared. It is about `part` of `relation` (a column of a table, say) in
    `space`, a schema; "" where there is none. The tenant's own schema is "", too: it has another name for each."""

    text: str
    relation: str = ""
    part: str = ""
    space: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called in a list of what to ignore.

        >>> Line("column | …", "orders", "note", "public").names
        ('orders', 'public.orders', 'orders.note', 'public.orders.note')
        >>> Line("extension | …", "citext").names
        ('citext',)
        """
        found = [self.relation, f"{self.relation}.{self.part}" if self.part else ""]
        spaced = ((name, f"{self.space}.{name}" if self.space else "") for name in found if name)
        return tuple(name for names in spaced for name in names if name) or ((self.space,) if self.space else ())


@dataclass(frozen=True, slots=True)
class Catalog:
    """What one session has read of a target. `server`: kind and version, where these tell in the catalog's text.
    `beside`: the heads of other tracks in the same place, whose tables are among the lines. `roles`: who is named in
    them; `owned`: those whose names have the tenant's in them; `doubtful`: the lines, by number, with these marked."""

    server: str
    heads: Heads | None
    lines: tuple[Line, ...]
    beside: tuple[tuple[str, Heads], ...] = ()
    roles: frozenset[str] = frozenset()
    owned: frozenset[str] = frozenset()
    doubtful: tuple[tuple[int, Line], ...] = ()

    def told(self, common: Collection[str]) -> Sequence[Line]:
        """The lines, with `common` roles by their names: all tenants have them, whatever one of these is called.

        >>> read(["a | " + roles.marked("app_ro", "<tenant>_ro")], "fake", None).told({"app_ro"})[0].text
        'a | app_ro'
        """
        if not self.doubtful or self.owned.isdisjoint(common):
            return self.lines
        lines = list(self.lines)
        for number, line in self.doubtful:
            lines[number] = line._replace(text=roles.told(line.text, common))
        return lines


class Fingerprint(NamedTuple):
    """Equal where two catalogs are."""

    digest: str
    lines: int


def read(
    lines: Iterable[Line | str], server: str, heads: Heads | None, beside: tuple[tuple[str, Heads], ...] = ()
) -> Catalog:
    """A catalog of lines in which roles are marked."""
    told: list[Line] = []
    doubtful: list[tuple[int, Line]] = []
    names: set[str] = set()
    owned: set[str] = set()
    for number, one in enumerate(lines):
        line = Line(one) if isinstance(one, str) else one
        if not roles.is_marked(line.text):
            told.append(line)
            continue
        names |= roles.named(line.text)
        if found := roles.owned(line.text):
            owned |= found
            doubtful.append((number, line))
        told.append(line._replace(text=roles.told(line.text)))
    return Catalog(server, heads, tuple(told), beside, frozenset(names), frozenset(owned), tuple(doubtful))


def without(lines: Iterable[Line], ignore: Sequence[str]) -> list[Line]:
    """The lines that are about nothing which one of the globs matches.

    >>> without([Line("a", "tmp_1", space="public"), Line("b", "orders", space="public")], ["public.tmp_*"])
    [Line(text='b', relation='orders', part='', space='public')]
    """
    if not ignore:
        return list(lines)
    ignored = re.compile("|".join(f"(?:{fnmatch.translate(glob)})" for glob in ignore))
    return [line for line in lines if not any(ignored.match(name) for name in line.names)]


def fingerprint(lines: Iterable[Line]) -> Fingerprint:
    """
    >>> fingerprint([Line("b"), Line("a")]) == fingerprint([Line("a"), Line("b")])
    True
    """
    texts = sorted(line.text for line in lines)
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode(errors="surrogatepass") + b"\0")
    return Fingerprint(digest.hexdigest(), len(texts))


def of_tenant(names: Collection[str | None]) -> re.Pattern[str]:
    """Finds a tenant's names as whole words within a role's: each tenant may have roles of its own.

    >>> of_tenant({"acme", "acme_db"}).sub("<tenant>", "app_acme, acmeless, acme_db-ro")
    'app_<tenant>, acmeless, <tenant>-ro'
    """
    words = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, words)) or '(?!)'})(?![^\W_])")
