"""The main job as a function: what `focalface run` does, for scripts and notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.execution.run import run as run_videos
from pipeline.settings import load_settings
from pipeline.storage.run_folder import RunFolder, open_run


def run(
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    settings: Mapping[str, object] | None = None,
    config: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> RunFolder:
    """Describe the faces of videos, into a folder of tables. Call it again with the same arguments to resume a run that was stopped.

    Args:
        inputs: a video, a folder, a glob pattern or a URL; or several of these.
        out: folder for the results, on this machine.
        settings: `group.key` to value, as in `configs/default.yaml`: `{"video.fps": 5, "select.regions": "eyes,mouth"}`.
        config: a YAML file of settings; `settings` take precedence.
        overwrite: start again where the folder holds a run.

    Returns:
        The run folder, with `.videos`, `.faces` and `.descriptions` as Arrow tables; `.to_pandas()` turns each into a DataFrame.

    Raises:
        SettingsError: before any work, when an input, a setting or the folder does not fit.
        ModelError: when the detector or the model cannot be loaded.

    >>> folder = run("clips/*.mp4", "outputs/clips", settings={"video.fps": 5})  # doctest: +SKIP
    >>> folder.descriptions.to_pandas().groupby("region").size()  # doctest: +SKIP
    """
    several = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    options = load_settings(Path(config) if config else None, values=settings)
    run_videos([os.fspath(one) for one in several], Path(out), options, overwrite)
    return open_run(out)
