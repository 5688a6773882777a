"""The settings of a run: typed, small, and grouped by the stage that uses them.

Defaults live here; `configs/default.yaml` shows them all with what moving them does. Later sources win: a configuration file,
`--set group.key=value`, a command's own options. A key that is unknown or a value that is not allowed is refused by name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import floor
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import FocalfaceWarning, SettingsError
from pipeline.vocabulary import REGIONS, Box

BACKENDS = tuple(sorted(file.stem for file in (Path(__file__).parent / "describe" / "backends").glob("[!_]*.py")))
"""What can run the model: the modules of `pipeline.describe.backends`."""

AUTO = "auto"

EQUAL_BACKENDS = (AUTO, "onnx", "transformers")
"""Backends that give the same answers of a checkpoint, scores within a millionth: runs may go on with another of them."""

EXECUTION = "execution"
"""The group that says where the work is done. All other groups decide what is found, and belong to a run's identity."""

RENAMED = {
    "describe.engine": "describe.backend",
    "engine.ray": "execution.executor",
    **{
        f"engine.{key}": f"execution.{key}"
        for key in ("address", "analysers", "describers", "detectors", "analyser_resource", "describer_resource", "dashboard_host")
    },
}
"""Settings of version 0.1 and their present names. They are still read, with a warning."""

MAX_KEY_S = 0.5
"""Greatest time between two frames that are searched whole, in seconds: a new face is found within it."""

MIN_READABLE = 0.7
"""Readability from which a face is read. It was chosen from the errors of nano (docs/quality.md): higher leaves out more faces that are
read well, lower keeps more that are read badly."""

_RENAMED_VALUES = {"engine.ray": {"always": "ray", "never": "two_processes"}}


def _joined(value: object) -> object:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def parse_regions(value: str) -> str:
    """`auto`, `all` or region names with commas, each once.

    Raises:
        ValueError: when a name is not a region's.
    """
    names = [name.strip() for name in value.split(",")]
    if names in (["auto"], ["all"]):
        return names[0]
    for name in names:
        if name not in REGIONS:
            near = get_close_matches(name, [*REGIONS, "auto", "all"], 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"unknown region {name!r}; {hint}allowed are auto, all, or any of {', '.join(REGIONS)}")
    return ",".join(dict.fromkeys(names))


def _known_device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError(f"must be auto, cpu, cuda or cuda:N, not {value!r}")
    return value


def _known_backend(value: str) -> str:
    if value not in (AUTO, *BACKENDS):
        raise ValueError(f"must be {AUTO}, {', '.join(BACKENDS[:-1])} or {BACKENDS[-1]}, not {value!r}")
    return value


def _known_endpoint(value: str | None) -> str | None:
    if value is None:
        return None
    address = urlsplit(value)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError(f"must be an address such as http://localhost:8000/v1, not {value!r}")
    if address.username or address.password or address.query:
        raise ValueError("must be an address without a key: put the key into the environment variable OPENAI_API_KEY")
    return value.rstrip("/").removesuffix("/chat/completions")


def parse_box(value: object) -> Box | None:
    """`"x0,y0,x1,y1"`, a list or a tuple to four floats.

    Raises:
        ValueError: when it is none of these, or encloses no area.
    """
    if value is None:
        return None
    try:
        x0, y0, x1, y1 = map(float, value.split(",") if isinstance(value, str) else value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise ValueError(f"a box is four numbers x0,y0,x1,y1 in pixels, not {value!r}") from None
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"a box needs x0 < x1 and y0 < y1, unlike {value!r}")
    return x0, y0, x1, y1


def parse_time(value: object) -> float | None:
    """A time in seconds from a number, `SECONDS`, `MM:SS` or `HH:MM:SS`; None stays None.

    >>> parse_time("1:02:03.5")
    3723.5

    Raises:
        ValueError: when it is none of these.
    """
    if value is None:
        return None
    parts = str(value).split(":")
    try:
        if isinstance(value, bool) or len(parts) > 3 or not all(part.strip().replace(".", "", 1).isdigit() for part in parts):
            raise ValueError
        *larger, seconds = parts
        counts = [int(part) for part in larger]
        if larger and (float(seconds) >= 60 or any(count >= 60 for count in counts[1:])):
            raise ValueError
    except ValueError:
        raise ValueError(f"a time is seconds, MM:SS or HH:MM:SS, not {value!r}") from None
    return float(seconds) + sum(count * 60 ** (len(counts) - place) for place, count in enumerate(counts))


def check_range(from_s: float, to_s: float | None) -> None:
    """Check that a range of time holds something.

    Raises:
        ValueError: when it ends before it begins.
    """
    if to_s is not None and to_s <= from_s:
        raise ValueError(f"the range ends at {to_s:g} s, before it begins at {from_s:g} s")


