"""What a report reads of one video: its row, its file, and the settings of its run."""

from __future__ import annotations

from typing import Any

from pipeline.errors import SettingsError, VideoError, VideoErrorKind
from pipeline.storage.run_folder import RunFolder


def video_row(run: RunFolder, video_id: str) -> dict[str, Any]:
    """A row of the videos table.

    Raises:
        SettingsError: the run does not hold the video.
        VideoError: the run could not read the video, so that there is nothing to report.
    """
    rows = run.read("videos", video_id=video_id).to_pylist()
    if not rows:
        raise SettingsError(f"{run.path} holds no video {video_id}: its videos table lists those that it holds")
    if rows[0]["status"] == "failed":
        reason = f"failed in the run, so there is nothing to export: {rows[0]['error']}"
        raise VideoError(VideoErrorKind.FAILED_RUN, reason, rows[0]["path"])
    return dict(rows[0])


def window_seconds(run: RunFolder) -> float:
    """Length of the run's windows, in seconds.

    Raises:
        SettingsError: when run.json does not say.
    """
    try:
        return float(run.info["settings"]["select"]["window"])
    except (KeyError, TypeError, ValueError):
        raise SettingsError(f"{run.path / 'run.json'} does not say how long a window was (settings.select.window)") from None


def sampling_fps(run: RunFolder) -> float | None:
    """Sampled frames a second of the run; None for every frame."""
    fps = run.info.get("settings", {}).get("video", {}).get("fps")
    return None if fps is None else float(fps)


def listed_notes(note: str | None) -> list[dict[str, str]]:
    """The `note` column of a video as a list of kinds and texts.

    >>> listed_notes("joined: two recordings; orientation: mirrored")
    [{'kind': 'joined', 'text': 'two recordings'}, {'kind': 'orientation', 'text': 'mirrored'}]
    """
    parts = [part.partition(": ") for part in (note or "").split("; ") if part]
    return [{"kind": kind, "text": text} for kind, _, text in parts]
