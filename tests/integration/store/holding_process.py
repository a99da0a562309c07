"""A process for `test_lock`: takes the driver lock, says so, and keeps it until it is killed, or says why not."""

from __future__ import annotations

import sys

import anyio

from orchestrator.store.engine import open_store


def tell(reason: str) -> None:
    sys.stdout.write(f"{reason}\n")
    sys.stdout.flush()


async def main(url: str, lease_seconds: float) -> None:
    async with open_store(url, lease_seconds=lease_seconds) as store, store.driver_lock(tell):
        tell("held")
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], float(sys.argv[2]))
