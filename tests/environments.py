"""Alembic projects for tests: made by Alembic's own templates, their env.py left as it is."""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config

from orchestrator.registry.model import Track

Template = Literal["generic", "async", "pyproject", "pyproject_async"]

REVISION = '''"""{revision}"""
import asyncio, os, random, time
import sqlalchemy as sa
from alembic import context, op

revision = {revision!r}
down_revision = {down!r}
branch_labels = {label!r}
depends_on = {depends_on!r}


def upgrade() -> None:
{upgrade}


def downgrade() -> None:
{downgrade}
'''


def has_template(template: Template) -> bool:
    """Whether the installed Alembic brings the template: those with pyproject.toml came with 1.16."""
    return Path(Config().get_template_directory(), template).is_dir()


def make_project(folder: Path, template: Template = "generic") -> Path:
    """An empty Alembic project in `folder`, as `alembic init -t <template>` makes it; its configuration file."""
    folder.mkdir(parents=True, exist_ok=True)
    toml = template.startswith("pyproject")
    files: dict[str, Any] = {"toml_file": str(folder / "pyproject.toml")} if toml else {}
    config = Config(str(folder / "alembic.ini"), stdout=io.StringIO(), **files)
    with contextlib.redirect_stdout(io.StringIO()):
        command.init(config, str(folder / "alembic"), template=template)
    return folder / ("pyproject.toml" if toml else "alembic.ini")


def read_url_from_environ(folder: Path) -> None:
    """Turn the project's env.py into one that takes its URL from `os.environ`, as applications' settings do."""
    env = folder / "alembic" / "env.py"
    text = env.read_text()
    line = 'config.set_main_option("sqlalchemy.url", os.environ["DATABASE_URL"].replace("%", "%%"))'
    env.write_text("import os\n" + text.replace("config = context.config\n", f"config = context.config\n{line}\n", 1))


def quieten(folder: Path) -> None:
    """Let the project's env.py leave logging as it is: it runs in this process, for plain Alembic."""
    env = folder / "alembic" / "env.py"
    env.write_text(env.read_text().replace("fileConfig(config.config_file_name)", "pass"))


def use_transaction_per_migration(folder: Path) -> None:
    """Let the project's env.py commit after each revision, as Alembic recommends for autocommit blocks."""
    env = folder / "alembic" / "env.py"
    alone = "target_metadata=target_metadata, transaction_per_migration=True"
    env.write_text(env.read_text().replace("target_metadata=target_metadata", alone))


def add_revision(
    folder: Path,
    revision: str,
    down: str | tuple[str, ...] | None,
    upgrade: str,
    downgrade: str = "pass",
    *,
    label: str | None = None,
    depends_on: str | None = None,
) -> Path:
    """Write a revision file; `upgrade` and `downgrade` are bodies of functions."""
    file = folder / "alembic" / "versions" / f"{revision}.py"
    bodies = {
        name: textwrap.indent(textwrap.dedent(body).strip(), "    ")
        for name, body in (("upgrade", upgrade), ("downgrade", downgrade))
    }
    file.write_text(REVISION.format(revision=revision, down=down, label=label, depends_on=depends_on, **bodies))
    return file


def add_tables(folder: Path, names: Iterable[str], *, after: str | None = None, before_each: str = "") -> list[str]:
    """A linear history in which revision `<name>` creates table `<name>` and counts itself in `applied`."""
    down = after
    revisions = []
    for name in names:
        create_ledger = "" if down else 'op.execute("CREATE TABLE applied (revision varchar(40) NOT NULL)")\n'
        body = (
            f"{before_each}\n{create_ledger}"
            f'op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True))\n'
            f"op.execute(\"INSERT INTO applied VALUES ('{name}')\")"
        )
        drop_ledger = "" if down else '\nop.drop_table("applied")'
        add_revision(folder, name, down, body, f'op.drop_table("{name}"){drop_ledger}')
        revisions.append(name)
        down = name
    return revisions


def track_of(config: Path, name: str = "app", **fields: Any) -> Track:
    return Track(name, config=config, **fields)
