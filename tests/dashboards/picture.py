"""Pictures of pages, by a Chromium without a window."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_SECONDS = 120


def program() -> str | None:
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def take(browser: str, page: Path, width: int, height: int, file: Path) -> None:
    """A PNG of a page, with few colours where pngquant is there. Raises subprocess errors where the browser fails."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            f"--screenshot={file}",
            page.absolute().as_uri(),
        ]
        subprocess.run(command, check=True, timeout=_SECONDS, capture_output=True)
    if quantizer := shutil.which("pngquant"):
        less = [quantizer, "--force", "--skip-if-larger", "--strip", "--speed=1", f"--output={file}", "128", str(file)]
        subprocess.run(less, check=False, timeout=_SECONDS, capture_output=True)