def parse_area(value: object) -> Box | None:
    """As `parse_box`, for an area of the frame: pixels, or shares of width and height where no number is over 1.

    Raises:
        ValueError: see `parse_box`; also where a number is negative.
    """
    try:
        area = parse_box(value)
    except ValueError as error:
        raise ValueError(str(error).replace("a box", "an area", 1)) from None
    if area is not None and min(area) < 0:
        raise ValueError(f"an area lies in the frame: no number may be negative, unlike {value!r}")
    return area


def _auto_every(value: object) -> object:
    """None where the word `auto` is given."""
    return None if value == "auto" else value


def _all_frames(value: object) -> object:
    """None, for every frame, where the word for that is given."""
    return None if value in ("all", "null") else value


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class VideoGroup(_Group):
    """Decoding. `fps`: frames analysed per second; None (`all`, `null`) for every frame; `timeout_s`: seconds without a frame after which a
    decoder counts as hung; `memory_mb`: MiB that it may take; `segment_s`: about the seconds of a long video that one analyser takes while
    others take the rest, 0 for never; `hardware`: the kind of device that decodes what it can, None for the CPU; `decoder`: which
    backend reads a file (`pipeline.video.source.DecoderChoice`); `from_s`, `to_s`: the range that is analysed, in seconds of each video:
    frames at `from_s` and later, before `to_s` (None: to the end)."""

    fps: Annotated[Annotated[float, Field(gt=0, le=1000)] | None, BeforeValidator(_all_frames)] = 10.0
    timeout_s: Annotated[float, Field(gt=0, le=86400)] = 120.0
    memory_mb: Annotated[int, Field(ge=256)] = 4096
    segment_s: Annotated[float, Field(ge=0, le=86400)] = 60.0
    hardware: Literal["cuda", "vaapi", "qsv", "vulkan", "videotoolbox"] | None = None
    decoder: Literal["auto", "decord", "pyav"] = "auto"
    from_s: Annotated[float, BeforeValidator(parse_time), Field(ge=0)] = 0.0
    to_s: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(parse_time)] = None

    @property
    def range_s(self) -> dict[str, Any]:
        """The range as arguments of `pipeline.video.source.VideoSource.frames`."""
        return {"from_s": self.from_s, "to_s": self.to_s}

    @model_validator(mode="after")
    def _check_range(self) -> VideoGroup:
        check_range(self.from_s, self.to_s)
        return self


class DetectGroup(_Group):
    """Finding and following faces. `detector`: `auto`, `centerface`, `insightface` or a path; `min_face`: least height of a face in
    pixels, lower boxes are left out; `device`: where the detector runs; `every`: it searches the whole of every k-th sampled frame, and
    others where faces are known (None, `auto`: see `Settings.key_s`); `area`: only faces whose box has its centre in this part of the
    frame: pixels of the upright frame, or shares of its width and height where no number is over 1."""

    detector: str = "auto"
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    min_face: Annotated[int, Field(ge=8, le=2000)] = 40
    every: Annotated[Annotated[int, Field(ge=1, le=100)] | None, BeforeValidator(_auto_every)] = None
    area: Annotated[Box | None, BeforeValidator(parse_area)] = None


class SelectGroup(_Group):
    """Choosing what to describe. `window`: seconds; `regions`: `auto`, `all` or names; `box`: a frame rectangle instead; `frame`: describe
    all regions of a window in one frame (`window`), or each near its own peak (`region`); `largest`: only tracks that are among this many
    largest faces in at least half of their frames."""

    window: Annotated[float, Field(gt=0, le=3600)] = 1.0
    regions: Annotated[str, BeforeValidator(_joined), AfterValidator(parse_regions)] = "auto"
    box: Annotated[Box | None, BeforeValidator(parse_box)] = None
    frame: Literal["window", "region"] = "window"
    largest: Annotated[int, Field(ge=1)] | None = None


