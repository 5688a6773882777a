"""Checks before an evaluation. Nothing heavy is imported here, so that a wrong command is answered at once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import FocalfaceError, SettingsError, one_line
from pipeline.evaluation.face_files import open_faces
from pipeline.evaluation.schemas import NEEDED_COLUMNS


def check_preconditions(
    faces: Path,
    by: Collection[str] = (),
    answers: Path | None = None,
    text_models: Collection[Path] = (),
    judge: str | None = None,
    out: Path | None = None,
) -> None:
    """Check the files and options of an evaluation.

    Args:
        faces: see `pipeline.evaluation.face_files.open_faces`.
        by: columns that figures are split by.
        answers: a file of answers.
        text_models: folders of text models.
        judge: address of a judge.
        out: folder for the results.

    Raises:
        FocalfaceError: a file is missing or not what it should be.
        SettingsError: the options do not fit together.
    """
    for folder in text_models:
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {folder}; a text model is a folder with its weights and tokenizer")
    if judge and not judge.startswith(("http://", "https://")):
        raise SettingsError(f"the judge's address must begin with http:// or https://, unlike {judge!r}")
    if judge and not out:
        raise SettingsError("--judge needs --out, the folder in which the judge's replies are kept")
    open_faces(faces, by)
    if answers:
        open_answers(answers)


def open_answers(path: Path) -> pq.ParquetFile:
    """Open a file of answers and check its columns.

    Raises:
        FocalfaceError: it is not a Parquet file of answers.
    """
    if not path.is_file():
        raise FocalfaceError(f"there is no file {path}")
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise FocalfaceError(f"{path}: not a Parquet file of answers ({one_line(error)})") from error
    names = file.schema_arrow.names
    if missing := sorted(set(NEEDED_COLUMNS) - set(names)):
        raise FocalfaceError(f"{path}: columns {', '.join(missing)} are missing; needed are {', '.join(NEEDED_COLUMNS)}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FocalfaceError(f"{path}: not a Parquet file of answers (two columns are called {twice[0]})")
    return file
