"""Choosing a range of time, an area of the frame and the largest tracks: the chosen rows are those of the whole run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.describe.backends import load_describer
from pipeline.errors import SettingsError
from pipeline.execution.executors.in_process import InProcessExecutor
from pipeline.execution.run import run
from pipeline.faces.detectors import load_detector
from pipeline.report.build import Outputs, write_report
from pipeline.schemas import TABLES, NoteKind, note_kinds
from pipeline.settings import Choice, load_settings, parse_time
from pipeline.storage.choosing import chosen
from pipeline.storage.chosen_run import ChosenRun
from pipeline.storage.run_folder import RunFolder
from pipeline.trends.analysis import load
from pipeline.trends.options import Options
from pipeline.video.opening import open_video
from pipeline.video.segments import segment_frames, segments_of

MEASURED = ("frame_index", "time_s", "det_score", "box", "landmarks5", "yaw", "pitch", "roll", "sharpness", "readable", "unreadable")
"""Columns of a face that do not depend on the frames around it: equal to the last bit."""

Make = Callable[..., RunFolder]


@pytest.fixture(scope="module")
def make(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Make a run of the demo clip at 4 frames a second; what it takes is loaded once."""
    detector, describer = load_detector("centerface"), load_describer()

    def made(clip: str = "WolfgangLanger_Pexels.mp4", **options: object) -> RunFolder:
        settings = load_settings(options={"video.fps": 4.0, "select.regions": "face", "describe.sentences": "plain"} | options)
        executor = InProcessExecutor(settings, detector, describer)
        return run([str(samples / clip)], tmp_path_factory.mktemp("run"), settings, executor=executor)

    return made


@pytest.fixture(scope="module")
def whole(make: Make) -> RunFolder:
    return make(**{"video.to_s": 9.5})


def assert_equal_rows(some: pa.Table, all_rows: pa.Table, from_s: float, to_s: float) -> None:
    """`some` are the rows of that time, their read fields equal but for the last bits of numbers that were worked out in another batch."""
    times = all_rows["time_s"].to_numpy()
    expected = all_rows.filter(pa.array((times >= from_s) & (times < to_s)))
    assert some.num_rows == expected.num_rows > 0
    assert some.select(MEASURED).equals(expected.select(MEASURED))
    assert some["emotion"].equals(expected["emotion"])
    for name in ("AU12", "AU25", "emotion_happiness", "age"):
        one, other = (rows[name].to_numpy(zero_copy_only=False) for rows in (some, expected))
        assert np.allclose(one, other, atol=1e-4, equal_nan=True), name


@pytest.mark.parametrize(("from_s", "to_s", "frames"), [(5, 8, 12), (5.25, 7.75, 10)])  # on key frames, and between them
def test_a_range_gives_the_rows_of_the_whole_run(make: Make, whole: RunFolder, from_s: float, to_s: float, frames: int) -> None:
    part = make(**{"video.from_s": from_s, "video.to_s": to_s})
    assert_equal_rows(part.faces, whole.faces, from_s, to_s)
    (row,), (all_row,) = part.videos.to_pylist(), whole.videos.to_pylist()
    assert row["sampled_frames"] == frames
    assert row["status"] == "ok"
    same = ("frame_count", "duration_s", "fps", "width", "note", "error")
    assert {name: row[name] for name in same} == {name: all_row[name] for name in same}
    assert set(part.descriptions["window_index"].to_pylist()) <= {5, 6, 7}
    assert part.info["settings"]["video"]["from_s"] == from_s


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_frames_of_a_range_are_those_of_the_whole_video(samples: Path, decoder: str) -> None:
    with open_video(samples / "WolfgangLanger_Pexels.mp4", decoder=decoder) as video:  # type: ignore[arg-type]
        every = [(frame.index, frame.time_s, frame.image.sum()) for frame in video.frames(fps=7)]
        for from_s, to_s in ((0.0, 1.0), (5.0, 8.0), (12.34, None), (19.0, 60.0)):
            some = [(frame.index, frame.time_s, frame.image.sum()) for frame in video.frames(7, from_s=from_s, to_s=to_s)]
            assert some == [frame for frame in every if frame[1] >= from_s and (to_s is None or frame[1] < to_s)]
        assert list(video.frames(from_s=30.0)) == []


