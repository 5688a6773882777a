"""Trends over run folders: what is read, what is refused, and the files that come out."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.describe.fields import Fields, decide
from pipeline.errors import SettingsError
from pipeline.records import Request
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends import SCHEMAS, Options, load
from pipeline.vocabulary import AUS, EMOTIONS
from tests.support.trends import RAW, described, make_trend_run, steady

ODD = "<script>alert(1)<script>"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two tracks in one video (the second with a gap), one in another, none in a third."""
    smile = steady(20) | dict.fromkeys(range(5, 9), (0.9, "happiness"))
    gappy = {number: cell for number, cell in steady(12, 0.8, "sadness").items() if number not in (4, 5)}
    videos = {f"{ODD}.mp4": [described(ODD, 1, smile), described(ODD, 2, gappy)], "$b$.mp4": [described("$b$", 1, steady(6))], "c.mp4": []}
    return make_trend_run(tmp_path / "run [1]*", videos, thresholds=dict.fromkeys(AUS, 0.5))


def add_frames(folder: Path, key: str, track: int, times: np.ndarray, au43: np.ndarray, scored: np.ndarray | None = None) -> None:
    """Put scores of every frame into the faces table of one video."""
    columns: dict[str, Any] = {
        "video_id": [key] * len(times),
        "frame_index": np.arange(len(times)),
        "time_s": times,
        "track_id": np.full(len(times), track, np.int32),
        **{au: np.full(len(times), 0.1, np.float32) for au in AUS},
        "AU43": au43.astype(np.float32),
        **{f"emotion_{name}": np.full(len(times), 1 / 7, np.float32) for name in EMOTIONS},
        "age": np.full(len(times), 31.0, np.float32),
        **{name: np.zeros(len(times), np.float32) for name in ("yaw", "pitch", "roll")},
    }
    if scored is not None:
        for name in (*AUS, *(f"emotion_{name}" for name in EMOTIONS), "age"):
            columns[name] = np.where(scored, columns[name], np.nan)
    table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
    pq.write_table(table, folder / "faces" / f"{key}.parquet")


def test_series_events_and_tracks(run: Path) -> None:
    trends = load([run], RAW)
    assert trends.source == "windows"
    series = trends.pandas("series")
    two = series[(series["track_id"] == 2)]
    assert two["time_s"].tolist() == list(range(12))
    assert two.index[two["gap"]].size == 2
    assert two.loc[two["gap"], ["AU12", "age", "emotion", "valence"]].isna().all(axis=None)
    events = trends.pandas("events")[["track_id", "au", "onset_s", "offset_s"]].sort_values(["track_id", "onset_s"])
    assert events.values.tolist() == [[1, "AU12", 5, 9], [2, "AU12", 0, 4], [2, "AU12", 6, 12]]
    tracks = trends.pandas("tracks")
    assert tracks.groupby("video_id").size().to_dict() == {ODD: 2, "$b$": 1}
    one = tracks[tracks["seen_s"] == 20].iloc[0]
    assert one["share_happiness"] == pytest.approx(0.2)
    assert one["age"] == pytest.approx(30, abs=1e-3)
    steps = trends.pandas("transitions")
    assert steps[["from_emotion", "to_emotion", "count"]].values.tolist() == [["happiness", "neutral", 1], ["neutral", "happiness", 1]]
    au12 = trends.pandas("track_aus").query("au == 'AU12'").set_index(["video_id", "track_id"])
    assert au12.loc[(ODD, 1), "baseline"] == pytest.approx(0.1)
    assert au12.loc[(ODD, 1), "baseline_basis"] == "neutral"
    assert au12.loc[(ODD, 1), "active_share"] == pytest.approx(0.2)
    assert au12.loc[(ODD, 1), "events_per_min"] == pytest.approx(3)
    assert np.isnan(au12.loc[("$b$", 1), "events_per_min"])
    assert au12.loc[("$b$", 1), "rate_note"] == "seen for 6.0 s only; a rate needs 10 s"
    for name, schema in SCHEMAS.items():
        assert trends[name].schema.equals(schema), name


def test_every_table_of_tracks_and_videos_names_the_file(run: Path) -> None:
    trends = load([run], RAW)
    paths = {ODD: f"{ODD}.mp4", "$b$": "$b$.mp4", video_id("c.mp4"): "c.mp4"}
    for name in SCHEMAS:
        table = trends.pandas(name)
        if "video_id" in table:
            assert (table["path"] == table["video_id"].map(paths)).all(), name


