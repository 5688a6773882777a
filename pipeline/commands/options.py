"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import SettingsError
from pipeline.settings import Settings

DEFAULTS = Settings()


def setting(help: str, default: object, *names: str) -> Any:
    """An option that stands for a setting: None where it is not given, its default said in the help."""
    return typer.Option(*names, help=help, show_default=str(default))


def check_picture(option: str, path: Path) -> None:
    """See before any work that a picture can be written under this name.

    Raises:
        SettingsError: when its ending names no kind of picture.
    """
    if path.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
        raise SettingsError(f"{option} takes a .png, .jpg or .webp file, not {path}")


Debug = Annotated[bool, typer.Option("--debug", help="On an error, show where in the program it arose.")]
Model = Annotated[str | None, setting("nano, a checkpoint's folder or a hub id.", DEFAULTS.describe.model)]
Adapter = Annotated[str | None, typer.Option(help="Folder of a LoRA adapter to put on the model.")]
Engine = Annotated[str | None, setting("transformers, or vllm where it is installed.", DEFAULTS.describe.engine)]
Sentences = Annotated[str | None, setting("model, or plain: a fixed wording, sooner there.", DEFAULTS.describe.sentences)]
Device = Annotated[str | None, setting("auto, cpu, cuda or cuda:N.", DEFAULTS.describe.device)]
Finder = Annotated[str | None, setting("auto, centerface, insightface or a path.", DEFAULTS.detect.detector, "--detector")]
MinFace = Annotated[int | None, setting("Least height of a face in pixels; lower ones are left out.", DEFAULTS.detect.min_face)]
