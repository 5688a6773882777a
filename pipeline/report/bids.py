"""Events of a video for a BIDS dataset: a table (`*_events.tsv`) with its sidecar (`*_events.json`), in a derivative dataset of its own.

A video whose name has BIDS entities (`sub-01/ses-02/beh/sub-01_ses-02_task-talk_video.mp4`) gets a table with the same entities in the same
folders, so that the source dataset stays as it is and both are read together. Others get a table under their own name.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from pipeline import __version__
from pipeline.errors import writing
from pipeline.report.spans import Span, read_spans
from pipeline.storage.atomic import replacing
from pipeline.storage.run_folder import RunFolder
from pipeline.vocabulary import AUS, EMOTIONS, UNIT

FOLDER = "bids"
"""Name of the dataset's folder in a report."""

VERSION = "1.10.0"
"""Version of the BIDS specification that the files follow."""

COLUMNS = ("onset", "duration", "trial_type", "track", "person", "value", "description")

UNKNOWN = "n/a"
"""How BIDS writes what is not known."""

_NAME = re.compile(r"(sub-[A-Za-z0-9]+(?:_[a-z]+-[A-Za-z0-9+]+)*)_[A-Za-z0-9]+")
_ENTITY_FOLDER = re.compile(r"(sub|ses)-[A-Za-z0-9]+")


def event_files(names: Mapping[str, str], paths: Mapping[str, str]) -> dict[str, str]:
    """Where the events of each video go, relative to the dataset and without their ending.

    Args:
        names: video_id to a name that is unique in the run.
        paths: video_id to the video's path.

    >>> event_files({"1": "a", "2": "talk"}, {"1": "ds/sub-01/beh/sub-01_task-talk_video.mp4", "2": "films/talk.mp4"})
    {'1': 'sub-01/beh/sub-01_task-talk_desc-focalface_events', '2': 'talk_events'}
    """
    files = {key: _event_file(path, "focalface") or f"{names[key]}_events" for key, path in paths.items()}
    counts = Counter(files.values())
    return {key: file if counts[file] == 1 else _event_file(paths[key], f"focalface{key}") or file for key, file in files.items()}


def _event_file(path: str, label: str) -> str | None:
    """The place of the events of a video whose name has BIDS entities; None for others."""
    place = PurePath(path)
    found = _NAME.fullmatch(place.stem.split(".")[0])
    if found is None:
        return None
    entities = [entity for entity in found[1].split("_") if not entity.startswith("desc-")]
    folders = list(place.parts[:-1])
    if entities[0] in folders:  # the last folder of that subject begins the way within the dataset
        way = folders[len(folders) - 1 - folders[::-1].index(entities[0]) :]
    else:
        way = [*(entity for entity in entities if _ENTITY_FOLDER.fullmatch(entity)), "beh"]
    return "/".join([*way, "_".join([*entities, f"desc-{label}", "events"])])


def write_events(run: RunFolder, video: Mapping[str, Any], table: Path, sidecar: Path) -> None:
    """Write the events of a video and what their columns mean.

    Onsets are seconds from the video's first picture, as BIDS counts from the first data point of a file; they are those of the run's
    tables.

    Args:
        run: the run folder.
        video: its row of the videos table.
        table, sidecar: where to write.

    Raises:
        SettingsError: when the tables cannot be read, or the files not written.
    """
    spans = sorted(read_spans(run, video), key=lambda span: (span.onset_s, span.track_id))
    with writing(table), replacing(table) as part, part.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
        rows.writerow(COLUMNS)
        rows.writerows(map(_row, spans))
    _write_json(sidecar, _meanings())


def write_dataset_description(folder: Path) -> None:
    """Write what a derivative dataset says about itself.

    Raises:
        SettingsError: when the folder cannot be written.
    """
    about = {
        "Name": "Facial events by focalface",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "focalface", "Version": __version__}],
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "dataset_description.json", about)


def _row(span: Span) -> list[str]:
    duration_s = max(span.offset_s - span.onset_s, 0.0)
    values = [span.label, str(span.track_id), span.person_id, None if span.peak is None else f"{span.peak:.4f}"]
    text = span.text.replace("\n", " ").replace("\t", " ")
    return [_seconds(span.onset_s), _seconds(duration_s), *(value or UNKNOWN for value in values), text]


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _meanings() -> dict[str, Any]:
    """The sidecar: a description of every column, and the levels of `trial_type`."""
    levels = {au: f"{UNIT[au].name} is active" for au in AUS}
    levels |= {emotion: f"{emotion} is the most probable of seven emotions" for emotion in EMOTIONS}
    levels |= {"blink": "the eyes close for at most half a second", "description": "a window of which one frame was described"}
    return {
        "onset": {"Description": "start of the event, counted from the video's first picture", "Units": "s"},
        "duration": {"Description": "length of the event", "Units": "s"},
        "trial_type": {"LongName": "Type of event", "Description": "FACS action unit, emotion, blink or description", "Levels": levels},
        "track": {"Description": "number of the track: one face's continuous presence in the video, from 1"},
        "person": {"Description": "the person that the track shows, where people are linked across tracks"},
        "value": {
            "LongName": "Peak",
            "Description": "highest score inside the event, 0 to 1: the model's probability of the action unit or emotion; for blinks of "
            "closed eyes",
        },
        "description": {"Description": "the event in words; for descriptions the sentences about the face and its regions"},
    }


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with writing(file), replacing(file) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
