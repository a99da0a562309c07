"""What a track's env.py was found to do, as values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.registry.model import Target

# As the registry has it: of a name that env.py does not set.
Name = tuple[str, ...]
# Among the names that env.py sets for two tenants, nothing is alike but for the tenants' ids in them.
UNCLEAR: Name = ()


@dataclass(frozen=True, slots=True)
class EnvPy:
    """What env.py does: `problem` says why it could not be tried, then the rest tells of its source only.

    `version_table` and its schema are what env.py sets, cut where the tenant's id stands: `("a_", "")` is `a_<tenant>`,
    `UNCLEAR` a name made from the tenant in some other way, None left to us. `arguments` are the `-x` keys it asks for,
    `variables` the environment variables, `attributes` the keys of `config.attributes`; `imports` the packages that are
    neither Python's nor Alembic's. `configured` lists what else it gives to `context.configure`. `elsewhere` is a
    database that it connects to although `sqlalchemy.url` says another; `online` is why SQL cannot stand for it.
    """

    version_table: Name | None = None
    version_table_schema: Name | None = None
    transaction_per_migration: bool = False
    metadata: int = 0
    contexts: int = 0
    connections: int = 0
    sends_sql: bool = False
    is_async: bool = False
    configured: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    elsewhere: str | None = None
    online: str | None = None
    problem: str | None = None

    @property
    def takes_connection(self) -> bool:
        return "connection" in self.attributes

    @property
    def sets_version_table(self) -> bool:
        return self.version_table is not None or self.version_table_schema is not None

    def settled(self, target: Target) -> Target:
        """The target with the version table that env.py works on: its own where it sets one, else the registry's.

        A name that is unclear is left as the registry has it; where env.py then comes with another, nothing runs.
        """
        if not (self.version_table or self.version_table_schema):
            return target
        table = _filled(self.version_table, target.tenant) or target.version_table
        schema = _filled(self.version_table_schema, target.tenant) or target.version_table_schema
        return replace(target, version_table=table, version_table_schema=schema)


def common(values: tuple[str | None, str | None], tenants: tuple[str, str]) -> Name | None:
    """The name behind what env.py set for two tenants.

    >>> common(("v_T1", "v_T2"), ("T1", "T2"))
    ('v_', '')
    >>> common(("versions", "versions"), ("T1", "T2"))
    ('versions',)
    >>> common(("v_t1", "v_t2"), ("T1", "T2"))
    ()
    """
    first, second = values
    if first is None and second is None:
        return None
    if first is None or second is None:
        return UNCLEAR
    pieces, others = tuple(first.split(tenants[0])), tuple(second.split(tenants[1]))
    return pieces if pieces == others else UNCLEAR


def written(name: Name) -> str:
    """The name as a registry file would have it.

    >>> written(("v_", ""))
    'v_{tenant}'
    """
    return "{tenant}".join(name) if name else "a name made from the tenant"


def _filled(name: Name | None, tenant: str) -> str | None:
    return tenant.join(name) if name else None
