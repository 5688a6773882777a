"""Settings: one place for defaults, later sources win, and wrong settings are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.errors import FocalfaceWarning, SettingsError
from pipeline.settings import Settings, load_settings

DEFAULTS = Path(__file__).resolve().parents[1] / "configs" / "default.yaml"


def test_the_default_file_shows_every_setting_with_its_default() -> None:
    assert load_settings(DEFAULTS) == Settings()
    shown = yaml.safe_load(DEFAULTS.read_text())
    assert {group: set(values) for group, values in shown.items()} == {
        group: set(values) for group, values in Settings().model_dump().items()
    }


def test_later_sources_win(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("video: {fps: 5}\nselect: {window: 2, regions: [mouth, eyes]}\n")
    settings = load_settings(config, ["video.fps=6", "select.window=3"], {"select.window": 4.0, "detect.every": None})
    assert settings.video.fps == 6
    assert settings.select.window == 4
    assert settings.select.regions == "mouth,eyes"
    assert settings.detect.every is None


def test_values_are_read_as_yaml() -> None:
    assert load_settings(assignments=["video.fps=null"]).video.fps is None
    assert load_settings(assignments=["select.box=[1, 2, 3, 4.5]"]).select.box == (1, 2, 3, 4.5)
    assert load_settings(assignments=["select.box=1,2,3,4.5"]).select.box == (1, 2, 3, 4.5)
    assert load_settings(assignments=["select.regions=mouth, eyes,mouth"]).select.regions == "mouth,eyes"


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("video.fsp=1", "video.fsp: did you mean video.fps?"),
        ("window=1", "window: did you mean select.window?"),
        ("nothing.at.all=1", "allowed are video.fps"),
        ("video.fps=0", "video.fps: must be greater than 0, not 0"),
        ("video.fps=fast", "video.fps: must be a valid number, not 'fast'"),
        ("video.fps=.nan", "video.fps: must"),
        ("detect.every=1.5", "detect.every: must be a valid integer, not 1.5"),
        ("detect.min_face=2", "detect.min_face: must be greater than or equal to 8"),
        ("select.regions=mouth,ears", "unknown region 'ears'"),
        ("select.regions=moth", "did you mean mouth?"),
        ("select.box=1,2,3", "select.box: a box is four numbers"),
        ("select.box=5,2,3,9", "select.box: a box needs x0 < x1"),
        ("describe.device=tpu", "describe.device: must be auto, cpu, cuda or cuda:N"),
        ("describe.model=3", "describe.model: must be a valid string"),
        ("describe.batch_size=true", "describe.batch_size: must be a valid integer"),
        ("execution={executor: in_process, analysers: 2}", "execution"),
        ("execution.executor=perhaps", "execution.executor: must be 'auto', 'in_process', 'two_processes' or 'ray'"),
        ("execution.analysers=0", "execution.analysers: must be greater than or equal to 1"),
        ("video.fps", "--set takes group.key=value"),
        ("video.fps=[1", "not YAML"),
    ],
)
def test_wrong_settings_are_named_in_one_line(assignment: str, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(assignments=[assignment])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("vidoe: {fps: 1}", "unknown setting vidoe"),
        ("video: {fsp: 1}", "unknown setting video.fsp: did you mean video.fps?"),
        ("video: 3", "video in "),
        ("- 1", "must hold groups of settings"),
        ("a: [", "is not YAML"),
        ("video: {1: 2}", "unknown setting video.1"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, content: str, says: str) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(config)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(tmp_path / "none.yaml")


def test_execution_settings_are_not_part_of_a_runs_identity() -> None:
    elsewhere = load_settings(assignments=["execution.analysers=3", "describe.batch_size=8"])
    assert elsewhere.identity() == Settings().identity()
    assert load_settings(assignments=["detect.every=2"]).identity() != Settings().identity()


def test_names_of_an_earlier_version_are_read_with_a_warning(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text("engine: {ray: never}\n")
    with pytest.warns(FocalfaceWarning, match=r"^engine\.ray is now called execution\.executor$"):
        assert load_settings(tmp_path / "old.yaml").execution.executor == "two_processes"
    with pytest.warns(FocalfaceWarning, match="engine.analysers"):
        assert load_settings(assignments=["engine.analysers=3"]).execution.analysers == 3
