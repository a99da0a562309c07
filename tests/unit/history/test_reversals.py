"""Revisions that cannot be taken back, found by their source."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.history import scripts
from orchestrator.history.revisions import History
from orchestrator.plan.reversals import irreversible
from orchestrator.registry.model import Track
from tests import environments

HEAD = 'revision = "one"\ndown_revision = None\nimport functools\nfrom alembic import op\n'
UP = "def upgrade():\n    op.execute('SELECT 1')\n"


def read(folder: Path, source: str) -> History:
    config = environments.make_project(folder)
    (folder / "alembic" / "versions" / "one.py").write_text(HEAD + source)
    track = Track("app", config=config)
    return History(track, scripts.read(track)[0])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (UP, "it has no function `downgrade`"),
        (UP + "downgrade = None\n", "it has no function `downgrade`"),
        (UP + "def downgrade():\n    pass\n", "its downgrade is empty"),
        (UP + "def downgrade():\n    '''Not possible.'''\n", "its downgrade is empty"),
        (UP + "def downgrade(): ...\n", "its downgrade is empty"),
        (UP + "def downgrade():\n    'words'\n    return None\n    op.drop_table('t')\n", "its downgrade is empty"),
        (UP + "def downgrade() -> None:\n    # op.drop_table('t')\n    return\n", "its downgrade is empty"),
        (UP + "def downgrade():\n    raise NotImplementedError\n", "its downgrade only raises NotImplementedError"),
        (
            UP + "def downgrade():\n    '''x'''\n    raise RuntimeError('no way')\n",
            "its downgrade only raises RuntimeError",
        ),
        (UP + "def downgrade():\n    raise op.NoWay()\n", "its downgrade only raises op.NoWay"),
        (UP + "if True:\n    def downgrade():\n        pass\n", "its downgrade is empty"),
        (UP + "def downgrade():\n    op.drop_table('t')\n", None),
        (UP + "def downgrade():\n    if op.get_bind():\n        raise ValueError\n", None),
        (UP + "def downgrade():\n    downgrade_engine1()\n", None),
        # It cannot be told: taken to be reversible.
        (UP + "def _nothing():\n    pass\ndowngrade = functools.partial(_nothing)\n", None),
        (UP + "def wrap(f):\n    return lambda: op.drop_table('t')\n@wrap\ndef downgrade():\n    pass\n", None),
        (UP + "from os import getcwd as downgrade\n", None),
        (UP + "import textwrap\ndowngrade = textwrap.dedent\n", None),
        # Nothing was done, so there is nothing to take back: revisions that join branches.
        ("def upgrade():\n    pass\ndef downgrade():\n    pass\n", None),
        ("def upgrade():\n    pass\n", "it has no function `downgrade`"),
        ("def upgrade():\n    pass\ndef downgrade():\n    raise ValueError\n", "its downgrade only raises ValueError"),
    ],
)
def test_a_downgrade_that_takes_nothing_back_is_found(tmp_path: Path, source: str, reason: str | None) -> None:
    history = read(tmp_path, source)
    assert irreversible(history, ["zero", "one"]) == ({} if reason is None else {"one": reason})


def test_a_function_defined_twice_is_the_last_one(tmp_path: Path) -> None:
    twice = "def downgrade():\n    pass\ndef downgrade():\n    op.drop_table('t')\n"
    assert read(tmp_path / "a", UP + twice).irreversible == {}
    other = "def downgrade():\n    op.drop_table('t')\ndef downgrade():\n    pass\n"
    assert read(tmp_path / "b", UP + other).irreversible == {"one": "its downgrade is empty"}


def test_the_example_history_says_which_of_its_revisions_are() -> None:
    track = Track("app", script_location=Path(__file__).parents[3] / "alembic")
    history = History(track, scripts.read(track)[0])
    assert set(history.irreversible) <= {file.revision for file in history.snapshot.files}
    assert all(reason.startswith(("it has", "its downgrade")) for reason in history.irreversible.values())


def test_a_digest_is_of_names_and_contents_wherever_the_files_lie(tmp_path: Path) -> None:
    here, there = read(tmp_path / "here", UP), read(tmp_path / "there" / "deeper", UP)
    assert here.snapshot.folder != there.snapshot.folder
    assert [name for name, _ in here.snapshot.contents] == ["env.py", "versions/one.py", "alembic.ini"]
    assert here.digest == there.digest
    assert here.is_current()
    (Path(there.snapshot.folder) / "versions" / "one.py").write_text(HEAD + UP + "# a word\n")
    assert not there.is_current()
    assert here.is_current()
