"""Run `alembic upgrade` again and again, and kill it with -9 at random moments until it has come to its end.

python -m tests.integration.backfills.kills CONFIG SEED KILLS   (the URL comes in TEST_URL)

It forks, so that a run begins at once. Prints what it did as JSON: at each kill, the checkpoint's count and the rows
that are changed, read in one statement.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

COUNTS = sa.text(
    "SELECT (SELECT COALESCE(sum(rows_changed), 0) FROM alembic_version_backfills), "
    "(SELECT count(*) FROM accounts WHERE balance = id * 100), (SELECT count(*) FROM accounts WHERE balance = id)"
)


def main(config: str, seed: str, kills: str) -> None:
    chance = random.Random(int(seed))
    engine = sa.create_engine(os.environ["TEST_URL"], poolclass=sa.NullPool)
    seen: list[list[int]] = []
    while True:
        wanted = len(seen) < int(kills)
        statements, seconds = chance.randrange(25, 60) if wanted else None, chance.uniform(0, 0.003)
        child = os.fork()
        if child == 0:
            _upgrade(config, statements, seconds)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
        if sa.inspect(engine).has_table("alembic_version_backfills"):
            with engine.connect() as connection:
                seen.append([int(value) for value in connection.execute(COUNTS).one()])
    sys.stdout.write(json.dumps({"exit": os.waitstatus_to_exitcode(status), "seen": seen}))


def _upgrade(config: str, statements: int | None, seconds: float) -> None:
    """It is killed so many seconds after so many statements, in the middle of whatever it does then."""
    if statements is not None:
        count = iter(range(statements, -1, -1))

        @sa.event.listens_for(sa.Engine, "before_cursor_execute")
        def counting(*_: object) -> None:
            if next(count, None) == 0:
                threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()

    code = 1
    try:
        made = Config(config)
        made.set_main_option("sqlalchemy.url", os.environ["TEST_URL"].replace("%", "%%"))
        command.upgrade(made, "head")
        code = 0
    except CommandError as exc:
        sys.stderr.write(str(exc))
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])