def test_events_are_what_the_run_calls_active(tmp_path: Path) -> None:
    """With the checkpoint's thresholds, no smoothing and no hysteresis, a window is inside an event exactly if its row lists the AU."""
    rng = np.random.default_rng(0)
    thresholds = {"AU12": 0.56, "AU24": 0.31, "AU25": 0.35}
    rows = described("a", 1, dict(enumerate((float(score), "neutral") for score in rng.random(60)))).to_pylist()
    for row in rows:
        row |= {"AU24": float(rng.random()), "AU25": float(rng.random())}
        request = Request(np.zeros((112, 112, 3), np.uint8), (0.0, 0.0, 112.0, 112.0), "face")
        fields = Fields({au: row[au] for au in thresholds}, np.full(7, 1 / 7), np.eye(101)[30])
        row["aus"] = list(decide(fields, request, thresholds).aus)
    assert any(row["AU24"] >= 0.31 and row["AU25"] >= 0.35 for row in rows), "pressed and parted lips exclude each other"
    table = pa.Table.from_pylist(rows, described("a", 1, {}).schema)
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [table]}, thresholds=thresholds)
    trends = load([folder], Options(smooth="none", hold=1.0))
    for au in thresholds:
        events = trends.pandas("events").query("au == @au")
        inside = [any(events["onset_s"].le(t) & events["offset_s"].gt(t)) for t in range(60)]
        assert inside == [au in row["aus"] for row in rows], au
    assert trends.pandas("track_aus").set_index("au")["threshold"][["AU12", "AU25", "AU01"]].tolist() == pytest.approx([0.56, 0.35, 0.5])
    assert not trends.notes
    assert load([folder], Options(threshold=0.9)).pandas("track_aus")["threshold"].unique() == pytest.approx([0.9])


def test_a_run_that_states_no_thresholds_is_noted(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(5))]})
    assert any("does not state its checkpoint's thresholds" in note and "0.5" in note for note in load([folder]).notes)


def test_scores_of_every_frame_make_the_series(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(20))]}, settings={"video": {"fps": None}})
    times = np.arange(500) / 25
    au43 = np.full(500, 0.02)
    au43[100:103] = 0.9
    au43[300:400] = 0.9
    add_frames(folder, "a", 1, times, au43)
    trends = load([folder], RAW)
    assert (trends.source, trends.grid_s) == ("frames", None)
    series = trends.pandas("series")
    assert series["time_s"].tolist() == pytest.approx(times.tolist())
    assert series["frame_index"].tolist() == list(range(500))
    events = trends.pandas("events").query("au == 'AU43'")
    assert events[["onset_s", "offset_s"]].values.tolist() == [[4.0, 4.12], [12.0, 16.0]]
    assert trends.pandas("blinks")[["onset_s", "offset_s"]].values.tolist() == [[4.0, 4.12]]
    track = trends.pandas("tracks").iloc[0]
    assert track["blinks_per_min"] == pytest.approx(3)
    assert track["age"] == pytest.approx(30, abs=1e-3)  # from the described windows, which carry intervals
    assert trends.pandas("moments")["description"].notna().all()
    coarse = load([folder], Options(grid_s=2.0, smooth="none")).pandas("series")
    assert coarse["time_s"].tolist() == list(np.arange(0, 20, 2.0))
    assert coarse["AU43"].tolist() == pytest.approx([0.02] * 2 + [0.02 + 0.88 * 3 / 50] + [0.02] * 3 + [0.9] * 2 + [0.02] * 2, abs=1e-6)
    windows = load([folder], Options(source="windows", smooth="none"))
    assert (windows.source, windows.grid_s) == ("windows", 1.0)


def test_faces_that_cannot_be_read_are_gaps_and_described_frames_alone_are_no_series(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(20))]}, settings={"video": {"fps": None}})
    times, au43 = np.arange(500) / 25, np.full(500, 0.02)
    add_frames(folder, "a", 1, times, au43, scored=(times < 4) | (times >= 16))
    series = load([folder], RAW).pandas("series")
    assert series[series["gap"]]["time_s"].between(4, 15.99).all()
    assert load([folder], RAW).pandas("tracks")["seen_s"].tolist() == pytest.approx([8.0])
    add_frames(folder, "a", 1, times, au43, scored=np.arange(500) % 25 == 12)
    assert load([folder], RAW).source == "windows"
    with pytest.raises(SettingsError, match="no scores of every frame"):
        load([folder], Options(source="frames"))


