"""Trends over run folders: what is read, what is refused, archives and groups, and the files that come out."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pipeline.cli import main
from pipeline.errors import SettingsError
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, empty, video_id
from pipeline.trends import SCHEMAS, Options, load
from pipeline.trends.archive import bootstrap, change_points, compare, interval
from pipeline.vocabulary import AUS, EMOTIONS

DAY = 86_400 * 10**9
RAW = Options(smooth="none")
Cell = tuple[float, str]  # AU12's score and the emotion


def rows(key: str, track: int, cells: dict[int, Cell], window: float = 1.0, region: str = "face") -> pa.Table:
    """Descriptions of one track: window number to AU12 and emotion; every other AU scores 0.1."""
    return pa.Table.from_pylist(
        [
            {"video_id": key, "track_id": track, "window_index": number, "start_s": number * window, "end_s": (number + 1) * window}
            | {"frame_index": number * 10, "time_s": (number + 0.3) * window, "region": region, "box": [0, 0, 9, 9], "activity": 1.0}
            | dict.fromkeys(AUS, 0.1)
            | {"AU12": score, "aus": [], "emotion": emotion}
            | {f"emotion_{name}": 0.7 if name == emotion else 0.05 for name in EMOTIONS}
            | {"age": 30.0, "age_low": 22.0, "age_high": 42.0, "description": "The lips are <b>parted</b>.", "model": "nano"}
            for number, (score, emotion) in cells.items()
        ],
        TABLES["descriptions"],
    )


def make(path: Path, videos: dict[str, list[pa.Table]]) -> Path:
    """A run folder: file to the descriptions of its tracks, a day apart; ids are those of the descriptions, or else hashes."""
    folder = RunFolder(path)
    folder.begin({})
    folder.update_info(settings={})
    for number, (name, tables) in enumerate(videos.items()):
        found = pa.concat_tables(tables) if tables else empty("descriptions")
        key = found["video_id"][0].as_py() if tables else video_id(name)
        row = {"video_id": key, "path": name, "status": "ok" if tables else "no_faces", "duration_s": 20.0}
        folder.commit(row, empty("faces"), found, f"10-{(18_000 + number) * DAY}")
    folder.finish()
    return path


def steady(count: int, score: float = 0.1, emotion: str = "neutral") -> dict[int, Cell]:
    return dict.fromkeys(range(count), (score, emotion))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two people in one video (the second with a gap), one in another, none in a third."""
    smile = steady(20) | dict.fromkeys(range(5, 9), (0.9, "happiness"))
    gappy = {number: cell for number, cell in steady(12, 0.8, "sadness").items() if number not in (4, 5)}
    return make(
        tmp_path / "run [1]*",
        {
            "<script>alert(1)<script>.mp4": [rows("<script>alert(1)<script>", 1, smile), rows("<script>alert(1)<script>", 2, gappy)],
            "$b$.mp4": [rows("$b$", 1, steady(6))],
            "c.mp4": [],
        },
    )


def test_series_events_and_people(run: Path) -> None:
    trends = load([run], RAW)
    series = trends.pandas("series")
    two = series[(series["track_id"] == 2)]
    assert two["time_s"].tolist() == list(range(12))
    assert two.index[two["gap"]].size == 2 and two.loc[two["gap"], ["AU12", "age", "emotion"]].isna().all(axis=None)
    events = trends.pandas("events")[["track_id", "au", "onset_s", "offset_s"]].sort_values(["track_id", "onset_s"])
    assert events.values.tolist() == [[1, "AU12", 5, 9], [2, "AU12", 0, 4], [2, "AU12", 6, 12]]
    people = trends.pandas("people")
    assert people.groupby("video_id").size().to_dict() == {"<script>alert(1)<script>": 2, "$b$": 1}  # two tracks, two persons
    one = people[people["seen_s"] == 20].iloc[0]
    assert one["share_happiness"] == pytest.approx(0.2) and one["age"] == pytest.approx(30, abs=1e-3)
    steps = trends.pandas("transitions")
    assert steps[["from_emotion", "to_emotion", "count"]].values.tolist() == [["happiness", "neutral", 1], ["neutral", "happiness", 1]]
    base = trends.pandas("person_aus").query("au == 'AU12' and track_id == 1 and video_id != '$b$'").iloc[0]
    assert base["baseline"] == pytest.approx(0.1) and base["baseline_basis"] == "neutral"
    assert base["active_share"] == pytest.approx(0.2) and base["events_per_min"] == pytest.approx(3)
    for name, schema in SCHEMAS.items():
        assert trends[name].schema.equals(schema), name


