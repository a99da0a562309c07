"""Where backups lie: which count as whole, which are found again, and which go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.execute.shelf import PARTIAL, About, Kept, Shelf, folder_name

ABOUT = About("r1", "upgrade", "acme", "app", "pg", "postgresql://db/acme", ("alpha",))


def _put(directory: Path, rollout: str, direction: str = "upgrade", content: bytes = b"dump") -> Kept:
    shelf = Shelf(directory, replace(ABOUT, rollout=rollout, direction=direction))
    file = shelf.begin("dump")
    file.write_bytes(content)
    return shelf.finish(file)


def test_a_backup_is_found_by_the_rollout_and_direction_that_made_it(tmp_path: Path) -> None:
    kept = _put(tmp_path, "r1")
    assert kept.size == 4
    assert Shelf(tmp_path, ABOUT).find() == kept
    assert Shelf(tmp_path, replace(ABOUT, rollout="r2")).find() is None
    assert Shelf(tmp_path, replace(ABOUT, direction="downgrade")).find() is None
    assert Shelf(tmp_path, replace(ABOUT, tenant="other")).find() is None
    assert Shelf(tmp_path / "nowhere", ABOUT).find() is None


def test_one_that_is_no_longer_whole_is_not_found(tmp_path: Path) -> None:
    kept = _put(tmp_path, "r1")
    kept.file.write_bytes(b"dum")
    assert Shelf(tmp_path, ABOUT).find() is None
    kept.file.unlink()
    assert Shelf(tmp_path, ABOUT).find() is None
    kept.file.write_bytes(b"dump")
    kept.file.with_name("about.json").write_text("{")
    assert Shelf(tmp_path, ABOUT).find() is None


def test_what_a_killed_run_left_goes_and_never_counts(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ABOUT)
    file = shelf.begin("dump")
    file.write_bytes(b"half")
    assert shelf.find() is None
    again = shelf.begin("dump")
    assert not file.exists()
    assert again.parent.is_dir()


def test_the_oldest_go_and_a_rollouts_own_never(tmp_path: Path) -> None:
    made = [_put(tmp_path, f"r{number}") for number in range(4)]
    shelf = Shelf(tmp_path, replace(ABOUT, rollout="r3"))
    shelf.rotate(keep=2)
    assert [one.file.exists() for one in made] == [False, False, True, True]
    made.append(_put(tmp_path, "r3", "downgrade"))
    shelf.rotate(keep=1)
    assert [one.file.exists() for one in made] == [False, False, False, True, True]
    assert list(tmp_path.rglob(f"{PARTIAL}*")) == []


def test_a_folder_is_a_backup_as_well(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, ABOUT)
    file = shelf.begin("backup")
    (file / "inner").mkdir(parents=True)
    (file / "a").write_bytes(b"12")
    (file / "inner" / "b").write_bytes(b"345")
    assert shelf.finish(file).size == 5
    found = shelf.find()
    assert found is not None
    assert (found.file / "inner" / "b").read_bytes() == b"345"


@pytest.mark.parametrize(
    "tenant", ["", "..", "../x", "a/b", "a b", "-rf", ".x", "ü" * 200, "x" * 200, "\ud800", "a\0b"]
)
def test_a_name_is_one_short_plain_name_and_no_other_targets(tenant: str) -> None:
    name = folder_name(tenant, "app", "place")
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith((".", "-"))
    assert len(name) <= 100
    assert name != folder_name(f"{tenant}_", "app", "place")
    assert name != folder_name(tenant, "app", "another place")