def test_runs_with_and_without_scores_of_every_frame_go_together_by_windows(tmp_path: Path) -> None:
    new = make_trend_run(tmp_path / "new", {"a.mp4": [described("a", 1, steady(20))]})
    add_frames(new, "a", 1, np.arange(200) / 10, np.full(200, 0.02))
    old = make_trend_run(tmp_path / "old", {"b.mp4": [described("b", 1, steady(20))]})
    add_frames(old, "b", 1, np.arange(200) / 10, np.full(200, 0.02), scored=np.zeros(200, bool))
    trends = load([new, old])
    assert trends.source == "windows"
    assert any("old has no scores of every frame" in note for note in trends.notes)


def test_a_coarser_grid_averages_and_a_finer_one_is_refused(tmp_path: Path) -> None:
    cells = {number: (number / 10, "neutral") for number in (0, 1, 2, 3, 6, 7, 8)}
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, cells, 0.5)]})
    series = load([folder], Options(grid_s=1.0, smooth="none")).pandas("series")
    assert series["time_s"].tolist() == [0, 1, 2, 3, 4]
    assert series["AU12"].tolist() == pytest.approx([0.05, 0.25, np.nan, 0.65, 0.8], nan_ok=True)
    assert load([folder], RAW).grid_s == 0.5
    with pytest.raises(SettingsError, match=r"--grid 0.1 is finer than the runs' windows of 0.5 s"):
        load([folder], Options(grid_s=0.1))


def test_the_region_asked_for(tmp_path: Path) -> None:
    mouth = described("a", 1, {2: (0.8, "happiness"), 3: (0.9, "happiness"), 7: (0.7, "happiness")}, region="mouth")
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(9)), mouth]})
    series = load([folder], Options(region="mouth", smooth="none")).pandas("series")
    assert series["time_s"].tolist() == [2, 3, 4, 5, 6, 7]
    assert series["gap"].tolist() == [False, False, True, True, True, False]
    with pytest.raises(SettingsError, match="no row is about the region eyes: pass --region with one of face, mouth"):
        load([folder], Options(region="eyes"))


def test_folders_that_are_no_run_or_not_yet(tmp_path: Path, run: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run"):
        load([tmp_path])
    RunFolder(tmp_path / "begun").begin({})
    with pytest.raises(SettingsError, match="no finished video yet"):
        load([tmp_path / "begun"])
    (run / "videos" / "$b$.parquet").unlink()  # killed before its commit
    (run / "_partial").mkdir()
    trends = load([run])
    assert "$b$" not in trends["tracks"]["video_id"].to_pylist()
    assert "unfinished" in trends.notes[0]
    (run / "descriptions" / f"{ODD}.parquet").write_bytes(b"not parquet")
    with pytest.raises(SettingsError, match="the tables cannot be read"):
        load([run])


def test_tables_without_our_columns(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(5))]})
    file = folder / "descriptions" / "a.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["AU43", "age", "description"]), file)  # of a version that had fewer
    trends = load([folder])
    assert trends["series"]["AU43"].null_count == 5
    assert trends["tracks"]["age"].to_pylist() == [None]
    pq.write_table(pq.read_table(file).select(["video_id", "AU12"]), file)
    with pytest.raises(SettingsError, match="lack the columns track_id, start_s, end_s, region"):
        load([folder])


def test_nan_and_null_scores_are_gaps_of_that_score(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(4) | {1: (float("nan"), "neutral")})]})
    series = load([folder], RAW).pandas("series")
    assert series["AU12"].isna().tolist() == [False, True, False, False]
    assert not series["gap"].any()


def test_a_video_of_two_runs_counts_once_as_the_last_has_it(tmp_path: Path) -> None:
    one = make_trend_run(tmp_path / "one", {"a.mp4": [described("a", 1, steady(5))], "b.mp4": [described("b", 1, steady(5))]})
    two = make_trend_run(tmp_path / "two", {"a.mp4": [described("a", 1, steady(8))]})
    trends = load([one, two])
    assert trends.pandas("tracks")[["run", "video_id", "seen_s"]].values.tolist() == [["two", "a", 8], ["one", "b", 5]]
    assert any("1 videos of two are in an earlier named run too" in note for note in trends.notes)


