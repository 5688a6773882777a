"""The table that assigns videos to groups: one for a whole study, used with any of its runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath

import pandas as pd

from pipeline.errors import FocalfaceError, SettingsError
from pipeline.storage.names import composed
from pipeline.storage.run_folder import video_id
from pipeline.storage.tables import read_table

_FILE_COLUMNS = ("video", "path", "file", "filename")
_SHOWN = 5
"""Problems of a table that are named at once."""


@dataclass(frozen=True)
class Groups:
    """Groups and further columns of the videos of an analysis.

    Attributes:
        table: indexed by `video_id`: `group`, then the other columns of the file as text; only videos that have a row.
        columns: names of the other columns.
        order: the groups, in the order in which the file names them.
        notes: rows that were not used, and videos without a row.
    """

    table: pd.DataFrame
    columns: tuple[str, ...]
    order: tuple[str, ...]
    notes: tuple[str, ...]


def read_groups(file: Path, videos: pd.DataFrame, reserved: Iterable[str] = ()) -> Groups:
    """Read which group each video belongs to.

    A row names a video by its path as the run was given it, by its absolute path, by the end of its path (`session1/a.mp4`), or by its
    file name, with or without extension, as long as only one video of the runs fits. Case counts; the Unicode form (composed or
    decomposed) does not. Rows about videos that are in none of the runs are counted in a note.

    Args:
        file: a CSV (`pipeline.storage.tables.read_table`) with a column `video` (or `path`, `file`, `filename`), a column `group`, and
            any others.
        videos: with `video_id` and `path`.
        reserved: column names that the other columns may not take; a column with such a name gets `_given` appended.

    Raises:
        SettingsError: the file cannot be read or lacks a column, no row is about a video of the runs, a row names no video or fits
            several, or two rows about a video differ. Each row is named by its line.
    """
    header, rows = _read(file)
    name_column = next((name for name in header if name.lower() in _FILE_COLUMNS), None)
    group_column = next((name for name in header if name.lower() == "group"), None)
    if name_column is None or group_column is None:
        found = ",".join(header) or "nothing"
        raise SettingsError(f"{file} needs a column video (or path) and a column group; its header is {found}")
    if not rows:
        raise SettingsError(f"{file} has no rows")
    others = [name for name in header if name not in (name_column, group_column)]
    renamed = {name: f"{name}_given" if name in set(reserved) else name for name in others}
    index = VideoIndex(videos)
    found_rows: dict[str, dict[str, str | None]] = {}
    faults: list[str] = []
    unknown: list[str] = []
    for line, row in rows:
        name, group = row[name_column], row[group_column]
        matches = index.find(name) if name else []
        if name and not matches:
            unknown.append(name)
        elif not name:
            faults.append(f"line {line}: no video is named")
        elif len(matches) > 1:
            faults.append(f"line {line}: {len(matches)} videos fit {name!r}; write more of the path")
        else:
            values = {"group": group or None} | {renamed[other]: row[other] or None for other in others}
            if found_rows.setdefault(matches[0], values) != values:
                faults.append(f"line {line}: another row about {name!r} says something else")
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise SettingsError(f"{file}: {'; '.join(faults[:_SHOWN])}{more}")
    if not found_rows:
        example = str(videos["path"].iloc[0])
        raise SettingsError(f"{file}: no row is about a video of these runs; one of them is {example}, the first row is about {unknown[0]}")
    table = pd.DataFrame.from_dict(found_rows, orient="index", columns=["group", *renamed.values()]).rename_axis("video_id")
    notes = []
    if unknown:
        names = ", ".join(dict.fromkeys(unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        notes.append(f"{len(unknown)} of {len(rows)} rows of {file} are about videos of other runs ({names}); they are not used.")
    if left := len(videos) - int(table["group"].notna().sum()):
        notes.append(f"{left} of {len(videos)} videos have no group in {file}; they take no part in the comparison.")
    order = tuple(dict.fromkeys(row[group_column] for _, row in rows if row[group_column]))
    return Groups(table, tuple(renamed.values()), order, tuple(notes))


class VideoIndex:
    """Finds videos by the names that people write for them."""

    def __init__(self, videos: pd.DataFrame) -> None:
        self._ids = set(videos["video_id"])
        self._paths = {str(key): _parts(str(path)) for key, path in zip(videos["video_id"], videos["path"], strict=True)}
        self._by_name: dict[str, list[str]] = {}
        for key, parts in self._paths.items():
            for name in {parts[-1], PurePath(parts[-1]).stem}:
                self._by_name.setdefault(name, []).append(key)

    def find(self, name: str) -> list[str]:
        """video_ids that a written name fits: the exact path alone, else every path that ends like it."""
        wanted = _parts(name)
        if not wanted:
            return []
        candidates = self._by_name.get(wanted[-1], [])
        exact = [key for key in candidates if self._paths[key] == wanted]
        if exact:
            return exact
        absolute = video_id(name)
        if absolute in self._ids:
            return [absolute]
        shorter = [key for key in candidates if _ends_like(self._paths[key], wanted)]
        return shorter or [key for key in candidates if _ends_like(wanted, self._paths[key])]


def _parts(path: str) -> tuple[str, ...]:
    """The parts of a path in composed Unicode; backslashes separate too, if there are no slashes."""
    text = composed(path.strip())
    plain = PurePath(text) if "/" in text or "\\" not in text else PureWindowsPath(text)
    return tuple(part for part in plain.parts if part not in (".", "/"))


def _ends_like(path: tuple[str, ...], end: tuple[str, ...]) -> bool:
    """Whether a path ends in the parts `end`, whose last one may lack the extension."""
    if len(end) > len(path):
        return False
    own = path[len(path) - len(end) :]
    return own[:-1] == end[:-1] and end[-1] in (own[-1], PurePath(own[-1]).stem)


def _read(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header, and the line and values of each row."""
    try:
        table = read_table(file)
        return list(table.columns), list(table.rows())
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror or error}") from error
    except FocalfaceError as error:
        raise SettingsError(f"cannot read {file}: {error}") from error
