"""Make Alembic's module-level `op` and `context` task-local.

`alembic.op` and `alembic.context` forward to one object that Alembic stores in a module global for the length of a
command (`ModuleClsProxy._install_proxy`, unchanged from 1.13 to 1.20). Two commands at once in one process therefore
send one database's DDL to another, and some of them report success on a database they never touched. `install()`
replaces the installing and removing of that object: it is pushed on a stack held by a `ContextVar`, and the module
globals become dispatchers that read the stack of whoever asks. Threads started by `anyio.to_thread`, tasks, and the
greenlets of SQLAlchemy's `run_sync` carry the context, so the whole process is covered, `alembic.command` included.
A bare `threading.Thread` started inside a revision does not carry it and gets a NameError instead of a guess.
"""

from __future__ import annotations

import threading
from collections.abc import MutableMapping
from contextvars import ContextVar, copy_context
from typing import Any

import alembic
import alembic.context
import alembic.op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.util.langhelpers import ModuleClsProxy
from sqlalchemy import Column, Integer, create_engine, inspect, pool

from orchestrator.errors import UnsupportedAlembicError

SUPPORTED = "alembic>=1.13,<2"
_PROXIES = (EnvironmentContext, Operations)
_stacks: ContextVar[dict[type[Any], tuple[Any, ...]]] = ContextVar("alembic_proxies")
_originals: dict[str, Any] = {}
_lock = threading.Lock()


class _Dispatcher:
    """Stands where Alembic keeps its current object and forwards to the caller's own one."""

    def __init__(self, cls: type[Any]) -> None:
        object.__setattr__(self, "_cls", cls)

    def __getattr__(self, name: str) -> Any:
        return getattr(_current(object.__getattribute__(self, "_cls")), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_current(object.__getattribute__(self, "_cls")), name, value)

    def __bool__(self) -> bool:
        return bool(_stack(object.__getattribute__(self, "_cls")))


def install() -> None:
    """Put the task-local layer in place for the whole process; calling it again changes nothing.

    Raises UnsupportedAlembicError when Alembic's internals are not as expected.
    """
    with _lock:
        if _originals:
            return
        _check_internals()
        _originals.update(install=ModuleClsProxy._install_proxy, remove=ModuleClsProxy._remove_proxy, modules=[])
        for cls in _PROXIES:
            for globals_, attributes in _modules(cls):
                _divert(cls, globals_, attributes)
        ModuleClsProxy._install_proxy = _push  # type: ignore[method-assign]
        ModuleClsProxy._remove_proxy = _pop  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Alembic back as it was; for the tests that show what happens without the layer."""
    with _lock:
        if not _originals:
            return
        ModuleClsProxy._install_proxy = _originals["install"]  # type: ignore[method-assign]
        ModuleClsProxy._remove_proxy = _originals["remove"]  # type: ignore[method-assign]
        for globals_, had_getattr in _originals["modules"]:
            globals_.pop("_proxy", None)
            globals_.pop("__getattr__", None)
            if had_getattr is not None:
                globals_["__getattr__"] = had_getattr
        _originals.clear()


def verify() -> None:
    """Prove the layer on scratch in-memory databases: two interleaved threads must each keep to their own.

    Raises UnsupportedAlembicError if one reached the other's database.
    """
    found = [_Probe(f"only_{name}") for name in ("left", "right")]
    barrier = threading.Barrier(len(found), timeout=10)
    threads = [threading.Thread(target=copy_context().run, args=(probe.run, barrier)) for probe in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for probe in found:
        if probe.tables != [probe.table]:
            raise UnsupportedAlembicError(
                f"the self-test of concurrent migrations failed: a scratch database that should hold {probe.table!r} "
                f"holds {probe.tables!r}{f' ({probe.error!r})' if probe.error else ''}",
                remedy=f"install a supported Alembic ({SUPPORTED}; found {alembic.__version__}) and report this",
            )


class _Probe:
    """One side of the self-test: creates one table through `alembic.op` while the other side does the same."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.tables: list[str] = []
        self.error: Exception | None = None

    def run(self, barrier: threading.Barrier) -> None:
        engine = create_engine("sqlite://", poolclass=pool.StaticPool)
        try:
            with engine.connect() as connection:
                with Operations.context(MigrationContext.configure(connection)):
                    barrier.wait()
                    alembic.op.create_table(self.table, Column("id", Integer))
                    barrier.wait()
                self.tables = inspect(connection).get_table_names()
        except Exception as exc:
            self.error = exc
            barrier.abort()
        finally:
            engine.dispose()


def _check_internals() -> None:
    """Refuse an Alembic whose proxies are not the ones described at the top of this file."""
    problems = []
    for name in ("_install_proxy", "_remove_proxy", "_setups"):
        if not hasattr(ModuleClsProxy, name):
            problems.append(f"ModuleClsProxy.{name} is missing")
    for cls, module in ((EnvironmentContext, alembic.context), (Operations, alembic.op)):
        if not issubclass(cls, ModuleClsProxy):
            problems.append(f"{cls.__name__} is not a ModuleClsProxy")
        elif not problems and not any(globals_ is vars(module) for globals_, _ in _modules(cls)):
            problems.append(f"{module.__name__} is not among the proxies of {cls.__name__}")
        if vars(module).get("_proxy") is not None:
            problems.append(f"a command is running: {module.__name__} is in use")
    if problems:
        raise UnsupportedAlembicError(
            f"Alembic {alembic.__version__} does not look as expected: {'; '.join(problems)}",
            remedy=f"install a supported version: {SUPPORTED}",
        )


def _modules(cls: type[Any]) -> list[tuple[MutableMapping[str, Any], set[str]]]:
    """The modules that forward to `cls`, each with the names of its plain attributes (`config`, `script`)."""
    attributes, modules = ModuleClsProxy._setups[cls]
    return [(globals_, attributes) for globals_, _ in modules]


def _divert(cls: type[Any], globals_: MutableMapping[str, Any], attributes: set[str]) -> None:
    previous = globals_.get("__getattr__")
    _originals["modules"].append((globals_, previous))
    globals_["_proxy"] = _Dispatcher(cls)

    def module_getattr(name: str) -> Any:
        if name in attributes:
            try:
                return getattr(_current(cls), name)
            except NameError as exc:
                raise AttributeError(str(exc)) from None
        if previous is not None:
            return previous(name)
        raise AttributeError(f"module {globals_['__name__']!r} has no attribute {name!r}")

    globals_["__getattr__"] = module_getattr


def _stack(cls: type[Any]) -> tuple[Any, ...]:
    return _stacks.get({}).get(cls, ())


def _current(cls: type[Any]) -> Any:
    stack = _stack(cls)
    if not stack:
        raise NameError(
            f"no Alembic {cls.__name__} is established in this task or thread: call this inside a migration, and from "
            "the thread that runs it"
        )
    return stack[-1]


def _family(instance: Any) -> type[Any]:
    """The proxied class of which `instance` may be a subclass's."""
    return next((cls for cls in _PROXIES if isinstance(instance, cls)), type(instance))


def _push(self: Any) -> None:
    cls = _family(self)
    # A new mapping each time: a task that inherited this context must not see what we push later.
    _stacks.set({**_stacks.get({}), cls: (*_stack(cls), self)})


def _pop(self: Any) -> None:
    """Take `self` off, whoever else was pushed after it; a foreign or repeated removal is harmless."""
    cls = _family(self)
    stack = list(_stack(cls))
    for index in range(len(stack) - 1, -1, -1):
        if stack[index] is self:
            del stack[index]
            break
    _stacks.set({**_stacks.get({}), cls: tuple(stack)})