def test_days_and_where_they_are_known_from(tmp_path: Path, samples: Path) -> None:
    clip = samples / "WolfgangLanger_Pexels.mp4"
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(5))], str(clip): []})
    days = load([folder]).pandas("videos").set_index("video_id")[["day", "day_source"]]
    assert days.loc["a"].tolist() == ["2019-04-14", "file"]  # day 18,000 of the Unix calendar
    assert days.loc[video_id(clip)].tolist() == ["2019-10-11", "container"]


def focalface(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_the_command_writes_everything_the_same_every_time(run: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text(f'video,group\n"{ODD}.mp4",<i>\n$b$.mp4,y\n')
    code, out, err = focalface("trends", run, "--groups", groups)
    assert code == 0, err
    assert "3 videos (2 with faces, 1 without); 3 tracks of faces" in out
    assert "<script>a…cript>.mp4 #1" in out
    assert "$b$.mp4 #1" in out
    first = contents(run / "trends")
    assert focalface("trends", run, "--groups", groups)[0] == 0
    assert contents(run / "trends") == first
    expected = {f"{name}.{kind}" for name, kind in product(SCHEMAS, ("parquet", "csv"))}
    drawn = (
        "tracks",
        "transitions",
        "days",
        "groups",
        "timeline__script_alert(1)_script__1",
        "timeline__script_alert(1)_script__2",
        "timeline__b__1",
    )
    expected |= {f"figures/{name}{ending}" for name, ending in product(drawn, (".png", ".svg", "_narrow.png"))}
    assert set(first) == expected | {"summary.html"}
    for name in ("series", "events", "tracks"):
        table, text = (pq.read_table(run / "trends" / f"{name}.parquet"), pyarrow.csv.read_csv(run / "trends" / f"{name}.csv"))
        assert text.column_names == table.column_names
        assert text.num_rows == table.num_rows
    page = (run / "trends" / "summary.html").read_text()
    assert "<script" not in page
    assert all(text in page for text in ("&lt;script&gt;alert(1)", "&lt;i&gt;", "&lt;b&gt;parted"))
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.slow
def test_fewer_tracks_leave_no_old_figures(run: Path, tmp_path: Path) -> None:
    small = make_trend_run(tmp_path / "small", {"a.mp4": [described("a", 1, steady(5))]})
    for folder in (run, small):
        assert focalface("trends", folder, "--out", tmp_path / "out")[0] == 0
    names = {file.stem.removesuffix("_narrow") for file in (tmp_path / "out" / "figures").iterdir()}
    assert names == {"tracks", "timeline_a_1"}


def test_a_track_without_blinks_fills_its_timeline(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": [described("a", 1, steady(5), AU43=0.02)]})
    assert focalface("trends", folder)[0] == 0
    for ending in (".png", "_narrow.png"):
        with Image.open(folder / "trends" / "figures" / f"timeline_a_1{ending}") as picture:
            inked = np.flatnonzero((np.asarray(picture.convert("L")) < 250).any(axis=1))
        assert np.diff(inked).max() < 0.15 * len(inked), "the figure has a wide blank band"


def test_a_run_without_faces_says_so(tmp_path: Path) -> None:
    folder = make_trend_run(tmp_path / "run", {"a.mp4": []})
    code, out, _ = focalface("trends", folder)
    assert code == 0
    assert "1 video (1 without). No face has scores" in out
    page = (folder / "trends" / "summary.html").read_text()
    assert "No face has scores" in page
    assert "<img" not in page
    assert pq.read_table(folder / "trends" / "series.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "films"], "--source takes one of auto, frames, windows, not 'films'"),
        (["--smooth", "gauss"], "--smooth takes one of none, median, savgol, ema, not 'gauss'"),
        (["--threshold", "1.5"], "--threshold takes a number above 0 and at most 1, not 1.5"),
        (["--hold", "0"], "--hold takes a number above 0 and at most 1, not 0"),
        (["--grid", "-1"], "--grid takes seconds above 0, not -1"),
        (["--width", "nan"], "--width takes seconds above 0, not nan"),
        (["--region", "ear"], "--region takes one of face"),
        (["--region", "mouth", "--source", "frames"], "--source frames is about the whole face"),
        (["another"], "several folders need --out DIR"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    code, _, err = focalface("trends", tmp_path, *options)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_job_is_a_script(run: Path) -> None:
    script = Path(__file__).parents[1] / "jobs" / "trends.py"
    done = subprocess.run([sys.executable, script, run, "--relative"], capture_output=True, text=True, cwd=script.parents[1])
    assert done.returncode == 0, done.stderr
    assert str(run / "trends" / "summary.html") in done.stdout
