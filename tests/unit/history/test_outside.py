"""What a revision's source, and that of its helpers, says of the world outside of its database."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.history.outside import outside

HEAD = "import datetime, os, random, sys, time, urllib.parse, uuid\nimport os.path as p\nimport sqlalchemy as sa\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def revision(folder: Path, *lines: str) -> str:
    file = folder / "revision.py"
    file.write_text(HEAD + "\n".join(lines))
    return str(file)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("time.strftime('%Y')", "time.strftime"),
        ("from time import strftime as s; s('%Y')", "time.strftime"),
        ("random.sample([1], 1)", "random.sample"),
        ("f = random.gauss", "random.gauss"),
        ("from random import *", "random"),
        ("datetime.datetime.fromtimestamp(0)", "fromtimestamp"),
        ("from datetime import datetime as d; d.today()", "today"),
        ("os.path.exists('x')", "os.path.exists"),
        ("p.getmtime('x')", "os.path.getmtime"),
        ("os.listdir('.')", "listdir"),
        ("os.getpid()", "os.getpid"),
        ("sys.argv[1]", "sys.argv"),
        ("from pathlib import Path; Path('x').exists()", "exists"),
        ("import subprocess as s; s.run(['x'])", "subprocess.run"),
        ("import urllib.request; urllib.request.Request('x')", "urllib.request.Request"),
        ("import requests; requests.get('x')", "requests.get"),
        ("import psycopg; psycopg.connect('x')", "psycopg.connect"),
        ("import sqlite3; sqlite3.connect('x')", "sqlite3.connect"),
        ("uuid.uuid4()", "uuid4"),
        ("from pydantic_settings import BaseSettings as B; B()", "pydantic_settings.BaseSettings"),
        ("import pydantic; pydantic.BaseSettings()", "pydantic.BaseSettings"),
        ("from django.conf import settings; settings.KEY", "django.conf.settings.KEY"),
        ("from flask import current_app; current_app.config", "flask.current_app.config"),
        ("op.get_bind().connection.cursor()", "cursor"),
    ],
)
def test_what_is_asked_outside_is_found_by_whatever_name(folder: Path, line: str, name: str) -> None:
    assert f"(`{name}`, line" in str(outside(revision(folder, line)))


@pytest.mark.parametrize(
    "line",
    [
        "p.join(os.path.dirname(__file__), os.sep)",
        "urllib.parse.quote('x')",
        "uuid.UUID(int=5); uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
        "datetime.datetime(2026, 1, 1).strftime('%Y'); datetime.time(1); datetime.timedelta(1)",
        "sa.func.now(); sa.func.random(); sa.select(sa.column('a')).exists()",
        "import logging; logging.getLogger(__name__).info('x'); print('x')",
        "sys.path.append('x')",
    ],
)
def test_what_only_computes_is_left_alone(folder: Path, line: str) -> None:
    assert outside(revision(folder, line)) is None


@pytest.mark.parametrize(
    ("files", "line", "said"),
    [
        ({"lib.py": "import time\ndef month():\n    return time.strftime('%m')"}, "import lib", "time.strftime"),
        ({"lib.py": "import os\nKEY = os.environ['KEY']"}, "from lib import KEY", "environ"),
        (
            {"app/__init__.py": "", "app/lib.py": "import requests\nx = requests.get"},
            "from app import lib",
            "requests.get",
        ),
        (
            {
                "app/__init__.py": "",
                "app/lib.py": "from . import deep",
                "app/deep.py": "import random\nx = random.gauss",
            },
            "def upgrade():\n    import app.lib",
            "random.gauss",
        ),
        (
            {"lib.py": "def quiet():\n    try:\n        x()\n    except Exception:\n        pass"},
            "import lib",
            "catches",
        ),
        ({"lib.py": "try:\n    import fast\nexcept ImportError:\n    fast = None"}, "import lib", None),
        ({"lib.py": "def table(op):\n    op.execute('SELECT 1')"}, "import lib", None),
    ],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_helpers_of_the_project_are_read_too(
    folder: Path, files: dict[str, str], line: str, said: str | None, loaded: bool
) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    if loaded:
        importlib.invalidate_caches()
        for name in files:
            if "requests" not in files[name] and "KEY" not in files[name]:
                importlib.import_module(name.removesuffix(".py").replace("/__init__", "").replace("/", "."))
    reason = outside(revision(folder, line))
    assert (reason is None) if said is None else (said in str(reason) and "which it imports" in str(reason))