def test_reading_a_range_begins_at_a_keyframe(samples: Path) -> None:
    with open_video(samples / "WolfgangLanger_Pexels.mp4", decoder="pyav") as video:
        packets = 0

        def beat() -> None:
            nonlocal packets
            packets += 1

        with open_video(samples / "WolfgangLanger_Pexels.mp4", beat, decoder="pyav") as watched:
            opened = packets
            last = [frame.index for frame in watched.frames(from_s=19.0)]
        assert last == [index for index, time_s in enumerate(video.times) if time_s >= 19.0]
        assert packets - opened < len(video.times)


def test_segments_of_a_range_give_its_frames(samples: Path) -> None:
    with open_video(samples / "WolfgangLanger_Pexels.mp4", decoder="pyav") as video:
        every = [frame.index for frame in video.frames(fps=7, from_s=6.0, to_s=13.0)]
        places = segments_of(video, 2.0, 6.0, 13.0)
        assert 1 < len(places) <= len(segments_of(video, 2.0))
        assert [frame.index for place in places for frame in segment_frames(video, 7, *place, 6.0, 13.0)] == every


def test_a_range_behind_the_end_is_a_note_and_no_failure(make: Make) -> None:
    (row,) = make(**{"video.from_s": 60}).videos.to_pylist()
    assert (row["status"], row["error"], row["sampled_frames"], row["faces"]) == ("no_faces", None, 0, 0)
    assert note_kinds(row["note"]) == (NoteKind.OUTSIDE_RANGE,)
    assert "ends at 19.7 s, before 60 s" in row["note"]


def test_another_range_is_another_run(make: Make, samples: Path) -> None:
    folder = make(**{"video.to_s": 0.5})
    with pytest.raises(SettingsError, match=r"video\.from_s was 0\.0, now 1\.0"):
        run([str(samples / "WolfgangLanger_Pexels.mp4")], folder.path, load_settings(options={"video.from_s": 1.0, "video.fps": 4.0}))


def test_an_area_gives_the_rows_whose_boxes_have_their_centre_there(make: Make) -> None:
    clip = "single_face.mp4"
    every = make(clip, **{"video.to_s": 1.0})
    (video,) = every.videos.to_pylist()
    box = np.array(every.faces["box"].to_pylist())
    centre = float(((box[:, 0] + box[:, 2]) / 2).mean()) / video["width"]
    inside = make(clip, **{"video.to_s": 1.0, "detect.area": f"0,0,{min(1.0, centre + 0.1)},1"})
    assert inside.faces.select([*MEASURED, "track_id"]).equals(every.faces.select([*MEASURED, "track_id"]))
    beside = make(clip, **{"video.to_s": 1.0, "detect.area": f"{min(0.95, centre + 0.1)},0,1,1"})
    assert beside.faces.num_rows == 0
    assert beside.videos["status"].to_pylist() == ["no_faces"]


def faces_table(rows: Sequence[tuple[int, int, float]]) -> pa.Table:
    """Faces of (frame, track, side in pixels), one frame a second."""
    columns = [
        {"frame_index": frame, "track_id": track, "time_s": float(frame), "box": [100.0 * track, 10.0, 100.0 * track + side, 10.0 + side]}
        for frame, track, side in rows
    ]
    return pa.Table.from_pylist(columns, pa.schema([TABLES["faces"].field(name) for name in ("frame_index", "track_id", "time_s", "box")]))


