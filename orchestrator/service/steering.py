"""Commands on a process that does not lead: they are written to the store, and the leader carries them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar, cast

import anyio

from orchestrator.access import acts
from orchestrator.api.ports import Leadership, RolloutView
from orchestrator.errors import UnavailableError
from orchestrator.service import answers
from orchestrator.store.commands import Answer
from orchestrator.store.engine import Store
from orchestrator.store.leadership import Candidate

# Beyond a lease: so a command that is asked while nobody leads is still carried out by who takes over.
PATIENCE_SECONDS = 5.0
ASK_AGAIN_SECONDS = 0.2


class Steering:
    """Whether this process leads, and how it steers when it does not. Who has no candidate leads: nobody else can."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._candidate: Candidate | None = None
        self.leads = True

    def stand_by(self, candidate: Candidate) -> None:
        self._candidate, self.leads = candidate, False

    def lead(self) -> None:
        self.leads = True

    def leadership(self) -> Leadership | None:
        if self._candidate is None:
            return None
        return Leadership(self.leads, self._candidate.holder)

    async def ask(self, name: str, rollout_id: str, arguments: dict[str, Any]) -> None:
        """Have the leader carry out a command. Raises what it raised, and UnavailableError when it does not answer:
        then the error says whether the command is still to be carried out."""
        commands, seconds = self._store.commands, self._store.lease_seconds + PATIENCE_SECONDS
        act = acts.pending()
        told = None if act is None else act.act().as_json()
        number = await commands.ask(rollout_id, name, arguments, seconds, told)
        if act is not None:
            act.settle()  # who carries it out records it
        answer = await self._answer(number, seconds)
        if answer is None and await commands.withdraw(number):
            if act is not None:
                act.reopen()
            raise UnavailableError(
                f"{self._leader} did not take the command within {seconds:g} s; it was withdrawn, and nothing was done",
                remedy="ask again when a daemon leads: /readyz says who does",
            )
        answer = answer or await commands.answer_of(number)
        if answer is None:
            raise UnavailableError(
                f"{self._leader} has taken the command, and did not say within {seconds:g} s that it is carried out",
                remedy="it is recorded, and not asked again: look at the rollout",
            )
        if answer.error is not None:
            if act is not None:
                act.reopen()  # what was not done is ours to tell
            raise answers.raised(answer.error)

    async def _answer(self, number: int, seconds: float) -> Answer | None:
        with anyio.move_on_after(seconds):
            while True:
                if answer := await self._store.commands.answer_of(number):
                    return answer
                await anyio.sleep(ASK_AGAIN_SECONDS)
        return None

    @property
    def _leader(self) -> str:
        holder = self._candidate.holder if self._candidate is not None else None
        return f"the leader ({holder})" if holder else "a leader"


M = TypeVar("M", bound=Callable[..., Awaitable[RolloutView]])

# What a leader carries out for others, by name.
COMMANDS: set[str] = set()


def by_leader(method: M) -> M:
    """Make a command of a service's method: who leads carries it out, and others ask who leads.

    It takes the rollout's id, and the rest by name: values that JSON has. The service has `steering` and `rollout`.
    """
    name = method.__name__
    COMMANDS.add(name)

    @wraps(method)
    async def carried_out(self: Any, rollout_id: str, **arguments: Any) -> RolloutView:
        if self.steering.leads:
            return await method(self, rollout_id, **arguments)
        await self.steering.ask(name, rollout_id, arguments)
        view: RolloutView = await self.rollout(rollout_id)
        return view

    return cast(M, carried_out)