class DescribeGroup(_Group):
    """Reading fields and writing sentences.

    Attributes:
        model: `nano`, folder of a checkpoint or hub id; for the backend `openai`, the name of a model of the server.
        adapter: folder of a LoRA adapter.
        sentences: `model`: written by the model; `plain`: a fixed wording of the fields.
        backend: what runs the model; `auto`: onnx for small checkpoints on the CPU, else transformers.
        endpoint: base URL of the server, for the backend `openai`.
        frames: where the whole face is read: `all` sampled frames, the `described` ones, or `auto`: all of them for small models.
        min_readable: least score of a face that is read (`pipeline.faces.readability`); 0 reads all of them.
        device: where the model runs; not for the backend `openai`.
        batch_size: regions described together.
    """

    model: str = "nano"
    adapter: str | None = None
    sentences: Literal["model", "plain"] = "model"
    backend: Annotated[str, AfterValidator(_known_backend)] = AUTO
    endpoint: Annotated[str | None, AfterValidator(_known_endpoint)] = None
    frames: Literal["auto", "all", "described"] = "auto"
    min_readable: Annotated[float, Field(ge=0, le=1)] = MIN_READABLE
    device: Annotated[str, AfterValidator(_known_device)] = "auto"
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 32

    def load_options(self) -> dict[str, Any]:
        """Arguments of `pipeline.describe.backends.load_describer`."""
        return self.model_dump(exclude={"frames", "min_readable"})

    @model_validator(mode="after")
    def _has_endpoint(self) -> DescribeGroup:
        if self.backend == "openai" and self.endpoint is None:
            address = "the address of an OpenAI-compatible server such as http://localhost:8000/v1"
            raise ValueError(f"the backend openai needs describe.endpoint, {address}")
        if self.backend != "openai" and self.endpoint is not None:
            raise ValueError("endpoint is for the backend openai")
        if self.endpoint is not None and self.adapter is not None:
            raise ValueError("adapter is for a local checkpoint: a model at an endpoint takes none")
        return self

    @property
    def is_local(self) -> bool:
        """Whether the model is a checkpoint that this program opens, and not a model of a server."""
        return self.endpoint is None


class ExecutionGroup(_Group):
    """Where the work is done.

    Attributes:
        executor: `in_process`, `two_processes` (one analyses, one describes), `ray`, or `auto`: Ray where the work is worth its start-up.
        address: address of a running Ray; None starts one on this machine.
        analysers, describers: number of workers of each kind; None derives it from cores and GPUs.
        detectors: number of detectors that all analysers share; None: one for each GPU they run on, on the CPU one for each analyser.
        analyser_resource, describer_resource: custom Ray resource of which each worker takes one, so that it runs only on nodes
            that offer it.
        dashboard_host: address at which a Ray that is started here shows its dashboard; None for no dashboard.
    """

    executor: Literal["auto", "in_process", "two_processes", "ray"] = "auto"
    address: str | None = None
    analysers: Annotated[int, Field(ge=1)] | None = None
    describers: Annotated[int, Field(ge=1)] | None = None
    detectors: Annotated[int, Field(ge=1)] | None = None
    analyser_resource: Annotated[str, Field(min_length=1)] | None = None
    describer_resource: Annotated[str, Field(min_length=1)] | None = None
    dashboard_host: Annotated[str, Field(min_length=1)] | None = None

    @property
    def ray_only(self) -> list[str]:
        """Keys whose values only the Ray executor can honour."""
        return [key for key, value in self if key != "executor" and value is not None]

    @model_validator(mode="after")
    def _check_executor(self) -> ExecutionGroup:
        if self.executor in ("in_process", "two_processes") and self.ray_only:
            raise ValueError(f"executor is {self.executor}, but {self.ray_only[0]} needs Ray")
        return self


class Settings(_Group):
    """All settings of a run.

    >>> load_settings(assignments=["video.fps=5"]).video.fps
    5.0
    """

    video: VideoGroup = VideoGroup()
    detect: DetectGroup = DetectGroup()
    select: SelectGroup = SelectGroup()
    describe: DescribeGroup = DescribeGroup()
    execution: ExecutionGroup = ExecutionGroup()

    def key_s(self, video_fps: float) -> float:
        """Seconds between the frames of a video that are searched whole, as `pipeline.faces.finding.find_faces` takes them.

        >>> [load_settings(assignments=[word]).key_s(30) for word in ("video.fps=10", "detect.every=3", "video.fps=2")]
        [0.5, 0.3, 0.0]

        Args:
            video_fps: frame rate of the video.

        Returns:
            `MAX_KEY_S` at most; 0 where every sampled frame is searched whole.
        """
        fps = min(self.video.fps or video_fps, video_fps)
        most = max(1, floor(MAX_KEY_S * fps + 1e-6))
        frames = min(self.detect.every or most, most)
        return frames / fps if frames > 1 else 0.0

    def identity(self) -> dict[str, Any]:
        """What decides the results, as plain data: two runs may share an output folder when theirs are equal."""
        values = self.model_dump(
            mode="json",
            exclude={EXECUTION: True, "video": {"timeout_s", "memory_mb", "segment_s"}, "detect": {"device"}, "describe": {"batch_size"}},
        )
        if self.describe.backend in EQUAL_BACKENDS:
            values["describe"]["backend"] = "transformers"
        return values


def _keys() -> dict[str, Any]:
    return {
        f"{group}.{key}": field
        for group, outer in Settings.model_fields.items()
        for key, field in outer.annotation.model_fields.items()  # type: ignore[union-attr]
    }


