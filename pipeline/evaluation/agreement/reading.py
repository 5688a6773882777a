"""Opens files of human codes, whatever program wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import FocalfaceError, SettingsError
from pipeline.evaluation.agreement.code_tables import FrameClock, read_code_table
from pipeline.evaluation.agreement.codes import Coding
from pipeline.evaluation.agreement.datavyu import is_datavyu_text, read_datavyu_text, read_opf
from pipeline.evaluation.agreement.elan import read_elan
from pipeline.storage.tables import read_table

SUFFIXES = (".eaf", ".opf", ".csv", ".tsv", ".txt")
"""Kinds of files of codes: ELAN, Datavyu, tables."""


def read_codes(files: Sequence[Path], frame_time: FrameClock = lambda video, frame: None) -> tuple[list[Coding], list[str]]:
    """Read human codes.

    Args:
        files: of any kind.
        frame_time: seconds of a frame's number in a video, for tables without times.

    Returns:
        The codings, and what a reader must know about them.

    Raises:
        SettingsError: a file cannot be read, or no file has a code; it is named.
    """
    codings: list[Coding] = []
    notes: list[str] = []
    for file in files:
        try:
            found, said = _read(file, frame_time)
        except OSError as error:
            raise SettingsError(f"cannot read {file}: {error.strerror or error}") from error
        except FocalfaceError as error:
            raise SettingsError(f"{file}: {error}") from error
        codings += found
        notes += [f"{file.name}: {note}" for note in said]
    if not any(coding.labels for coding in codings):
        raise SettingsError(f"{', '.join(map(str, files[:3]))}: no codes in it")
    return codings, notes


def _read(file: Path, frame_time: FrameClock) -> tuple[list[Coding], list[str]]:
    suffix = file.suffix.lower()
    if suffix == ".eaf":
        return read_elan(file)
    if suffix == ".opf":
        return [read_opf(file)], []
    with open(file, "rb") as opened:
        start = opened.read(65536).decode("utf-8", "replace")
    if is_datavyu_text(start):
        return [read_datavyu_text(file, file.read_text(encoding="utf-8-sig", errors="replace"))], []
    return read_code_table(file, read_table(file), frame_time), []
