"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.errors import SettingsError
from pipeline.settings import Choice, Settings, check_range, parse_area, parse_time

DEFAULTS = Settings()

IMAGE_FORMATS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
"""Suffixes of the image files that commands write."""


def setting(help: str, default: object, *names: str) -> Any:
    """An option for a setting: None where it is not given. The help shows the setting's default."""
    return typer.Option(*names, help=help, show_default=str(default))


def check_image_name(option: str, path: Path) -> None:
    """Check before any work that an image can be written under this name.

    Raises:
        SettingsError: when the suffix names no image format.
    """
    if path.suffix.lower() not in IMAGE_FORMATS:
        raise SettingsError(f"{option} takes a .png, .jpg or .webp file, not {path}")


def _time(text: str) -> float:
    """Seconds.

    Raises:
        typer.BadParameter: when the text is no time.
    """
    try:
        return parse_time(text) or 0.0
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


From = Annotated[
    float | None,
    typer.Option("--from", parser=_time, metavar="TIME", help="Only from this time of each video on: seconds, MM:SS or HH:MM:SS."),
]
To = Annotated[float | None, typer.Option("--to", parser=_time, metavar="TIME", help="Only before this time.")]
Area = Annotated[
    str | None,
    typer.Option(
        "--area",
        metavar="x0,y0,x1,y1",
        help="Only faces whose box has its centre there: pixels of the upright frame, or shares of its sides where none is over 1.",
    ),
]
Largest = Annotated[
    int | None, typer.Option("--largest", metavar="N", help="Only tracks among the N largest faces in at least half of their frames.")
]


def choice(from_s: float | None, to_s: float | None, area: str | None, largest: int | None) -> Choice:
    """Which of a run's faces count.

    Raises:
        SettingsError: when the range ends before it begins, or the area is none.
    """
    try:
        check_range(from_s or 0.0, to_s)
        place = parse_area(area)
    except ValueError as error:
        raise SettingsError(f"{'--area' if 'area' in str(error) else '--from, --to'}: {error}") from None
    if largest is not None and largest < 1:
        raise SettingsError(f"--largest takes 1 or more, not {largest}")
    return Choice(from_s or 0.0, to_s, place, largest)


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[str | None, setting("nano, the folder of a checkpoint, or a hub id.", DEFAULTS.describe.model)]
Adapter = Annotated[str | None, typer.Option(help="Folder of a LoRA adapter for the model.")]
Backend = Annotated[str | None, setting("onnx, transformers, vllm (where installed) or openai (a server).", DEFAULTS.describe.backend)]
Endpoint = Annotated[str | None, typer.Option(metavar="URL", help="OpenAI-compatible server, for --backend openai.")]
Sentences = Annotated[str | None, setting("model, or plain: a fixed wording, which is faster.", DEFAULTS.describe.sentences)]
Device = Annotated[str | None, setting("auto, cpu, cuda or cuda:N.", DEFAULTS.describe.device)]
Detector = Annotated[str | None, setting("auto, centerface, insightface or a path.", DEFAULTS.detect.detector, "--detector")]
MinReadable = Annotated[
    float | None, setting("Least readability of a face that is read, 0 to 1; 0 reads all of them.", DEFAULTS.describe.min_readable)
]
MinFace = Annotated[int | None, setting("Height of the smallest face to keep, in pixels.", DEFAULTS.detect.min_face)]
