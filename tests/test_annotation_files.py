"""Files for annotation tools: ELAN files on the media's clock, and events for BIDS datasets."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import av
import numpy as np
import pyarrow as pa
import pytest
from pympi.Elan import Eaf
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.evaluation.agreement.elan import read_elan
from pipeline.report.build import Outputs, write_report
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, video_id
from pipeline.trends.analysis import load
from pipeline.vocabulary import AUS, EMOTIONS
from tests.support.agreement import FPS, face_rows
from tests.support.stamps import move_clock, read_stamp, write_stamped

LENGTH_S = 6.0
SMILE, FROWN, SHUT = (1.3, 2.6), (3.0, 4.5), (4.8, 5.0)


def sentence(path: str, track: int, window: int, region: str, text: str) -> dict[str, Any]:
    times = {"start_s": float(window), "end_s": window + 1.0, "time_s": window + 0.5, "frame_index": round((window + 0.5) * FPS)}
    row = {"video_id": video_id(path), "track_id": track, "window_index": window, "region": region, "box": [0, 0, 9, 9], "activity": 1.0}
    return row | times | {"aus": [], "emotion": "neutral", "age": 30.0, "description": text, "model": "nano"}


def make_run(folder: Path, paths: Mapping[str, float], nobody_in: str | None = None) -> RunFolder:
    """A run about videos, each with its `start_s`: two tracks; the first smiles, lowers its brows and blinks, and is described. Nobody is
    in one more video."""
    run = RunFolder(folder)
    run.begin({})
    run.update_info(settings={"video": {"fps": FPS}, "select": {"window": 1.0}}, thresholds={})
    for path, start_s in paths.items():
        active = {"AU12": [SMILE], "AU04": [FROWN], "AU43": [SHUT], "happiness": [SMILE]}
        faces = [
            face_rows(path, LENGTH_S, active, intensity={"AU12": [3.1] * round(LENGTH_S * FPS)}),
            face_rows(path, LENGTH_S, {"AU12": []}, track=2),
        ]
        said = [
            sentence(path, 1, 1, "mouth", "The lip corners are pulled up."),
            sentence(path, 1, 1, "face", "The look is \thappy & <old>."),
            sentence(path, 1, 2, "face", "Nothing moves."),
        ]
        row = {"video_id": video_id(path), "path": path, "status": "ok", "fps": FPS, "duration_s": LENGTH_S, "start_s": start_s}
        run.commit(row | {"tracks": 2}, pa.concat_tables(faces), pa.Table.from_pylist(said, TABLES["descriptions"]), "10-1")
    if nobody_in:
        row = {"video_id": video_id(nobody_in), "path": nobody_in, "status": "no_faces", "duration_s": 1.0, "tracks": 0}
        run.commit(row, TABLES["faces"].empty_table(), TABLES["descriptions"].empty_table(), "10-1")
    run.finish()
    return run


def tiers_of(file: Path) -> dict[str, list[tuple[int, int, str]]]:
    document = Eaf(str(file))
    return {name: sorted(document.get_annotation_data_for_tier(name)) for name in document.get_tier_names()}


def span(row: dict[str, Any], text: str) -> tuple[int, int, str]:
    return round(row["onset_s"] * 1000), round(row["offset_s"] * 1000), text


def test_an_elan_file_has_what_the_trends_say(tmp_path: Path) -> None:
    path = str(tmp_path / "films" / "a talk.mp4")
    run = make_run(tmp_path / "run", {path: 0.0})
    assert not write_report(run, tmp_path / "report", Outputs(elan=True)).failures
    file = tmp_path / "report" / "videos" / "a talk.eaf"
    assert file.is_file() and file.with_suffix(".html").is_file()
    tiers, trends = tiers_of(file), load([run.path])
    names = ["AU04@track 1", "AU12@track 1", "AU43@track 1", "emotion@track 1", "blink@track 1", "description@track 1", "emotion@track 2"]
    assert list(tiers) == names
    expected: dict[str, list[tuple[int, int, str]]] = {}
    for row in trends["events"].to_pylist():
        expected.setdefault(f"{row['au']}@track {row['track_id']}", []).append(span(row, {"AU12": "AU12C"}.get(row["au"], row["au"])))
    for row in trends["episodes"].to_pylist():
        expected.setdefault(f"emotion@track {row['track_id']}", []).append(span(row, row["emotion"]))
    for row in trends["blinks"].to_pylist():
        expected.setdefault(f"blink@track {row['track_id']}", []).append(span(row, "AU45"))
    assert {name: own for name, own in tiers.items() if not name.startswith("description")} == expected
    assert [(start, end) for start, end, _ in tiers["AU12@track 1"]] == [(1300, 2600)]
    assert [(start, end) for start, end, _ in tiers["blink@track 1"]] == [(4800, 5000)]
    assert tiers["description@track 1"] == [
        (1000, 2000, "The look is \thappy & <old>.\nthe mouth: The lip corners are pulled up."),
        (2000, 3000, "Nothing moves."),
    ]
    (media,) = Eaf(str(file)).media_descriptors
    assert unquote(media["MEDIA_URL"]) == f"file://{path}" and media["MIME_TYPE"] == "video/mp4"
    assert (file.parent / media["RELATIVE_MEDIA_URL"]).resolve() == Path(path)


def test_people_can_correct_an_elan_file_and_compare_it_with_the_run(tmp_path: Path) -> None:
    """`focalface agree` reads it back: the same labels, persons, intensities and times."""
    run = make_run(tmp_path / "run", {str(tmp_path / "talk.mp4"): 0.0})
    write_report(run, tmp_path / "report", Outputs(elan=True))
    codings, _ = read_elan(tmp_path / "report" / "videos" / "talk.eaf")
    (one,) = [coding for coding in codings if coding.person == "track 1"]
    assert {"AU04", "AU12", "AU43", "AU45", "happiness", "neutral"} <= one.labels and one.video == "talk.mp4"
    (smile,) = [code for code in one.codes if code.label == "AU12"]
    assert (smile.onset_s, smile.offset_s, smile.intensity) == (*SMILE, 3.0)


@pytest.mark.parametrize(("container", "clock"), [("mp4", 0), ("mkv", 0), ("ts", 0), ("ts", 90_000 * 3600)])
def test_times_are_those_at_which_a_player_shows_the_picture(tmp_path: Path, container: str, clock: int) -> None:
    """The film begins late on its container's clock; a transport stream's clock begins anywhere, which players leave out."""
    path = write_stamped(tmp_path / f"late.{container}", range(60), at=range(7, 67), rate=round(FPS))
    if clock:
        move_clock(path, clock)
    with av.open(str(path)) as opened:
        stamps = {read_stamp(frame.to_ndarray(format="rgb24")): frame.time for frame in opened.decode(video=0)}
        zero_s = (opened.start_time or 0) / av.time_base if container == "ts" else 0.0
    run = make_run(tmp_path / "run", {str(path): stamps[0]})
    write_report(run, tmp_path / "report", Outputs(elan=True))
    ((start, end, _),) = tiers_of(tmp_path / "report" / "videos" / "late.eaf")["AU12@track 1"]
    shown = {number: 1000 * (time_s - zero_s) for number, time_s in stamps.items()}
    assert start == pytest.approx(shown[round(SMILE[0] * FPS)], abs=1)
    assert end == pytest.approx(shown[round(SMILE[1] * FPS)], abs=1)
    assert shown[0] == pytest.approx(0 if container == "ts" else 700, abs=1)


def events(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text, delimiter="\t"))


def test_bids_events_lie_in_a_derivative_dataset_under_the_entities_of_the_video(tmp_path: Path) -> None:
    source = tmp_path / "study" / "sub-07" / "ses-2" / "beh"
    paths = [str(source / "sub-07_ses-2_task-talk_video.mp4"), str(tmp_path / "sub-08_task-talk_video.mp4"), str(tmp_path / "plain.mp4")]
    run = make_run(tmp_path / "run", dict.fromkeys(paths, 0.5))
    report = write_report(run, tmp_path / "report", Outputs(bids=True))
    assert not report.failures
    dataset = tmp_path / "report" / "bids"
    about = json.loads((dataset / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative" and {"Name", "BIDSVersion", "GeneratedBy"} <= about.keys()
    names = [
        "plain_events",
        "sub-07/ses-2/beh/sub-07_ses-2_task-talk_desc-focalface_events",
        "sub-08/beh/sub-08_task-talk_desc-focalface_events",
    ]
    assert sorted(file.relative_to(dataset).as_posix() for file in dataset.rglob("*_events.*")) == sorted(
        f"{name}.{ending}" for name in names for ending in ("tsv", "json")
    )
    assert not source.exists(), "the source dataset is left alone"

    header = (dataset / f"{names[1]}.tsv").read_text().splitlines()[0].split("\t")
    assert header[:3] == ["onset", "duration", "trial_type"]
    sidecar = json.loads((dataset / f"{names[1]}.json").read_text())
    assert list(sidecar) == header and all(column["Description"] for column in sidecar.values())
    rows = events(dataset / f"{names[1]}.tsv")
    assert {*AUS, *EMOTIONS, "blink", "description"} == set(sidecar["trial_type"]["Levels"]) >= {row["trial_type"] for row in rows}
    onsets = [float(row["onset"]) for row in rows]
    assert onsets == sorted(onsets) and onsets[0] == 0
    (smile,) = [row for row in rows if row["trial_type"] == "AU12"]
    assert (float(smile["onset"]), float(smile["duration"])) == pytest.approx((SMILE[0], SMILE[1] - SMILE[0]))
    assert (smile["track"], smile["person"], smile["description"]) == ("1", "n/a", "lip corner puller")
    assert float(smile["value"]) == pytest.approx(0.9, abs=1e-4)
    said = [row for row in rows if row["trial_type"] == "description"]
    assert [row["value"] for row in said] == ["n/a", "n/a"] and "happy & <old>. the mouth: The lip" in said[0]["description"]
    assert len(rows) == sum(load([run.path], videos=[video_id(paths[0])])[table].num_rows for table in ("events", "episodes", "blinks")) + 2


def test_bids_names_of_two_videos_never_meet(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", dict.fromkeys([str(tmp_path / f"sub-1_task-a_{suffix}.mp4") for suffix in ("video", "stim")], 0.0))
    assert not write_report(run, tmp_path / "report", Outputs(bids=True)).failures
    names = {file.name for file in (tmp_path / "report" / "bids").rglob("*_events.tsv")}
    assert len(names) == 2 and all(name.startswith("sub-1_task-a_desc-focalface") for name in names)


def test_the_command_writes_both_and_only_what_has_changed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {str(tmp_path / "talk.mp4"): 0.0}, nobody_in="empty.mp4")
    ran = CliRunner().invoke(app, ["report", str(run.path), "--elan", "--bids"])
    assert ran.exit_code == 0, ran.output
    files = [run.path / "report" / name for name in ("videos/talk.eaf", "bids/talk_events.tsv", "bids/talk_events.json")]
    before = [file.stat().st_mtime_ns for file in files]
    assert tiers_of(run.path / "report" / "videos" / "empty.eaf") == {}
    assert events(run.path / "report" / "bids" / "empty_events.tsv") == []
    assert CliRunner().invoke(app, ["report", str(run.path), "--elan", "--bids"]).exit_code == 0
    assert [file.stat().st_mtime_ns for file in files] == before
    assert "--elan" in CliRunner().invoke(app, ["report", "--help"], env={"COLUMNS": "200"}).output


def test_trends_of_some_videos_are_those_of_all(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    run = make_run(tmp_path / "run", dict.fromkeys(paths, 0.0))
    all_, one = load([run.path]), load([run.path], videos=[video_id(paths[1])])
    assert all_["events"].num_rows == 2 * one["events"].num_rows > 0
    assert set(one["videos"]["path"].to_pylist()) == {paths[1]}
    mine = all_.pandas("events")
    assert np.array_equal(mine[mine["path"] == paths[1]]["onset_s"], one.pandas("events")["onset_s"])
