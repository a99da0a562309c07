"""A process for `test_lock`: takes the driver lock, says so, and keeps it until it is killed."""

from __future__ import annotations

import sys

import anyio

from orchestrator.store.engine import open_store


async def main(url: str) -> None:
    async with open_store(url) as store, store.driver_lock(print):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
