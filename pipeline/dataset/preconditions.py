"""Checks before a dataset is built. Nothing is created here, and nothing heavy is imported, so that a wrong command is answered at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.dataset.label_file import JoinedLabels
from pipeline.dataset.labels import LabelOptions
from pipeline.dataset.schema import INFO
from pipeline.dataset.source import Source
from pipeline.errors import FocalfaceError, SettingsError


def open_sources(
    paths: Sequence[Path], out: Path, options: LabelOptions, labels: Path | None = None, overwrite: bool = False
) -> list[Source]:
    """Open the sources of a dataset.

    Args:
        paths, out, options, labels, overwrite: as for `pipeline.dataset.build.build`.

    Raises:
        FocalfaceError: a source or the labels cannot be read, or do not fit together.
        SettingsError: `out` is taken.
    """
    _check_out(out, overwrite)
    joined = JoinedLabels(labels) if labels else None
    sources = [Source(path, options, joined) for path in paths]
    if joined and not any(source.joined for source in sources):
        raise FocalfaceError(f"{labels} names no picture of {', '.join(str(source.path) for source in sources)}: compare their image_id")
    named = [source.blendshape_names for source in sources if source.blendshape_names]
    if any(names != named[0] for names in named):
        raise FocalfaceError("the sources name different blendshapes: build a dataset of each")
    return sources


def _check_out(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / INFO).is_file():
        raise SettingsError(f"{out} exists and is not a dataset: choose another folder for --out")
    if not overwrite:
        raise SettingsError(f"{out} holds a dataset: pass --overwrite to replace it, or choose another folder")
