"""What backs a target up by the database's own means, as a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class Dumper(Protocol):
    """Backs one target up while its guard holds the lock. It is made for one backup."""

    suffix: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads a command of the operator's to the target, password included."""
        ...

    @property
    def is_there(self) -> bool:
        """False where there is nothing yet that could be backed up: the tenant's schema is still to be made."""
        ...

    def ready(self) -> AbstractAsyncContextManager[None]:
        """Around `dump` and `check`: finds the programs, and takes from the guard's session what they need of it.

        Nobody asks the guard anything while this begins or ends. Raises MigrationFailedError of kind `backup` and
        TargetUnreachableError.
        """
        ...

    async def dump(self, file: Path) -> None:
        """Write a backup to a file that is there, empty and our user's alone.

        Raises MigrationFailedError of kind `backup`, retriable when time may cure it. When this is cancelled, nothing
        of it runs on.
        """
        ...

    async def check(self, file: Path, *, provisioned: bool) -> None:
        """Read the backup again; `provisioned`: the target has a version table. Raises as `dump`."""
        ...