def test_a_coarser_grid_averages_and_a_finer_one_is_refused(tmp_path: Path) -> None:
    cells = {number: (number / 10, "neutral") for number in (0, 1, 2, 3, 6, 7, 8)}
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, cells, 0.5)]})
    series = load([folder], Options(grid_s=1.0, smooth="none")).pandas("series")
    assert series["time_s"].tolist() == [0, 1, 2, 3, 4]
    assert series["AU12"].tolist() == pytest.approx([0.05, 0.25, np.nan, 0.65, 0.8], nan_ok=True)  # the last is half covered: kept
    series = load([folder], Options(grid_s=0.75, smooth="none")).pandas("series")
    assert series["AU12"].tolist()[:2] == pytest.approx([(0.0 * 2 + 0.1) / 3, (0.1 + 0.2 * 2) / 3])  # by overlap
    assert load([folder], RAW).grid_s == 0.5
    with pytest.raises(SettingsError, match=r"--grid 0.1 is finer than the runs' windows of 0.5 s"):
        load([folder], Options(grid_s=0.1))


def test_the_region_asked_for(tmp_path: Path) -> None:
    mouth = rows("a", 1, {2: (0.8, "happiness"), 3: (0.9, "happiness"), 7: (0.7, "happiness")}, region="mouth")
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, steady(9)), mouth]})
    series = load([folder], Options(region="mouth", smooth="none")).pandas("series")
    assert series["time_s"].tolist() == [2, 3, 4, 5, 6, 7] and series["gap"].tolist() == [False, False, True, True, True, False]
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
    assert "$b$" not in trends["people"]["video_id"].to_pylist()
    assert "unfinished" in trends.notes[0]
    (run / "descriptions" / "<script>alert(1)<script>.parquet").write_bytes(b"not parquet")
    with pytest.raises(SettingsError, match="the tables cannot be read"):
        load([run])


def test_tables_without_our_columns(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, steady(5))]})
    file = folder / "descriptions" / "a.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["AU43", "age", "description"]), file)  # of a version that had fewer
    trends = load([folder])
    assert trends["series"]["AU43"].null_count == 5 and trends["people"]["age"].to_pylist() == [None]
    pq.write_table(pq.read_table(file).select(["video_id", "AU12"]), file)
    with pytest.raises(SettingsError, match="lack the columns track_id, start_s, end_s, region"):
        load([folder])


def test_nan_and_null_scores_are_gaps_of_that_score(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, steady(4) | {1: (float("nan"), "neutral")})]})
    series = load([folder], RAW).pandas("series")
    assert series["AU12"].isna().tolist() == [False, True, False, False] and not series["gap"].any()


def test_a_video_of_two_runs_counts_once_as_the_last_has_it(tmp_path: Path) -> None:
    one = make(tmp_path / "one", {"a.mp4": [rows("a", 1, steady(5))], "b.mp4": [rows("b", 1, steady(5))]})
    two = make(tmp_path / "two", {"a.mp4": [rows("a", 1, steady(8))]})
    trends = load([one, two])
    assert trends.pandas("people")[["run", "video_id", "seen_s"]].values.tolist() == [["two", "a", 8], ["one", "b", 5]]
    assert "1 videos of two are in an earlier named run too" in trends.notes[0]


def test_days_and_where_they_are_known_from(tmp_path: Path, samples: Path) -> None:
    clip = samples / "WolfgangLanger_Pexels.mp4"
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, steady(5))], str(clip): []})
    days = load([folder]).pandas("videos").set_index("video_id")[["day", "day_source"]]
    assert days.loc["a"].tolist() == ["2019-04-14", "file"]  # day 18,000 of the Unix calendar
    assert days.loc[video_id(clip)].tolist() == ["2019-10-11", "container"]


