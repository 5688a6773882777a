"""One table of groups for a whole study."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.storage.run_folder import video_id
from pipeline.trends import load
from tests.support.trends import described, make_trend_run, steady


def make_study(folder: Path, names: list[str]) -> Path:
    return make_trend_run(folder / "run", {name: [described(video_id(name), 1, steady(12))] for name in names})


def groups_of(run: Path, table: Path) -> dict[str, str]:
    return dict(load([run], groups=table).pandas("videos").set_index("path")["group"].dropna())


def test_rows_about_other_runs_are_counted_and_videos_without_a_row_too(tmp_path: Path) -> None:
    run = make_study(tmp_path, ["a.mp4", "b.mp4", "c.mp4"])
    table = tmp_path / "study.csv"
    table.write_text("video,group\na.mp4,x\nb.mp4,y\nelsewhere.mp4,x\nanother.mp4,x\n")
    trends = load([run], groups=table)
    assert groups_of(run, table) == {"a.mp4": "x", "b.mp4": "y"}
    assert any("2 of 4 rows" in note and "elsewhere.mp4, another.mp4" in note for note in trends.notes)
    assert any("1 of 3 videos have no group" in note for note in trends.notes)


@pytest.mark.parametrize(
    "written", ["day1/a.mp4", "./day1/a.mp4", "{cwd}/day1/a.mp4", "a.mp4", "a", "day1\\a.mp4", "/other/disk/day1/a.mp4"]
)
def test_a_video_is_named_by_file_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = make_study(tmp_path, ["day1/a.mp4", "day1/b.mp4"])
    table = tmp_path / "study.csv"
    table.write_text(f"video,group\n{written.format(cwd=tmp_path)},x\n")
    assert groups_of(run, table) == {"day1/a.mp4": "x"}


def test_accents_match_in_any_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = unicodedata.normalize("NFC", "Zoë é 25.mp4"), unicodedata.normalize("NFD", "Zoë é 25.mp4")
    for stored, written in ((composed, decomposed), (decomposed, composed)):
        run = make_study(tmp_path / stored, [stored])
        table = tmp_path / "study.csv"
        table.write_text(f"video,group\n{written},x\n", encoding="utf-8")
        assert list(groups_of(run, table).values()) == ["x"]


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (";", "cp1252"), (",", "utf-8-sig")]
)
def test_tables_as_spreadsheets_save_them(tmp_path: Path, delimiter: str, encoding: str) -> None:
    run = make_study(tmp_path, ["Müller, A.mp4", "b.mp4"])
    table = tmp_path / "study.csv"
    lines = [["Path", " Group ", "Participant"], ['"Müller, A.mp4"', "Männer", "007"], ["b.mp4", "Frauen", "008"]]
    table.write_bytes("\r\n".join(delimiter.join(line) for line in lines).encode(encoding))
    trends = load([run], groups=table)
    assert groups_of(run, table) == {"Müller, A.mp4": "Männer", "b.mp4": "Frauen"}
    for name in ("videos", "by_video", "tracks"):
        carried = trends.pandas(name).drop_duplicates("path").set_index("path")["Participant"].to_dict()
        assert carried == {"Müller, A.mp4": "007", "b.mp4": "008"}, name


def test_groups_are_compared_in_the_order_of_the_table(tmp_path: Path) -> None:
    run = make_study(tmp_path, ["a.mp4", "b.mp4"])
    table = tmp_path / "study.csv"
    for first, second in (("before", "after"), ("after", "before")):
        table.write_text(f"video,group\nz.mp4,{first}\na.mp4,{second}\nb.mp4,{first}\n")
        trends = load([run], groups=table)
        assert set(trends.pandas("comparisons")[["group_a", "group_b"]].itertuples(index=False, name=None)) == {(first, second)}
        assert trends.pandas("by_group")["group"].drop_duplicates().tolist() == [first, second]


def test_a_column_named_like_one_of_ours_is_renamed(tmp_path: Path) -> None:
    run = make_study(tmp_path, ["a.mp4"])
    table = tmp_path / "study.csv"
    table.write_text("video,group,age,day\na.mp4,x,44,monday\n")
    videos = load([run], groups=table).pandas("videos").iloc[0]
    assert (videos["age_given"], videos["day_given"]) == ("44", "monday")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,group\na.mp4,x\n", "needs a column video"),
        ("", "needs a column video"),
        ("video,group\n", "has no rows"),
        ("video,group,group\na.mp4,x,y\n", "cannot read"),
        ("video,group\nz.mp4,x\n", "no row is about a video of these runs"),
        ("video,group\na.mp4,x\n,y\n", "line 3: no video is named"),
        ("video,group\na.mp4,x\nb.mp4,x\na.mp4,y\n", "line 4: another row about 'a.mp4' says something else"),
        ("video,group\nc.mp4,x\n", "line 2: 2 videos fit 'c.mp4'; write more of the path"),
        ("video,group\n1/c.mp4,x\nc.mp4,x\n", "line 3: 2 videos fit 'c.mp4'"),
    ],
)
def test_tables_that_do_not_fit_are_refused_by_line(tmp_path: Path, content: str, message: str) -> None:
    run = make_study(tmp_path, ["a.mp4", "b.mp4", "1/c.mp4", "2/c.mp4"])
    table = tmp_path / "study.csv"
    table.write_text(content)
    with pytest.raises(SettingsError, match=message):
        load([run], groups=table)
    with pytest.raises(SettingsError, match="cannot read"):
        load([run], groups=tmp_path / "missing.csv")