def test_the_largest_tracks_are_kept_or_left_out_as_a_whole() -> None:
    # Track 1 is the larger one but for a moment in which track 2 comes near; track 3 is alone after a cut.
    faces = faces_table([(0, 1, 50), (0, 2, 30), (1, 1, 50), (1, 2, 60), (2, 1, 50), (2, 2, 30), (3, 3, 20)])
    kept = faces.filter(pa.array(chosen(Choice(largest=1), faces, (640, 360))))
    assert kept["track_id"].to_pylist() == [1, 1, 1, 3]
    assert chosen(Choice(largest=2), faces, (640, 360)).all()
    assert chosen(Choice(from_s=1, to_s=3), faces, (640, 360)).tolist() == [False, False, True, True, True, True, False]
    assert faces.filter(pa.array(chosen(Choice(area=(0.3, 0, 1, 1)), faces, (640, 360))))["track_id"].to_pylist() == [2, 2, 2, 3]


def test_a_run_of_the_largest_track_has_its_rows_and_counts(make: Make) -> None:
    found = make("single_face.mp4", **{"select.largest": 1, "video.to_s": 1.0})
    (row,) = found.videos.to_pylist()
    assert row["faces"] == found.faces.num_rows > 0
    assert row["tracks"] == 1
    assert row["descriptions"] == found.descriptions.num_rows > 0


def test_trends_of_a_range_come_from_its_frames_alone(whole: RunFolder) -> None:
    found = load([whole.path], Options(choice=Choice(from_s=5.5, to_s=8.0)))
    series = found.pandas("series")
    faces = whole.faces.to_pandas()
    chosen_faces = faces[(faces["time_s"] >= 5.5) & (faces["time_s"] < 8.0)]
    assert set(series[~series["gap"]]["time_s"]) == set(chosen_faces[chosen_faces["unreadable"].isna()]["time_s"])
    assert any("5.5 to 8 s" in note for note in found.notes)
    beside = load([whole.path], Options(choice=Choice(area=(0.0, 0.0, 0.05, 0.05))))
    assert beside["tracks"].num_rows == 0


def test_a_report_of_a_range_shows_and_exports_it_alone(whole: RunFolder, tmp_path: Path) -> None:
    choice = Choice(from_s=6.5, to_s=8.0)
    outputs = Outputs(frames=("parquet",), film=True)
    report = write_report(ChosenRun(whole.path, choice), tmp_path / "report", outputs)
    assert not report.failures
    (table,) = (tmp_path / "report" / "frames").glob("*.parquet")
    times = pq.read_table(table)["time_s"].to_numpy()
    assert 0 < len(times) == ((times >= 6.5) & (times < 8.0)).sum()
    (film,) = (tmp_path / "report" / "films").glob("*.mp4")
    with av.open(str(film)) as container:
        shown = [float(frame.time) for frame in container.decode(video=0)]
    assert shown[0] == pytest.approx(0, abs=0.06)
    assert shown[-1] == pytest.approx(1.5, abs=0.1)
    (page,) = (tmp_path / "report" / "videos").glob("*.html")
    assert "Only 6.5 to 8 s count here." in page.read_text(encoding="utf-8")
    again = write_report(ChosenRun(whole.path, choice), tmp_path / "report", Outputs())
    assert again.pages == 0
    assert write_report(whole, tmp_path / "report", Outputs()).pages == 1


def test_counts_of_chosen_rows_follow(whole: RunFolder) -> None:
    some = ChosenRun(whole.path, Choice(from_s=4.0, to_s=6.0))
    (row,) = some.videos.to_pylist()
    assert row["faces"] == some.faces.num_rows == 8
    assert row["windows"] == 2
    assert row["unreadable_faces"] == some.faces["unreadable"].is_valid().to_pylist().count(True) > 0
    assert row["descriptions"] == some.descriptions.num_rows


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1:30", 90.0), ("01:02:03.5", 3723.5), (12.5, 12.5), ("0", 0.0), (None, None)]
)
def test_times_are_read_in_three_forms(text: object, seconds: float | None) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["1:75", "1:2:3:4", "soon", "-3", "1:61:00", "nan", ""])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="MM:SS"):
        parse_time(text)
