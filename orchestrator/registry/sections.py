"""The sections of the registry file, each with its form."""

from __future__ import annotations

from pydantic import Field

from orchestrator.registry import forms
from orchestrator.registry.backfill_forms import BackfillForm, ShardForm
from orchestrator.registry.forms import REQUIRED, Form, Kind, Name
from orchestrator.registry.time_forms import ScheduleForm, WindowForm

__all__ = ["REQUIRED", "SECTIONS", "FileForm"]

SECTIONS: dict[str, tuple[type[Form], Kind]] = {
    **forms.SECTIONS,
    "shards": (ShardForm, "mapping"),
    "backfill": (BackfillForm, "entry"),
    "schedules": (ScheduleForm, "mapping"),
    "windows": (WindowForm, "mapping"),
}


class FileForm(forms.FileForm):
    """The registry: tracks, the shards that host tenants, the tenants, and how and when rollouts go over them."""

    shards: dict[Name, ShardForm] = Field(  # type: ignore[assignment]  # a shard here is one there
        description="The database servers, by name."
    )
    backfill: BackfillForm | None = Field(None, description="How backfills are throttled, where a shard does not say.")
    schedules: dict[Name, ScheduleForm] | None = Field(None, description="Rollouts that start by the clock, by name.")
    windows: dict[Name, WindowForm] | None = Field(None, description="When targets may be migrated, by name.")
