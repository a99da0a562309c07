"""What is said of the statements of a plan, and how bad it is held to be: a track's `findings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["error", "warning", "info"]
Wanted = Literal["error", "warning", "info", "off"]
Linting = Literal["auto", "required", "off"]

# The worst first.
LEVELS: tuple[Level, ...] = ("error", "warning", "info")
# Rows from which a table is large.
LARGE = 100_000
# Before the name of each rule of squawk's.
SQUAWK = "squawk/"

# Our own rules, by name.
OURS: Mapping[str, Level] = {
    "irreversible": "info",
    "online": "info",
    "outside_transaction": "info",
    "half_applied": "info",
    "adopts": "info",
    "mixed_backfill": "error",
    "table_rewrite": "error",
    "blocking_scan": "error",
    "lock_held": "warning",
    "mass_change": "warning",
    "locks": "info",
    "unmeasured": "info",
    "unread": "info",
    "linter_missing": "info",
    "linter_failed": "warning",
}

# The rules of squawk 2.70 (`squawk --help`; https://squawkhq.com/docs/rules), as far as they are no warnings.
_ERRORS = (
    "adding-required-field",
    "ban-concurrent-index-creation-in-transaction",
    "ban-drop-database",
    "ban-drop-schema",
    "ban-truncate-cascade",
)
# A matter of taste, or of what is ours to see to: timeouts are set on each session, and a revision that fails is
# rolled back whole or told of.
_OFF = (
    "ban-uncommitted-transaction",
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-repack",
    "prefer-robust-stmts",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-lock-timeout",
    "require-statement-timeout",
    "require-timeout-settings",
    "transaction-nesting",
)
_INFO = ("ban-char-field", "ban-drop-default", "identifier-too-long")
_WARNINGS = (
    "adding-field-with-default",
    "adding-foreign-key-constraint",
    "adding-not-nullable-field",
    "adding-serial-primary-key-field",
    "ban-alter-domain-with-add-constraint",
    "ban-create-domain-with-constraint",
    "ban-drop-column",
    "ban-drop-constraint",
    "ban-drop-domain",
    "ban-drop-extension",
    "ban-drop-function",
    "ban-drop-not-null",
    "ban-drop-sequence",
    "ban-drop-table",
    "ban-drop-type",
    "ban-drop-view",
    "ban-duplicate-column-assignments",
    "ban-set-schema",
    "changing-column-type",
    "constraint-missing-not-valid",
    "disallowed-unique-constraint",
    "renaming-column",
    "renaming-object",
    "renaming-table",
    "require-concurrent-index-creation",
    "require-concurrent-index-deletion",
    "require-concurrent-partition-detach",
    "require-concurrent-reindex",
    "require-enum-value-ordering",
)
# What squawk says only to who asks for it: off, unless a track gives it a level.
ON_REQUEST = frozenset(
    {
        "ban-add-column",
        "ban-add-composite-attribute",
        "ban-add-enum-value",
        "ban-alter-database-options",
        "ban-alter-extension",
        "ban-alter-function-options",
        "ban-alter-generated-expression",
        "ban-alter-identity",
        "ban-alter-policy-condition",
        "ban-alter-policy-roles",
        "ban-alter-role-options",
        "ban-alter-row-level-security",
        "ban-alter-sequence-values",
        "ban-alter-system-options",
        "ban-alter-view-options",
        "ban-create-policy",
        "ban-detach-inheritance",
        "ban-disable-trigger",
        "ban-drop-generated-expression",
        "ban-drop-index",
        "ban-drop-policy",
        "ban-drop-trigger",
        "ban-new-write-restriction",
        "ban-replace-view-function",
        "ban-replica-identity",
        "ban-revoke",
        "ban-set-default",
        "require-table-schema",
    }
)
SQUAWKS: Mapping[str, Wanted] = {
    **dict.fromkeys(_ERRORS, "error"),
    **dict.fromkeys(_WARNINGS, "warning"),
    **dict.fromkeys(_INFO, "info"),
    **dict.fromkeys((*_OFF, *sorted(ON_REQUEST)), "off"),
}
RULES: Mapping[str, Wanted] = {**OURS, **{f"{SQUAWK}{name}": level for name, level in SQUAWKS.items()}}


@dataclass(frozen=True, slots=True)
class Findings:
    """`rules`: levels over those of `RULES`. `large`: rows from which a table is large. `squawk`: whether its linter
    is asked; `required` makes it an error that it cannot be. `render`: whether a track whose targets env.py migrates is
    rendered to SQL only to be looked at, which runs the bodies of its revisions."""

    rules: Mapping[str, Wanted] = field(default_factory=dict)
    large: int = LARGE
    squawk: Linting = "auto"
    render: bool = False

    def level(self, rule: str) -> Wanted:
        """How bad the rule is held to be. One of a squawk newer than ours is a warning.

        >>> Findings().level("squawk/ban-drop-column"), Findings({"locks": "off"}).level("locks")
        ('warning', 'off')
        >>> Findings(squawk="required").level("linter_missing"), Findings().level("squawk/from-tomorrow")
        ('error', 'warning')
        """
        if rule in self.rules:
            return self.rules[rule]
        if self.squawk == "required" and rule in ("linter_missing", "linter_failed"):
            return "error"
        return RULES.get(rule, "warning")


def at_least(level: Level, bar: Level) -> bool:
    """
    >>> at_least("error", "warning"), at_least("info", "warning")
    (True, False)
    """
    return LEVELS.index(level) <= LEVELS.index(bar)
