from __future__ import annotations

import ast
import gc
import sys
import threading
import time
from pathlib import Path

from orchestrator.history.syntax import tree_of


def test_a_tree_follows_the_file_and_what_cannot_be_parsed_is_empty(tmp_path: Path) -> None:
    file = tmp_path / "env.py"
    assert tree_of(file).body == []
    file.write_text("x = 1\n")
    assert [type(node) for node in tree_of(file).body] == [ast.Assign]
    assert tree_of(file) is tree_of(str(file)), "parsed once"
    file.write_text("import os\nimport sys\n")
    assert [type(node) for node in tree_of(file).body] == [ast.Import, ast.Import]
    file.write_text("def (")
    assert tree_of(file).body == []


def _let_others(phase: str, info: object) -> None:
    time.sleep(0)


def test_threads_that_ask_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each file anew, deep enough that collecting garbage changes threads in the middle."""
    failed: list[BaseException] = []
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(10)
    gc.callbacks.append(_let_others)

    def parse(number: int) -> None:
        try:
            for turn in range(12):
                file = tmp_path / f"{number}.py"
                file.write_text(f"x = {'-' * 60}{turn}\n" * 40)
                assert len(tree_of(file).body) == 40
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=parse, args=(number,)) for number in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        gc.callbacks.remove(_let_others)
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
    assert failed == []
