"""From a wave's `checks` to values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from orchestrator.registry import endpoints
from orchestrator.registry.backfill_forms import ProbeForm
from orchestrator.registry.document import Where
from orchestrator.registry.forms import CheckForm
from orchestrator.registry.model import Check, Probe
from orchestrator.registry.places import Checks, is_inside
from orchestrator.registry.report import Report
from orchestrator.registry.secrets import Secrets

PROBES: tuple[Probe, ...] = ("sql", "promql", "http")
_LETS_IN = ("token", "user", "password")
# Which keys would be passed over with another question.
BELONGINGS: dict[Probe, tuple[str, ...]] = {
    "sql": ("shard", "database", "schema", "on", "sample", "track", "min", "max", "equals"),
    "promql": ("url", "for", "empty", "min", "max", *_LETS_IN),
    "http": ("status", "contains", *_LETS_IN),
}
_OF_TENANTS = ("sample", "track")
_OF_ONE = ("shard", "database", "schema")


class Builder:
    """Builds the checks of one strategy, whose names differ."""

    def __init__(self, report: Report, places: Checks, secrets: Secrets) -> None:
        self._report, self._places, self._secrets = report, places, secrets
        self._seen: dict[str, Where] = {}

    def checks(self, where: Where, forms: Sequence[CheckForm]) -> tuple[Check, ...]:
        """Return a wave's checks that are right; the report gets what is wrong with the others."""
        found = []
        for index, form in enumerate(forms):
            here = (*where, index)
            before = len(self._report.mistakes)
            self._check_name(here, form.name)
            check = Entry(self._report, here, form, self._places, self._secrets).built()
            if check is not None and len(self._report.mistakes) == before:
                found.append(check)
        return tuple(found)

    def _check_name(self, where: Where, name: str) -> None:
        if name in self._seen:
            line = self._report.line(self._seen[name])
            self._report.at((*where, "name"), f"this strategy has a check {name!r} already (line {line})")
        self._seen.setdefault(name, (*where, "name"))


class Entry:
    """One entry, with what is needed to check it."""

    noun = "checks"
    belongings: Mapping[Probe, tuple[str, ...]] = BELONGINGS

    def __init__(
        self, report: Report, where: Where, form: CheckForm | ProbeForm, places: Checks, secrets: Secrets
    ) -> None:
        self.report, self.where, self.form, self.places, self.secrets = report, where, form, places, secrets

    def built(self) -> Check | None:
        form, probe = self.form, self._probe()
        if probe is None:
            return None
        self._check_belongings(probe)
        if probe == "sql":
            self.check_place()
        self.check_limits(probe)
        token, password = self._lets_in()
        return Check(
            form.name,
            probe,
            self._url("http") if probe == "http" else getattr(form, probe),
            shard=form.shard,
            database=form.database,
            schema=form.schema_,
            sample=form.sample,
            track=form.track,
            least=form.min,
            most=form.max,
            equals=form.equals,
            url=self._server() if probe == "promql" else None,
            empty_passes=form.empty == "pass",
            for_seconds=form.for_ or 0.0,
            status=form.status or 200,
            contains=form.contains,
            token=token,
            user=form.user,
            password=password,
            every_seconds=form.every,
            deadline_seconds=form.deadline,
            timeout_seconds=form.timeout,
        )

    def at(self, key: str, message: str, *, on_key: bool = False) -> None:
        self.report.at((*self.where, key), message, key=on_key)

    def given(self, key: str) -> bool:
        return getattr(self.form, {"schema": "schema_", "for": "for_"}.get(key, key)) is not None

    def _probe(self) -> Probe | None:
        asked = [probe for probe in PROBES if self.given(probe)]
        if not asked:
            self.report.at(self.where, "one of `sql`, `promql` or `http` is missing")
            return None
        for other in asked[1:]:
            self.at(other, f"`{asked[0]}` and `{other}` are two questions: make them two {self.noun}", on_key=True)
        return asked[0] if len(asked) == 1 else None

    def _check_belongings(self, probe: Probe) -> None:
        for key in dict.fromkeys(key for keys in self.belongings.values() for key in keys):
            if self.given(key) and key not in self.belongings[probe]:
                whose = " or ".join(f"`{other}`" for other in PROBES if key in self.belongings.get(other, ()))
                self.at(key, f"`{key}` goes with {whose}, not with `{probe}`", on_key=True)

    def check_place(self) -> None:
        if self.form.on is not None:
            for key in filter(self.given, _OF_ONE):
                self.at(key, f"`on: tenants` asks where the tenants are: leave out `{key}`", on_key=True)
        else:
            for key in filter(self.given, _OF_TENANTS):
                self.at(key, f"`{key}` goes with `on: tenants`", on_key=True)
            missing = [key for key in ("shard", "database") if not self.given(key)]
            if missing:
                listed = " and ".join(f"`{key}`" for key in missing)
                self.report.at(self.where, f"{listed} must say where to ask; or write `on: tenants`")
        self.check_shard()
        names = self.places.track_names
        if self.form.track is not None and names is not None and self.form.track not in names:
            self.report.unknown((*self.where, "track"), "track", self.form.track, names)

    def check_shard(self) -> None:
        name, names = self.form.shard, self.places.shard_names
        if name is None:
            return
        if names is not None and name not in names:
            self.report.unknown((*self.where, "shard"), "shard", name, names)
        shard = self.places.shards.get(name)
        if shard is None:
            return
        if shard.dialect == "sqlite" and not is_inside(self.form.database or "x"):
            self.at("database", "this must be a file in the shard's folder")
        if shard.dialect != "postgresql" and self.form.schema_ is not None:
            self.at("schema", f"{shard.dialect} has no schemas within a database: name a database", on_key=True)

    def check_limits(self, probe: Probe) -> None:
        form = self.form
        if probe == "promql" and form.min is None and form.max is None:
            self.report.at(self.where, "`min` or `max` is missing: what may the query's samples be?")
        if form.min is not None and form.max is not None and form.min > form.max:
            self.at("min", "nothing is at least this and at most `max`")
        if probe == "sql" and form.equals is not None and (form.min is not None or form.max is not None):
            self.at("equals", "`equals` goes without `min` and `max`", on_key=True)

    def _server(self) -> str:
        if self.form.url is None:
            self.report.at(self.where, "`url` is missing: the Prometheus server to ask")
            return ""
        text = self._url("url")
        try:
            is_endpoint = "/api/v1" in urlsplit(text).path
        except ValueError:
            return text
        if is_endpoint:
            self.at("url", "end the URL before /api/v1: it is the server's own address")
        return text

    def _url(self, key: str) -> str:
        written = getattr(self.form, key)
        remedy = "give a `token`, or `user` and `password`,"
        return endpoints.url(self.report, (*self.where, key), written, self.secrets, remedy)

    def _lets_in(self) -> tuple[str | None, str | None]:
        form, where = self.form, self.where
        if form.token is not None and form.user is not None:
            self.at("token", "`token` and `user` are two ways to be let in: keep one", on_key=True)
        if (form.user is None) != (form.password is None):
            missing, given = ("user", "password") if form.user is None else ("password", "user")
            self.at(given, f"`{given}` goes with `{missing}`, which is missing", on_key=True)
        if form.user is not None and ":" in form.user:
            self.at("user", "a user's name must not hold a colon here")
        token = password = None
        if form.token is not None:
            token = endpoints.token(self.report, (*where, "token"), form.token, self.secrets)
        if form.password is not None:
            password = endpoints.password(self.report, (*where, "password"), form.password, self.secrets)
        return token, password
