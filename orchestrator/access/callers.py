"""Who asks. A name says by its beginning whether it is proved, so it stays proved wherever it is written or sent.

user:ci        who has the token of that name
oidc:alice      the subject of a bearer token that the identity provider has signed
schedule:night  the daemon itself, for a schedule of its registry
terminal:root   a process that has the store's own address; the name is what its machine says
ann             what a client says of itself, while nobody has to prove anything
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.access.roles import Role

USER, SUBJECT, SCHEDULE, TERMINAL, UNPROVED = "user:", "oidc:", "schedule:", "terminal:", "unproved:"
ANYBODY = "http"
_PROVED = (USER, SUBJECT)
_RESERVED = (*_PROVED, SCHEDULE, TERMINAL, UNPROVED)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks over HTTP. `role` None: somebody whom we know, and who may do nothing here."""

    name: str
    role: Role | None

    @property
    def proved(self) -> bool:
        return is_proved(self.name)

    def may(self, least: Role) -> bool:
        return self.role is not None and self.role.includes(least)


def is_proved(name: str) -> bool:
    """
    >>> is_proved("user:ci"), is_proved("ci"), is_proved(unproved("user:ci"))
    (True, False, False)
    """
    return name.startswith(_PROVED)


def unproved(said: str | None) -> str:
    """The name of somebody who proves nothing; one that looks like a proved name is marked.

    >>> unproved("ann"), unproved(None), unproved("user:ci")
    ('ann', 'http', 'unproved:user:ci')
    """
    if not said:
        return ANYBODY
    return f"{UNPROVED}{said}" if said.startswith(_RESERVED) else said


def another_pair_of_eyes(creator: str, approver: str) -> str | None:
    """Why `approver` is not another person than `creator`, as far as can be told; None when it is.

    One who is proved and one who is not may be the same person, and so may a token and a provider's subject of one
    name. A schedule is nobody: anybody may approve what it starts.

    >>> another_pair_of_eyes("user:ann", "user:bob") is None
    True
    >>> another_pair_of_eyes("user:ann", "oidc:ann")
    "'user:ann' has started it"
    >>> another_pair_of_eyes("ann", "user:bob")
    "'ann', who has started it, was not asked for a proof of that name"
    """
    both_proved = is_proved(creator) and is_proved(approver)
    if creator == approver or (both_proved and creator.partition(":")[2] == approver.partition(":")[2]):
        return f"{creator!r} has started it"
    if creator.startswith(SCHEDULE) or is_proved(creator) == is_proved(approver):
        return None
    if is_proved(approver):
        return f"{creator!r}, who has started it, was not asked for a proof of that name"
    return f"{approver!r} is not proved, and {creator!r}, who has started it, is"
