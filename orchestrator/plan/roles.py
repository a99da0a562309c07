"""Roles within a catalog's lines: one that each tenant has under a name of its own, and one that all have. Pure.

`app_acme` and `app_globex` are the same of two tenants, so a role is told without its tenant's name. But the tenant
`app` has a role `app_readonly` as all others have: the name alone does not tell, what most of the others have does. Who
reads a catalog writes a role as `marked` does, and lists of them between `FIRST` and `LAST`; `told` makes text of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable

# No name that anybody gives a role has these in it.
START, SHORT, END = "\x1e", "\x1d", "\x1f"
FIRST, BETWEEN, LAST = "\x02", "\x1c", "\x03"
_ROLE = re.compile(f"{START}([^{SHORT}]*){SHORT}([^{END}]*){END}")
_LIST = re.compile(f"{FIRST}([^{LAST}]*){LAST}")


def marked(name: str, short: str) -> str:
    """A role in a text: its name, and this without the tenant's."""
    return f"{START}{name}{SHORT}{short}{END}"


def is_marked(text: str) -> bool:
    """Whether `told` has anything to do."""
    return START in text or FIRST in text


def named(text: str) -> set[str]:
    """The names of the roles in a text.

    >>> named(f"relation | {marked('app_acme', 'app_<tenant>')}")
    {'app_acme'}
    """
    return {found[1] for found in _ROLE.finditer(text)}


def owned(text: str) -> set[str]:
    """Those of the roles whose names have the tenant's in them."""
    return {found[1] for found in _ROLE.finditer(text) if found[1] != found[2]}


def told(text: str, common: Collection[str] = ()) -> str:
    """The text without marks: roles that are `common` by their name, others without the tenant's, lists in order.

    >>> told(f"a | {marked('app_ro', '<tenant>_ro')}"), told(f"a | {marked('app_ro', '<tenant>_ro')}", {"app_ro"})
    ('a | <tenant>_ro', 'a | app_ro')
    >>> told(f"a | {FIRST}b{BETWEEN}a{LAST} | c")
    'a | a, b | c'
    """
    if START in text:
        text = _ROLE.sub(lambda found: found[1] if found[1] in common else found[2], text)
    if FIRST in text:
        text = _LIST.sub(lambda found: ", ".join(sorted(found[1].split(BETWEEN))), text)
    return text


def common(roles: Iterable[Collection[str]]) -> frozenset[str]:
    """The roles that more than half of the targets have in their catalogs, of which `roles` are those of one each.

    >>> sorted(common([{"ro", "app_a"}, {"ro", "app_b"}, {"ro"}]))
    ['ro']
    """
    each = list(roles)
    counts = Counter(name for names in each for name in set(names))
    return frozenset(name for name, count in counts.items() if 2 * count > len(each))