def _unknown(key: str) -> SettingsError:
    keys = list(_keys())
    near = get_close_matches(key, keys, 1, cutoff=0.5) or [name for name in keys if name.endswith(f".{key.rsplit('.')[-1]}")]
    hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(keys)}"
    return SettingsError(f"unknown setting {key}: {hint}")


def _read(config: Path) -> dict[str, dict[str, Any]]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read {config}: {error}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{config} must hold groups of settings ({', '.join(Settings.model_fields)}), not a {type(content).__name__}")
    groups: dict[str, dict[str, Any]] = {}
    for group, values in content.items():
        if group not in Settings.model_fields and not any(key.startswith(f"{group}.") for key in RENAMED):
            raise _unknown(str(group))
        if not isinstance(values, dict):
            raise SettingsError(f"{group} in {config} must hold settings, one a line, not {values!r}")
        for key, value in values.items():
            name, value = _renamed(f"{group}.{key}", value)
            group_name, _, key_name = name.partition(".")
            groups.setdefault(group_name, {})[key_name] = value
    return groups


def _renamed(key: str, value: Any) -> tuple[str, Any]:
    """The present name and value of a setting; warns about names of an earlier version."""
    if key not in RENAMED:
        return key, value
    warnings.warn(f"{key} is now called {RENAMED[key]}", FocalfaceWarning, stacklevel=3)
    return RENAMED[key], _RENAMED_VALUES.get(key, {}).get(value, value)


def load_settings(
    config: Path | None = None,
    assignments: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    values: Mapping[str, object] | None = None,
) -> Settings:
    """Gather settings from all their sources.

    Args:
        config: a YAML file of groups.
        assignments: `group.key=value`, the value as YAML.
        options: `group.key` to value, from a command's own options; those that are None were not given.
        values: `group.key` to value, None included.

    Raises:
        SettingsError: an unknown key, a wrong type or a value out of range; one line that names the key and what is allowed.
    """
    groups = _read(config) if config else {}
    given = parse_assignments(assignments, "group.key=value") | {key: value for key, value in (options or {}).items() if value is not None}
    given |= values or {}
    for key, value in given.items():
        key, value = _renamed(key, value)
        if key not in _keys():
            raise _unknown(key)
        group, name = key.split(".")
        groups.setdefault(group, {})[name] = value
    try:
        return Settings.model_validate(groups)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(str(part) for part in fault["loc"][:2])
        raise (_unknown(key) if fault["type"] == "extra_forbidden" else SettingsError(f"{key}: {fault_text(fault)}")) from error


def parse_assignments(assignments: Sequence[str], form: str) -> dict[str, object]:
    """`KEY=VALUE` texts of `--set` to values, read as YAML does.

    Args:
        form: an example of a valid value, for the error message.

    Raises:
        SettingsError: where there is no `=`, or the value is not YAML.
    """
    given: dict[str, object] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set takes {form}, not {assignment!r}")
        try:
            given[key.strip()] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"the value of {key} is not YAML: {text!r}") from error
    return given


def fault_text(fault: Mapping[str, Any]) -> str:
    """What pydantic found wrong with a value, as one would say it."""
    message = fault["msg"].removeprefix("Value error, ")
    if message.startswith("Input should"):
        message = f"{message.replace('Input should', 'must', 1)}, not {fault['input']!r}"
    return message


@dataclass(frozen=True)
class Choice:
    """Which faces of a run count in an analysis or a report; all of them by default.

    Attributes:
        from_s, to_s: seconds of the video: frames at `from_s` and later, before `to_s` (None: to the end).
        area: x0, y0, x1, y1 in pixels of the upright frame, or shares of its width and height where no number is over 1: only faces whose
        box
            has its centre there.
        largest: only tracks that are among this many largest faces in at least half of the frames in which they are seen.
    """

    from_s: float = 0.0
    to_s: float | None = None
    area: Box | None = None
    largest: int | None = None

    @property
    def text(self) -> str:
        """What is chosen, in words; empty where everything is.

        >>> Choice(from_s=5, to_s=8.5, largest=1).text
        '5 to 8.5 s, the largest track'
        """
        parts = []
        if self.from_s or self.to_s is not None:
            parts.append(f"from {self.from_s:g} s" if self.to_s is None else f"{self.from_s:g} to {self.to_s:g} s")
        if self.area is not None:
            parts.append(f"faces in the area {','.join(f'{side:g}' for side in self.area)}")
        if self.largest is not None:
            parts.append("the largest track" if self.largest == 1 else f"the {self.largest} largest tracks")
        return ", ".join(parts)


EVERYTHING = Choice()
"""The choice that leaves nothing out."""
