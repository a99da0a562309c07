"""What a caller may do: four roles, each of which may all that the one before may."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    """From the least to the most."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"

    def includes(self, least: Role) -> bool:
        """Whether who has this role may do what asks for `least`.

        >>> Role.APPROVER.includes(Role.OPERATOR), Role.VIEWER.includes(Role.OPERATOR)
        (True, False)
        """
        return _ORDER[self] >= _ORDER[least]


_ORDER = {role: number for number, role in enumerate(Role)}


def highest(roles: Iterable[Role]) -> Role | None:
    """
    >>> highest([Role.VIEWER, Role.APPROVER])
    <Role.APPROVER: 'approver'>
    """
    return max(roles, key=_ORDER.__getitem__, default=None)


def mapping(text: str) -> dict[str, Role]:
    """Which word of a claim stands for which role: `sre=operator,leads=approver`. Empty: each role's own name.

    Raises ValueError.

    >>> mapping("sre=operator")
    {'sre': <Role.OPERATOR: 'operator'>}
    """
    if not text.strip():
        return {role.value: role for role in Role}
    found: dict[str, Role] = {}
    for part in text.split(","):
        word, equals, name = (piece.strip() for piece in part.rpartition("="))
        if not (word and equals) or name not in set(Role):
            raise ValueError(f"write it like sre=operator,leads=approver; roles are {', '.join(Role)}")
        found[word] = Role(name)
    return found