def test_groups_are_read_by_name_or_path_and_faults_named_by_row(tmp_path: Path) -> None:
    videos = {name: [rows(key, 1, steady(5))] for key, name in (("a", "a.mp4"), ("b", "b.mp4"), ("z", "other/a.mp4"))}
    folder = make(tmp_path / "run", videos)
    file = tmp_path / "groups.csv"
    file.write_text("\ufeffPath, Group\na.mp4,x\nb.mp4,y\nc.mp4,x\n,\nb.mp4,z\n", encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load([folder], groups=file)
    assert "line 2: 2 videos are called 'a.mp4': write the path" in str(caught.value)
    assert "line 4: no video 'c.mp4' in these runs; line 5: a video and a group are needed" in str(caught.value)
    assert "line 6: 'b.mp4' is in group 'y' already" in str(caught.value)
    file.write_text("video,group\nother/a.mp4,x\nb.mp4,y\n")
    trends = load([folder], groups=file)
    assert trends.pandas("videos").set_index("path")["group"].dropna().to_dict() == {"other/a.mp4": "x", "b.mp4": "y"}
    assert "1 of 3 videos have no row" in trends.notes[0]
    for content, message in (("name,group\na,b\n", "needs the header"), ("", "needs the header"), ("video,group\n", "has no rows")):
        file.write_text(content)
        with pytest.raises(SettingsError, match=message):
            load([folder], groups=file)


def long_table(groups: dict[str, np.ndarray]) -> pd.DataFrame:
    """by_video rows of (videos, measures) values."""
    return pd.DataFrame(
        [
            {"video_id": f"{group}{video}", "group": group, "measure": f"m{measure}", "value": value}
            for group, values in groups.items()
            for (video, measure), value in np.ndenumerate(values)
        ]
    )


def test_bootstrap_intervals_are_scipys() -> None:
    values = np.random.default_rng(0).gamma(2, size=(40, 2))
    ends = interval(bootstrap(values), np.array([40, 40]))
    for column in range(2):
        expected = stats.bootstrap((values[:, column],), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
        assert ends[column] == pytest.approx([expected.low, expected.high], abs=0.03)
    values[5:, 1] = np.nan  # known of five videos, then of four
    assert np.isfinite(interval(bootstrap(values), np.isfinite(values).sum(axis=0))).all()
    values[4, 1] = np.nan
    assert np.isnan(interval(bootstrap(values), np.isfinite(values).sum(axis=0))[1]).all()


def test_comparisons_and_their_correction() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(12, 20)), rng.normal(size=(15, 20))
    b[:, 7] += 3
    found = pd.DataFrame(compare(long_table({"a": a, "b": b})))
    assert len(found) == 20 and found["measure"].iloc[0] == "m7" and (found["p_corrected"] < 0.05).sum() == 1
    first = found.iloc[0]
    assert first["low"] < 3 < first["high"] and first["difference"] == pytest.approx(b[:, 7].mean() - a[:, 7].mean())
    for row in found.itertuples():
        x, y = a[:, int(row.measure[1:])], b[:, int(row.measure[1:])]
        assert row.cliffs_delta == pytest.approx(sum(np.sign(right - left) for left, right in product(x, y)) / 180)
        assert row.p == pytest.approx(stats.mannwhitneyu(x, y).pvalue)
    p = np.sort(found["p"])  # Benjamini and Hochberg's step-up rule, from its definition
    assert np.sort(found["p_corrected"]) == pytest.approx([min(p[j] * 20 / (j + 1) for j in range(i, 20)) for i in range(20)])


def test_small_groups_with_ties_get_the_exact_p() -> None:
    found = compare(long_table({"a": np.zeros((4, 1)), "b": np.ones((4, 1))}))[0]
    assert found["p"] == pytest.approx(2 / 70) and found["cliffs_delta"] == 1  # 70 ways to choose four of eight
    assert np.isnan(found["low"])  # four videos have no bootstrap interval
    assert compare(long_table({"a": np.zeros((4, 1)), "b": np.zeros((4, 1))}))[0]["p"] == 1
    alone = compare(long_table({"a": np.zeros((4, 1)), "b": np.ones((1, 1))}))[0]
    assert alone["p"] is None and alone["p_corrected"] is None


def test_change_points_in_noise_and_in_steps() -> None:
    rng = np.random.default_rng(4)
    drift = np.zeros((400, 8))
    for point in range(1, 400):  # a face changes slowly: each second resembles the last
        drift[point] = 0.8 * drift[point - 1] + rng.normal(0, 0.05, 8)
    assert change_points(drift) == []
    drift[150:, 2] += 0.5
    drift[300:, 5] -= 0.5
    found = change_points(drift)
    assert found == pytest.approx([150, 300], abs=2) and len(found) == 2
    assert change_points(np.zeros((100, 3))) == []
    assert change_points(np.repeat([[0.1], [0.9]], 50, axis=0)) == [50]
    assert change_points(drift[:15]) == []


def test_a_change_of_level_is_told_by_person(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    cells = {n: (0.2 + 0.5 * (n >= 80) + rng.uniform(-0.05, 0.05), "neutral") for n in range(160) if not 75 <= n < 80}
    folder = make(tmp_path / "run", {"a.mp4": [rows("a", 1, cells), rows("a", 2, steady(50))]})
    (change,) = load([folder]).pandas("changes").to_dict("records")
    assert (change["track_id"], change["at_s"], change["at_gap"], change["measure"]) == (1, 80.0, True, "AU12")
    assert (change["before"], change["after"]) == pytest.approx((0.2, 0.7), abs=0.02)


def focalface(*arguments: str | Path) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}


def test_the_command_writes_everything_the_same_every_time(run: Path, tmp_path: Path) -> None:
    groups = tmp_path / "groups.csv"
    groups.write_text('video,group\n"<script>alert(1)<script>.mp4",<i>\n$b$.mp4,y\n')
    code, out, err = focalface("trends", run, "--groups", groups)
    assert code == 0, err
    assert "3 videos (2 with faces, 1 without); 3 tracked people" in out and "<script>a…cript>.mp4 #1" in out and "$b$.mp4 #1" in out
    first = contents(run / "trends")
    assert focalface("trends", run, "--groups", groups)[0] == 0
    assert contents(run / "trends") == first
    expected = {f"{name}.{kind}" for name, kind in product(SCHEMAS, ("parquet", "csv"))}
    drawn = ("people", "transitions", "days", "groups", *(f"timeline_0{number}" for number in (1, 2, 3)))
    expected |= {f"figures/{name}.{kind}" for name, kind in product(drawn, ("png", "svg"))}
    assert set(first) == expected | {"summary.html"}
    for name in ("series", "events", "people"):
        table, text = (pq.read_table(run / "trends" / f"{name}.parquet"), pyarrow.csv.read_csv(run / "trends" / f"{name}.csv"))
        assert text.column_names == table.column_names and text.num_rows == table.num_rows
    page = (run / "trends" / "summary.html").read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "&lt;i&gt;" in page and "&lt;b&gt;parted" in page
    assert not re.search(r'(?:src|href)="(?!data:)', page) and "http" not in page.replace("http-equiv", "")


def test_fewer_people_leave_no_old_figures(run: Path, tmp_path: Path) -> None:
    small = make(tmp_path / "small", {"a.mp4": [rows("a", 1, steady(5))]})
    for folder in (run, small):
        assert focalface("trends", folder, "--out", tmp_path / "out")[0] == 0
    assert {file.stem for file in (tmp_path / "out" / "figures").iterdir()} == {"people", "timeline_01"}


def test_a_run_without_faces_says_so(tmp_path: Path) -> None:
    folder = make(tmp_path / "run", {"a.mp4": []})
    code, out, _ = focalface("trends", folder)
    assert code == 0 and "1 video (1 without). No faces were described" in out
    page = (folder / "trends" / "summary.html").read_text()
    assert "No faces were described" in page and "<img" not in page
    assert pq.read_table(folder / "trends" / "series.parquet").num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--smooth", "gauss"], "--smooth takes none, median, savgol, ema, not 'gauss'"),
        (["--on", "0.3"], "--on and --off take scores with 0 < off <= on <= 1"),
        (["--grid", "-1"], "--grid takes seconds above 0, not -1"),
        (["--width", "nan"], "--width takes seconds above 0, not nan"),
        (["--region", "ear"], "--region takes one of face"),
        (["another"], "several folders need --out DIR"),
    ],
)
def test_what_is_refused(tmp_path: Path, options: list[str], message: str) -> None:
    code, _, err = focalface("trends", tmp_path, *options)
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1


def test_the_job_is_a_script(run: Path) -> None:
    script = Path(__file__).parents[1] / "jobs" / "trends.py"
    done = subprocess.run([sys.executable, script, run, "--relative"], capture_output=True, text=True, cwd=script.parents[1])
    assert done.returncode == 0, done.stderr
    assert str(run / "trends" / "summary.html") in done.stdout
