"""What a systemd unit says, read as systemd reads the parts that are used here."""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Unit:
    """Values by section and key, in order; an empty value takes back those before it."""

    sections: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def one(self, key: str, section: str = "Service") -> str:
        """Raises AssertionError where the key is not there, or more than once."""
        values = self.sections[section][key]
        assert len(values) == 1, f"{key} stands there {len(values)} times"
        return values[0]

    @property
    def command(self) -> list[str]:
        return shlex.split(self.one("ExecStart"))

    @property
    def environment(self) -> dict[str, str]:
        """Raises AssertionError for what is no assignment."""
        words = [word for line in self.sections["Service"]["Environment"] for word in shlex.split(line)]
        assert all("=" in word for word in words), words
        return dict(word.split("=", 1) for word in words)


def read(text: str) -> Unit:
    unit = Unit()
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if stripped.startswith("["):
            section = unit.sections.setdefault(stripped.strip("[]"), defaultdict(list))
            continue
        key, found, value = stripped.partition("=")
        assert found, f"not a setting: {stripped}"
        section[key.strip()].append(value.strip())
    return unit


def environment_file(text: str) -> dict[str, str]:
    """The assignments of an EnvironmentFile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def seconds(value: str) -> int:
    """A time span as the unit writes it: plain seconds."""
    return int(value)
