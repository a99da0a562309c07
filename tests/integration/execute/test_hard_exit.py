"""A process that is to end at once ends, whatever becomes of its log."""

from __future__ import annotations

import subprocess
import sys

# The main thread waits on standard error while it holds the log's lock; then the process is to end.
STUCK = """
import logging, os, sys, threading, time
from orchestrator.observe import logs
from orchestrator.service import ending

ending.TELLING_SECONDS = 0.1
logs.configure("json", "info")
[handler] = logging.getLogger().handlers

def fill():
    os.set_blocking(2, False)
    for size in (65536, 1):
        try:
            while os.write(2, b"x" * size):
                pass
        except BlockingIOError:
            pass
    os.set_blocking(2, True)

def end():
    while handler.lock.acquire(blocking=False):
        handler.lock.release()
        time.sleep(0.01)
    ending.at_once()

if "full" in sys.argv:
    fill()
    threading.Thread(target=end).start()
    ending.log.info("stopping")
ending.at_once()
"""


def test_a_process_whose_log_nobody_reads_ends_none_the_less() -> None:
    with subprocess.Popen([sys.executable, "-c", STUCK, "full"], stderr=subprocess.PIPE) as child:
        try:
            assert child.wait(timeout=60) == 1
        finally:
            child.kill()


def test_a_process_that_ends_at_once_says_so_where_that_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr.count(b'"event": "ended_at_once"')) == (1, 1)
