"""An ELAN file (.eaf) of a video: tiers for its action units, emotions, blinks and descriptions, which ELAN plays beside the video.

Tiers are named `AU12@track 1`, `emotion@track 1`, `blink@track 1` and `description@track 1`, with the track (or the person) as participant.
An annotation on the tier of an action unit is its code, with the FACS grade from A to E where the model gives intensities: `AU12C`.
"""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import writing
from pipeline.report.spans import Span, read_spans
from pipeline.storage.atomic import replacing
from pipeline.storage.remote import is_url
from pipeline.storage.run_folder import RunFolder
from pipeline.video.container import media_start_s

GRADES = "ABCDE"
"""FACS intensities 1 to 5."""


def write_elan(run: RunFolder, video: Mapping[str, Any], file: Path) -> None:
    """Write the ELAN file of a video. Times are milliseconds on the clock of the media file (`pipeline.video.container.media_start_s`).

    Args:
        run: the run folder.
        video: its row of the videos table.
        file: where to write.

    Raises:
        SettingsError: when the tables cannot be read, or the file cannot be written.
    """
    from pympi.Elan import Eaf

    spans = read_spans(run, video)
    shift_s = media_start_s(video["path"], video["start_s"] or 0.0)
    document = Eaf(author=f"focalface {__version__}")
    document.remove_tier("default")
    url, relative, kind = _media(video["path"], file.parent)
    document.add_linked_file(url, relative, kind)
    for name, who, own in _tiers(spans):
        document.add_tier(name, tier_dict={"TIER_ID": name, "LINGUISTIC_TYPE_REF": "default-lt", "PARTICIPANT": who})
        for span in own:
            start, end = (round((time_s + shift_s) * 1000) for time_s in (span.onset_s, span.offset_s))
            document.add_annotation(name, max(start, 0), max(end, start + 1, 1), _value(span))
    with writing(file), replacing(file) as part:
        document.to_file(str(part))


def _tiers(spans: Sequence[Span]) -> list[tuple[str, str, list[Span]]]:
    """The name, the participant and the spans of each tier; spans of one tier do not overlap."""
    tiers: dict[str, tuple[str, list[Span]]] = {}
    for span in spans:
        name = f"{span.label if span.kind == 'unit' else span.kind}@{span.who}"
        tiers.setdefault(name, (span.who, []))[1].append(span)
    return [(name, who, own) for name, (who, own) in tiers.items()]


def _value(span: Span) -> str:
    if span.kind == "unit":
        grade = "" if span.intensity is None else GRADES[min(max(round(span.intensity), 1), len(GRADES)) - 1]
        return f"{span.label}{grade}"
    return {"blink": "AU45", "emotion": span.label}.get(span.kind, span.text)


def _media(path: str, folder: Path) -> tuple[str, str | None, str]:
    """How a file in `folder` links to a video: its URL, the way from the folder, and its MIME type."""
    kind = mimetypes.guess_type(path)[0] or "unknown"
    if is_url(path):
        return path, None, kind
    place = Path(os.path.abspath(path)).as_posix()
    try:
        way = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # on another drive
        return f"file:///{place.lstrip('/')}", None, kind
    return f"file:///{place.lstrip('/')}", way if way.startswith(".") else f"./{way}", kind
