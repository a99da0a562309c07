"""Speaks HTTP to a daemon, for the command line and for other programs: `docs/client.md` shows how.

>>> from orchestrator.client import Daemon, NotFoundError
>>> Daemon("127.0.0.1:8080")
Traceback (most recent call last):
orchestrator.errors.ConfigurationError: '127.0.0.1:8080' is not the address of a daemon (write it like http://127.0.0.1:8080)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.client.daemon import Daemon as Daemon
    from orchestrator.client.shapes import Event as Event
    from orchestrator.errors import ConfigurationError as ConfigurationError
    from orchestrator.errors import ConflictError as ConflictError
    from orchestrator.errors import DaemonError as DaemonError
    from orchestrator.errors import FrozenError as FrozenError
    from orchestrator.errors import NotFoundError as NotFoundError
    from orchestrator.errors import OrchestratorError as OrchestratorError
    from orchestrator.errors import PlanChangedError as PlanChangedError
    from orchestrator.errors import RequestError as RequestError
    from orchestrator.errors import StateError as StateError

_PLACES = {
    "Daemon": "orchestrator.client.daemon",
    "Event": "orchestrator.client.shapes",
    **dict.fromkeys(
        (
            "ConfigurationError",
            "ConflictError",
            "DaemonError",
            "FrozenError",
            "NotFoundError",
            "OrchestratorError",
            "PlanChangedError",
            "RequestError",
            "StateError",
        ),
        "orchestrator.errors",
    ),
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the command line's help needs the shapes, and no HTTP."""
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)
