"""What a revision's source says of the world outside of its database: rendered once, one answer would serve all.

Two renderings a moment apart may agree by accident, so it is not left to them. Modules are taken whole where they are
there for nothing else; what a revision imports from its project is read too.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from orchestrator.history.modules import is_the_projects
from orchestrator.history.syntax import tree_of

_DRIVERS = "psycopg psycopg2 psycopg_pool asyncpg pg8000 pymysql MySQLdb asyncmy aiomysql"
_MODULES = (
    "sqlite3 aiosqlite redis pymongo boto3 botocore kafka pika celery "
    "random secrets time subprocess socket ssl select selectors requests httpx aiohttp urllib3 http ftplib smtplib "
    "imaplib poplib telnetlib xmlrpc paramiko glob shutil tempfile fileinput linecache getpass platform locale pwd grp "
    "dotenv decouple environs dynaconf pydantic_settings prettyconf omegaconf keyring hvac importlib runpy ctypes "
    "multiprocessing threading concurrent asyncio signal gc "
    "inspect pkgutil resource mmap numpy faker arrow pendulum freezegun"
)
# What of other packages reads settings.
_SETTINGS = (
    "pydantic.BaseSettings",
    "pydantic.v1.BaseSettings",
    "django.conf",
    "starlette.config",
    "flask.current_app",
)
DRIVERS = frozenset(_DRIVERS.split())
_WHOLE = DRIVERS | frozenset(_MODULES.split())
# Of other modules, what may be had; the longest names first.
_HARMLESS = {
    "os.path": frozenset({"join", "dirname", "basename", "abspath", "normpath", "relpath", "split", "splitext", "sep"}),
    "os": frozenset({"path", "sep", "linesep", "fspath", "name"}),
    "sys": frozenset({"path", "maxsize", "version_info", "modules", "stdout", "stderr", "intern"}),
    "urllib": frozenset({"parse"}),
    "uuid": frozenset({"UUID", "uuid3", "uuid5", "NAMESPACE_DNS", "NAMESPACE_URL", "NAMESPACE_OID", "NAMESPACE_X500"}),
}
# Whatever they are called on: where that comes from, the source need not say.
_NAMES = (
    "now today utcnow time time_ns monotonic perf_counter localtime gmtime fromtimestamp utcfromtimestamp "
    "random randint randrange randbytes choice choices shuffle uuid1 uuid4 urandom token_bytes token_hex token_urlsafe "
    "open read_text read_bytes getenv gethostname getuser iterdir listdir scandir glob rglob is_file is_dir cwd home "
    "urlopen Popen check_output input eval exec __import__ import_module environ cursor raw_connection"
)
_CALLS = frozenset(_NAMES.split())
_PATHS = frozenset({"exists", "stat", "lstat", "resolve", "samefile"})


def outside(file: str) -> str | None:
    """Why the revision's SQL may depend on more than its files: it calls for the time, chance, files, the network, the
    environment, or a driver; or it catches errors. SQL's own functions (`sa.func.now()`) are the server's."""
    for found in _files(Path(file)):
        reason = _of_file(found, is_revision=found == Path(file))
        if reason is not None:
            return reason if found == Path(file) else f"{reason}, in {found.name}, which it imports"
    return None


def texts(file: str) -> Iterator[str]:
    """All literal texts in the revision and in what it imports from its project."""
    for found in _files(Path(file)):
        for node in ast.walk(tree_of(found)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def mentioned(file: str, names: Collection[str]) -> str | None:
    """Which of these names, in small letters, stands in the revision, or in what it imports from its project."""
    for found in _files(Path(file)):
        source = found.read_bytes().decode(errors="replace").lower()
        if (name := next((name for name in sorted(names) if name in source), None)) is not None:
            return name
    return None


def called(node: ast.AST) -> str | None:
    """The name that is called, or looked up as `environ` is; None for SQL's functions."""
    if isinstance(node, ast.Attribute) and node.attr == "environ":
        return node.attr
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name):
        return node.func.id
    if not isinstance(node.func, ast.Attribute) or "func" in ast.unparse(node.func.value).split("."):
        return None
    return node.func.attr


def _of_file(file: Path, *, is_revision: bool) -> str | None:
    tree = tree_of(file)
    names = dict(_names(tree))
    catching = tree if is_revision else _Functions.of(tree)  # a module may look for what is installed
    for node in ast.walk(catching):
        if isinstance(node, ast.Try | ast.TryStar) or called(node) == "suppress":
            return f"it catches errors (line {getattr(node, 'lineno', '?')}), which replay cannot"
    paths = any(name.partition(".")[0] == "pathlib" for name in names.values())
    for node in ast.walk(tree):
        name, line = _outside(node, names, paths), getattr(node, "lineno", "?")
        if name is not None:
            return f"it reads something outside of its database (`{name}`, line {line})"
    return None


class _Functions(ast.NodeVisitor):
    """Collects the functions of a module."""

    def __init__(self) -> None:
        self.found: list[ast.stmt] = []

    @classmethod
    def of(cls, tree: ast.Module) -> ast.Module:
        one = cls()
        one.visit(tree)
        return ast.Module(one.found, [])

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self.found.append(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.found.append(node)


def _outside(node: ast.AST, names: Mapping[str, str], paths: bool) -> str | None:
    name = called(node)
    if isinstance(node, ast.Call) and _dotted(node.func, names) == "datetime.time":
        return None
    if name in _CALLS or (paths and name in _PATHS):
        return name
    if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
        return node.module if node.module and (node.module.split(".")[0] in _WHOLE | _HARMLESS.keys()) else None
    if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        return _forbidden(_dotted(node, names))
    return None


def _forbidden(dotted: str | None) -> str | None:
    if dotted is None:
        return None
    if dotted.partition(".")[0] in _WHOLE or f"{dotted}.".startswith(tuple(f"{name}." for name in _SETTINGS)):
        return dotted
    for parent in _HARMLESS:
        if dotted.startswith(f"{parent}."):
            return None if dotted[len(parent) + 1 :].partition(".")[0] in _HARMLESS[parent] else dotted
    return None


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str | None:
    """What the expression names, by the module that it was imported from."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value, names)) is not None:
        return f"{inner}.{node.attr}"
    return None


def _names(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """The names that imports give, and what they stand for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else ((top := alias.name.partition(".")[0]), top)
        if isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _files(revision: Path) -> Iterator[Path]:
    """The revision's file, and those of its project that it imports, directly or not."""
    ahead, seen = [(revision, "")], {revision}
    while ahead:
        file, package = ahead.pop(0)
        yield file
        for name in _imported(tree_of(file), package):
            found = _found(name)
            if found is not None and found[0] not in seen and is_the_projects(found[0]):
                seen.add(found[0])
                ahead.append(found)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The modules that may be meant: of `from a import b` both `a` and `a.b`, and packages on the way."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*filter(None, parents), *filter(None, [node.module])])
            if base:
                yield from _with_parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _found(name: str) -> tuple[Path, str] | None:
    """The module's file and its package, without importing anything."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    module = sys.modules.get(name)
    file, package = getattr(module, "__file__", None), getattr(module, "__package__", None)
    if isinstance(file, str):
        return Path(file).resolve(), package or ""
    spec = _spec(name)
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    return Path(spec.origin).resolve(), spec.name if spec.submodule_search_locations else spec.name.rpartition(".")[0]


def _spec(name: str) -> ModuleSpec | None:
    spec, path = None, None
    parts = name.split(".")
    for count in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: count + 1]), path)
        if spec is None:
            return None
        path = list(spec.submodule_search_locations or ())
    return spec
