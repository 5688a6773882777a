"""Trends and reports go by person where people are linked: a person across cuts is one series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import load_trends, open_run
from pipeline.report.build import write_report
from pipeline.report.linked import LinkedRun
from pipeline.report.page_data import load_video
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends import Options
from pipeline.vocabulary import AUS, EMOTIONS
from tests.support.people import link_by_hand
from tests.support.tables import command, new_run

RAW = Options(smooth="none")
STEP_S = 0.1
PATHS = ("one.mp4", "two.mp4")


def cut_video(key: str) -> tuple[pa.Table, pa.Table]:
    """Two people in turn, 6 s each, twice: tracks 1 and 3 show one of them, 2 and 4 the other. AU12 is active on both sides of each cut
    back to the first; everybody blinks every two seconds."""
    faces = []
    for frame in range(240):
        time_s = round(frame * STEP_S, 6)
        track = 1 + int(time_s // 6)
        scores = dict.fromkeys(AUS, 0.1) | {"AU12": 0.9 if track in (1, 3) else 0.1, "AU43": 0.9 if frame % 20 == 10 else 0.05}
        emotions = {f"emotion_{name}": 0.7 if name == "neutral" else 0.05 for name in EMOTIONS}
        place = {"video_id": key, "frame_index": frame, "time_s": time_s, "track_id": track, "yaw": 0.0}
        place |= {"box": [0.0, 0, 9, 9], "landmarks5": [0.0] * 10}
        faces.append(place | scores | emotions | {"emotion": "neutral", "age": 30.0 + 10 * (track % 2)})
    return pa.Table.from_pylist(faces, TABLES["faces"]), TABLES["descriptions"].empty_table()


def cut_run(folder: Path, paths: tuple[str, ...] = PATHS) -> RunFolder:
    run = new_run(folder)
    for path in paths:
        row = {"video_id": video_id(path), "path": path, "status": "ok", "duration_s": 24.0, "fps": 10.0, "faces": 240, "tracks": 4}
        run.commit(row | {"windows": 24, "descriptions": 0, "sampled_frames": 240}, *cut_video(video_id(path)), "")
    run.finish()
    return run


def people_of(paths: tuple[str, ...] = PATHS) -> dict[tuple[str, int], str]:
    return {(video_id(path), track): "P001" if track % 2 else "P002" for path in paths for track in range(1, 5)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = cut_run(tmp_path_factory.mktemp("cuts") / "run")
    link_by_hand({"run": run}, run.path / "people", {"run": people_of()})
    assert command("people", run.path, "--name", "P001", "Ada") == 0
    return run


def test_a_person_across_cuts_is_one_series(run: RunFolder) -> None:
    trends = load_trends([run.path], RAW)
    tracks = trends.pandas("tracks")
    assert [(row.path, row.person_id, row.joined, row.track_id) for row in tracks.itertuples()] == [
        (path, person, 2, track) for path in sorted(PATHS, key=video_id) for person, track in (("P001", 1), ("P002", 2))
    ]
    assert tracks["seen_s"].tolist() == pytest.approx([12.0] * 4)  # the person's own visible time: the other one's is a gap
    assert tracks["gaps"].tolist() == [1, 1, 1, 1]
    assert tracks["blinks"].tolist() == [6, 6, 6, 6] and tracks["blinks_per_min"].tolist() == pytest.approx([30.0] * 4)
    units = trends.pandas("track_aus").query("au == 'AU12'")
    assert units["baseline_basis"].tolist() == ["neutral"] * 4  # 4.2 s of neutral in each track, 8.4 s together
    for name in ("series", "events", "blinks", "episodes", "track_aus", "moments"):
        assert set(trends.pandas(name)["person_id"]) == {"P001", "P002"}, name
    smiles = trends.pandas("events").query("au == 'AU12' and path == 'one.mp4'")
    assert smiles[["onset_s", "offset_s"]].to_numpy().ravel().tolist() == pytest.approx([0.0, 6.0, 12.0, 18.0])


def test_measures_of_a_person_over_all_videos(run: RunFolder) -> None:
    found = load_trends([run.path], RAW).pandas("by_person").set_index(["person_id", "measure"])
    assert found.loc[("P001", "active_AU12"), ["person", "videos"]].tolist() == ["Ada", 2]
    assert found.loc[("P001", "active_AU12"), ["seen_s", "value"]].tolist() == pytest.approx([24.0, 1.0])
    assert found.loc[("P002", "active_AU12"), "value"] == 0
    assert found.loc[("P002", "rate_blinks"), "value"] == pytest.approx(30.0)


def test_without_people_each_track_is_a_series(tmp_path: Path) -> None:
    trends = load_trends([cut_run(tmp_path / "run", ("one.mp4",)).path], RAW)
    assert trends["tracks"].num_rows == 4
    assert set(trends["series"]["person_id"].to_pylist()) == {None}
    assert not trends["by_person"].num_rows


@pytest.mark.parametrize("word", ["Ada", "P001"])
def test_trends_of_one_person(run: RunFolder, tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("trends", run.path, "--person", word, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "Ada" in said and "with faces), 2 of them with the chosen person; 2 tracks" in said
    found = load_trends([run.path], Options(person=(word,)))
    assert set(found["tracks"]["person_id"].to_pylist()) == {"P001"} and found["tracks"].num_rows == 2


def test_a_person_who_is_not_there_is_said(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("trends", run.path, "--person", "Eve", "--out", tmp_path) == 2
    assert "there is no such person in these runs; some of them: Ada, P002" in capsys.readouterr().err


def test_two_runs_share_the_people_of_their_study_and_else_have_their_own(tmp_path: Path) -> None:
    runs = {name: cut_run(tmp_path / name, (f"{name}.mp4",)) for name in ("one", "two")}
    study = link_by_hand(runs, tmp_path / "study", {name: people_of((f"{name}.mp4",)) for name in runs})
    places = [run.path for run in runs.values()]
    together = load_trends(places, RAW, people=study.path)
    assert set(together["by_person"]["person_id"].to_pylist()) == {"P001", "P002"}
    assert together.pandas("by_person")["videos"].eq(2).all()
    for name, run in runs.items():
        link_by_hand({name: run}, run.path / "people", {name: people_of((f"{name}.mp4",))})
    apart = load_trends(places, RAW)
    assert set(apart["tracks"]["person_id"].to_pylist()) == {"one/P001", "one/P002", "two/P001", "two/P002"}
    assert any("counted apart" in note for note in apart.notes)
    assert open_run(places[0]).people.num_rows == 2


def test_a_page_has_one_timeline_for_each_person_with_the_name(run: RunFolder) -> None:
    (video, _) = run.videos.to_pylist()
    data = load_video(run, video)
    assert sorted(set(data.faces["track_id"].to_pylist())) == [1, 2]
    assert data.samples is not None
    assert np.unique(data.samples.track_id).tolist() == [1, 2]
    assert (np.diff(data.samples.frame_index[data.samples.of(1)]) > 0).all()
    assert {track: name for track, (_, name) in data.people.items()} == {1: "Ada", 2: "P002"}


def test_a_report_names_people_and_its_exports_carry_them(run: RunFolder, tmp_path: Path) -> None:
    assert command("report", run.path, "--out", tmp_path, "--frames", "parquet", "--elan") == 0
    frames = pq.read_table(tmp_path / "frames" / "one.parquet")
    assert frames.column_names.index("person_id") == frames.column_names.index("track_id") + 1
    assert set(zip(frames["track_id"].to_pylist(), frames["person_id"].to_pylist(), strict=True)) == {
        (1, "P001"),
        (2, "P002"),
        (3, "P001"),
        (4, "P002"),
    }
    (elan,) = tmp_path.rglob("one.eaf")
    assert "AU12@P001" in elan.read_text() and "@track" not in elan.read_text()


def test_a_report_on_one_person_has_nobody_else(run: RunFolder, tmp_path: Path) -> None:
    assert command("report", run.path, "--out", tmp_path, "--frames", "csv", "--person", "Ada", "--elan") == 0
    rows = (tmp_path / "frames" / "one.csv").read_text().splitlines()
    assert len(rows) == 121 and all("P001" in row for row in rows[1:])
    (elan,) = tmp_path.rglob("one.eaf")
    assert "P002" not in elan.read_text()
    assert command("report", run.path, "--out", tmp_path, "--person", "Eve") == 2


def test_a_page_is_made_again_when_a_person_gets_a_name(tmp_path: Path) -> None:
    own = cut_run(tmp_path / "run", ("one.mp4",))
    link_by_hand({"run": own}, own.path / "people", {"run": people_of(("one.mp4",))})
    assert write_report(LinkedRun(own.path), tmp_path / "report").pages == 1
    assert write_report(LinkedRun(own.path), tmp_path / "report").pages == 0
    assert command("people", own.path, "--name", "P002", "Bo") == 0
    assert write_report(LinkedRun(own.path), tmp_path / "report").pages == 1
