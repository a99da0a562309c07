"""The sections of the registry file, each with its form."""

from __future__ import annotations

from pydantic import Field

from orchestrator.registry import forms
from orchestrator.registry.forms import REQUIRED, Form, Kind, Name
from orchestrator.registry.time_forms import ScheduleForm, WindowForm

__all__ = ["REQUIRED", "SECTIONS", "FileForm"]

SECTIONS: dict[str, tuple[type[Form], Kind]] = {
    **forms.SECTIONS,
    "schedules": (ScheduleForm, "mapping"),
    "windows": (WindowForm, "mapping"),
}


class FileForm(forms.FileForm):
    """The registry: tracks, the shards that host tenants, the tenants, and how and when rollouts go over them."""

    schedules: dict[Name, ScheduleForm] | None = Field(None, description="Rollouts that start by the clock, by name.")
    windows: dict[Name, WindowForm] | None = Field(None, description="When targets may be migrated, by name.")
