"""Reports without a browser: what a page holds and leaves out, what the command does with odd runs and odd wishes."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.faces.detectors import load_detector
from pipeline.report.index import emotion_strip
from pipeline.report.page_data import MISSING, SAMPLE_MISSING, SAMPLE_STEPS, load_video, presence
from pipeline.report.pictures import anonymised, choose, read_pictures, view_around
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import RunFolder, empty, file_mark, video_id
from pipeline.trends import load as load_trends
from pipeline.video.opening import open_video
from pipeline.vocabulary import AUS, EMOTIONS
from tests.support.tables import add_video, command, new_run, rows_of


def block(page: Path, name: str) -> str:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    return found[1]


def payload(page: Path) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Read a page's payload back by its documented form: the header, and the columns of each table."""
    data = gzip.decompress(base64.b64decode(block(page, "payload")))
    size = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + size])
    tables: dict[str, dict[str, np.ndarray]] = {}
    at = 4 + size
    for name, table in header.get("tables", {}).items():
        tables[name] = {}
        for column, kind in table["columns"]:
            tables[name][column] = np.frombuffer(data, f"<{kind}", table["count"], at)
            at += tables[name][column].nbytes
    assert at == len(data)
    return header, tables


@pytest.fixture
def clip(samples: Path) -> Path:
    return samples / "WolfgangLanger_Pexels.mp4"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return new_run(tmp_path / "run")


def test_a_page_holds_every_row_to_three_decimals(run: RunFolder) -> None:
    tables = rows_of(video_id("gone.mp4"), 12, people=2)
    key = add_video(run, "gone.mp4", tables)
    assert command("report", run.path) == 0
    header, packed = payload(run.path / "report" / "videos" / "gone.html")
    columns, windows = packed["rows"], packed["windows"]
    rows = load_video(run, {"video_id": key, "fps": 25.0}).rows.to_pylist()
    assert header["tables"]["rows"]["count"] == len(rows) == tables[1].num_rows
    assert [one["id"] for one in header["tracks"]] == [1, 2]
    faces = {(row["track_id"], row["window_index"]): row for row in rows if row["region"] == "face"}
    for i, row in enumerate(rows):
        assert header["tracks"][columns["track"][i]]["id"] == row["track_id"]
        assert header["regions"][columns["region"][i]] == row["region"]
        assert header["sentences"][columns["text"][i]] == row["description"]
        assert columns["time_ms"][i] == round(row["time_s"] * 1000)
        assert [au for bit, au in enumerate(AUS) if columns["active"][i] >> bit & 1] == row["aus"]
        for au in header["knownAus"]:
            assert columns[au][i] == (MISSING if row[au] is None else pytest.approx(row[au] * 1000, abs=0.51))
        window, face = columns["window"][i], faces[row["track_id"], row["window_index"]]
        assert (windows["start_ms"][window], windows["end_ms"][window]) == (round(row["start_s"] * 1000), round(row["end_s"] * 1000))
        assert EMOTIONS[windows["emotion"][window]] == face["emotion"], "emotion and age are the face's"
        assert windows["p_fear"][window] == pytest.approx(face["emotion_fear"] * 1000, abs=0.51)
        assert windows["age"][window] == pytest.approx(face["age"] * 10, abs=0.51)
    assert header["tables"]["windows"]["count"] == len(faces) and "samples" not in packed
    assert "AU14" not in header["knownAus"]  # no row has a score of it


def test_a_tracks_age_is_the_one_of_the_trends(run: RunFolder) -> None:
    key = add_video(run, "gone.mp4", rows_of(video_id("gone.mp4"), 12, people=2))
    assert command("report", run.path) == 0
    header, _ = payload(run.path / "report" / "videos" / "gone.html")
    trends = load_trends([run.path]).pandas("tracks").set_index("track_id")
    assert {one["id"]: one["age"] for one in header["tracks"]} == {
        track: [round(row[name], 1) for name in ("age", "age_low", "age_high")] for track, row in trends.iterrows()
    }
    assert key and set(trends.index) == {1, 2}


def test_scores_of_every_frame_are_on_the_page_where_the_run_has_them(run: RunFolder) -> None:
    """Ten frames a second, one of which cannot be read; of two active units that exclude each other the surer one counts."""
    key = video_id("gone.mp4")
    faces, rows = rows_of(key, 3)
    face = faces.to_pylist()[0]
    shares = {f"emotion_{name}": 1.0 if name == "fear" else 0.0 for name in EMOTIONS}
    frames: list[dict[str, Any]] = []
    for i in range(30):
        scores = {"AU12": i / 29, "AU24": 0.8, "AU25": 0.9, "emotion": "fear", "age": 30.0, **shares} if i != 7 else {}
        frames.append({**face, "frame_index": 3 * i, "time_s": i / 10, **scores})
    add_video(run, "gone.mp4", (pa.Table.from_pylist(frames, TABLES["faces"]), rows), fps=30.0)
    run.update_info(thresholds={"AU12": 0.5, "AU24": 0.5, "AU25": 0.5})
    assert command("report", run.path) == 0
    header, packed = payload(run.path / "report" / "videos" / "gone.html")
    samples = packed["samples"]
    assert header["tables"]["samples"]["count"] == 30
    assert samples["start_ms"].tolist() == [100 * i for i in range(30)] and samples["end_ms"][3] == 400
    known = [i for i in range(30) if i != 7]
    assert samples["AU12"][known].tolist() == [round(i / 29 * SAMPLE_STEPS) for i in known]
    assert samples["AU12"][7] == samples["p_fear"][7] == SAMPLE_MISSING and samples["p_fear"][6] == SAMPLE_STEPS
    active = {au: [bool(bits >> AUS.index(au) & 1) for bits in samples["active"]] for au in ("AU12", "AU24", "AU25")}
    assert active["AU12"] == [i != 7 and i / 29 >= 0.5 for i in range(30)]
    assert not any(active["AU24"]) and active["AU25"] == [i != 7 for i in range(30)], "lips are not pressed and parted at once"


def test_presence_ends_where_the_face_is_long_gone() -> None:
    assert presence(np.array([0.0, 0.5, 1.0, 5.0, 5.5])) == [(0.0, 1.0), (5.0, 5.5)]
    assert presence(np.array([3.0])) == [(3.0, 3.0)]
    assert presence(np.array([])) == []


def test_pictures_show_everybody_and_then_the_most_telling_moment_of_each_stretch() -> None:
    tracks = np.array([1] * 99 + [2])
    telling, looks = np.zeros(100), np.zeros(100)
    telling[[13, 37, 58, 80]] = 1
    looks[42] = 1
    chosen, best = choose(tracks, telling, looks, 6)
    assert chosen.tolist() == [13, 37, 42, 58, 80, 99]
    assert best == {1: 42, 2: 99}
    everybody, _ = choose(np.arange(50), np.zeros(50), np.zeros(50), 8)
    assert len(everybody) == 8
    assert choose(tracks, telling, looks, 500)[0].tolist() == list(range(100))
    assert len(choose(np.zeros(0), np.zeros(0), np.zeros(0), 5)[0]) == 0


@pytest.mark.parametrize("box", [(0, 0, 50, 50), (600, 300, 640, 360), (-40, -40, 30, 30), (0, 0, 640, 360), (5, 5, 5, 5)])
def test_a_view_lies_in_the_frame_and_holds_what_of_the_box_is_in_it(box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = view_around(box, 640, 360)
    assert 0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 360
    assert x0 <= max(0, box[0]) and y0 <= max(0, box[1]) and x1 >= min(640, box[2]) and y1 >= min(360, box[3])


def test_frames_are_picked_as_they_are_read(clip: Path, samples: Path) -> None:
    for file, wanted in ((clip, {3, 100, 101, 250}), (samples / "no_face.mp4", {0, 40, 77}), (samples / "face_noface.mov", {5, 60})):
        with open_video(file) as video:
            read = {frame.index: frame for frame in video.frames() if frame.index in wanted}
        with open_video(file) as video:
            picked = list(video.pick([*wanted, 10**6]))
        assert [frame.index for frame in picked] == sorted(read) == sorted(wanted)
        for frame in picked:
            assert frame.time_s == pytest.approx(read[frame.index].time_s)
            np.testing.assert_array_equal(frame.image, read[frame.index].image)


def test_no_face_is_left_in_blurred_pictures(run: RunFolder, clip: Path) -> None:
    detector = load_detector("centerface", min_face=40, threads=1)
    faces, rows = [], []
    _, (example, *_) = (table.to_pylist() for table in rows_of(video_id(clip), 1))
    with open_video(clip) as video:
        for frame in video.pick([100, 300, 450]):
            (found,) = detector.detect([frame.image])
            assert len(found) == 1
            box = found.boxes[0].tolist()
            place = {"video_id": video_id(clip), "frame_index": frame.index, "time_s": frame.time_s, "track_id": 1, "box": box}
            faces.append(place | {"landmarks5": [0.0] * 10})
            rows.append(example | place | {"start_s": frame.time_s, "end_s": frame.time_s + 1})
    tables = pa.Table.from_pylist(faces, TABLES["faces"]), pa.Table.from_pylist(rows, TABLES["descriptions"])
    key = add_video(run, clip, tables)
    data = load_video(run, {"video_id": key, "path": str(clip), "fps": 30.0})

    def found_in(kind: Any) -> list[int]:
        pictures = read_pictures(data, file_mark(clip), kind).pictures
        assert len(pictures) == 3
        images = [np.asarray(Image.open(io.BytesIO(one.jpeg)).convert("RGB")) for one in pictures]
        return [len(detector.detect([image])[0]) for image in images]

    assert found_in("show") == [1, 1, 1]
    assert found_in("blur") == [0, 0, 0]
    still = np.asarray(anonymised(Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)), np.zeros((0, 4))))
    assert still.std() < 20  # also where the detector saw nobody, nothing fine is left


def test_many_pictures_keep_within_their_share() -> None:
    from pipeline.report.pictures import MAX_PICTURES, PICTURE_BYTES, _jpeg

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (360, 360, 3), np.uint8))
    assert len(_jpeg(noise, PICTURE_BYTES / MAX_PICTURES)) <= PICTURE_BYTES / MAX_PICTURES


def test_pictures_are_left_out_when_asked_or_gone_or_of_another_file(run: RunFolder, tmp_path: Path, clip: Path) -> None:
    copy = tmp_path / "clip.mp4"
    shutil.copy(clip, copy)
    add_video(run, copy, rows_of(video_id(copy), 3))
    page = run.path / "report" / "videos" / "clip.html"

    def shown(*options: str) -> tuple[int, str]:
        assert command("report", run.path, *options) == 0
        return len(json.loads(block(page, "pictures"))), payload(page)[0]["pictureNote"]

    assert shown() == (3, "")
    assert shown("--no-faces") == (0, "Pictures were left out on request (--no-faces).")
    assert "data:image/jpeg;base64,/9j" not in page.read_text() and '"jpeg"' not in page.read_text()
    with copy.open("ab") as file:
        file.write(b"more")
    count, note = shown()
    assert count == 0 and "changed since the run" in note
    copy.unlink()
    count, note = shown()
    assert count == 0 and "no longer where it was" in note


def test_a_strip_says_who_had_most_of_each_stretch() -> None:
    happy, sad = EMOTIONS.index("happiness"), EMOTIONS.index("sadness")
    starts, emotions = np.array([0.0, 1, 2, 3, 8, 9.4]), np.array([happy, happy, sad, sad, sad, happy])
    assert emotion_strip(starts, starts + 1, emotions, 10.0, 5) == f"{happy}{sad}..{sad}"
    assert emotion_strip(starts, starts + 1, emotions, 10.0) == f"{happy}{happy}{sad}{sad}....{sad}{happy}"  # a cell a window at most
    assert emotion_strip(np.zeros(0), np.zeros(0), np.zeros(0), 10.0) == ""
    assert emotion_strip(starts, starts + 1, emotions, float("nan")) == ""
    assert emotion_strip(starts[:3], starts[:3] + 1, emotions[:3], 6.4) == f"{happy}{happy}{sad}...."  # 0.26 s do not fill a cell of 0.91 s


def test_made_again_only_what_changed_is_written(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    _, other = (add_video(run, name, rows_of(video_id(name), 3)) for name in ("one.mp4", "other.mp4"))
    pages = run.path / "report" / "videos"
    assert command("report", run.path) == 0
    before = {key: (pages / f"{key}.html").stat().st_mtime_ns for key in ("one", "other")}
    first = (pages / "other.html").read_bytes()
    assert command("report", run.path) == 0
    assert "0 pages written" in capsys.readouterr().out
    assert before == {key: (pages / f"{key}.html").stat().st_mtime_ns for key in ("one", "other")}
    add_video(run, "other.mp4", rows_of(other, 4))
    assert command("report", run.path) == 0
    assert "1 page written" in capsys.readouterr().out
    add_video(run, "other.mp4", rows_of(other, 3))
    assert command("report", run.path) == 0
    assert (pages / "other.html").read_bytes() == first  # the same rows, the same page


def test_pages_of_videos_that_are_no_more_go_and_other_files_stay(run: RunFolder) -> None:
    key = add_video(run, "one.mp4", rows_of(video_id("one.mp4"), 2))
    assert command("report", run.path) == 0
    run.discard(key)
    add_video(run, "other.mp4", rows_of(video_id("other.mp4"), 2))
    notes = run.path / "report" / "videos" / "notes.html"
    notes.write_text("mine")
    assert command("report", run.path) == 0
    assert not (run.path / "report" / "videos" / "one.html").exists() and notes.read_text() == "mine"
    foreign = run.path / "foreign"
    (foreign / "videos").mkdir(parents=True)
    (foreign / "videos" / f"{key}.html").write_text("not ours")
    assert command("report", run.path, "--out", foreign) == 0
    assert (foreign / "videos" / f"{key}.html").read_text() == "not ours"


def test_pages_under_the_names_of_an_earlier_release_go(run: RunFolder) -> None:
    key = add_video(run, "one.mp4", rows_of(video_id("one.mp4"), 2))
    assert command("report", run.path) == 0
    report = run.path / "report"
    (report / "videos" / "one.html").rename(report / "videos" / f"{key}.html")
    (report / "report.json").unlink()
    assert command("report", run.path) == 0
    assert [file.name for file in (report / "videos").iterdir()] == ["one.html"]


def test_files_are_named_for_their_videos_and_no_two_alike(run: RunFolder) -> None:
    """Same names in two folders, names that differ in case alone, signs that no file system takes."""
    names = ["a/clip.mp4", "b/clip.mp4", "a/Talk.mov", "a/talk.MOV", "b/two\nlines: 1/2?.mp4", "b/#f%20&'$(x).mp4", "-rf.mp4"]
    for name in names:
        add_video(run, name, rows_of(video_id(name), 1))
    assert command("report", run.path, "--frames", "csv") == 0
    pages = {file.stem for file in (run.path / "report" / "videos").iterdir()}
    ids = {name: video_id(name) for name in names}
    talks = {f"{Path(name).stem}_{ids[name]}" for name in names[2:4]}
    assert pages == {"a_clip", "b_clip", *talks, "2_", "_f_20___(x)", "rf"}
    assert len({page.casefold() for page in pages}) == len(names)
    assert {file.stem for file in (run.path / "report" / "frames").glob("*.csv")} == pages
    for row in payload(run.path / "report" / "index.html")[0]["videos"]:
        assert len(row["files"]) == 3 and all((run.path / "report" / file).is_file() for file in row["files"])
        assert payload(run.path / "report" / row["files"][0])[0]["video"]["video_id"] == row["id"]
    run.discard(ids["b/clip.mp4"])
    assert command("report", run.path, "--frames", "csv") == 0
    assert {file.stem for file in (run.path / "report" / "videos").iterdir()} == pages - {"a_clip", "b_clip"} | {"clip"}
    assert len(list((run.path / "report" / "frames").iterdir())) == 2 * (len(names) - 1)


def test_a_killed_runs_complete_videos_are_reported(run: RunFolder) -> None:
    add_video(run, "whole.mp4", rows_of(video_id("whole.mp4"), 2))
    half = add_video(run, "half.mp4", rows_of(video_id("half.mp4"), 2))
    (run.path / "videos" / f"{half}.parquet").unlink()
    assert command("report", run.path) == 0
    assert [file.stem for file in (run.path / "report" / "videos").iterdir()] == ["whole"]


def test_a_damaged_table_costs_its_own_video_only(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    whole = add_video(run, "whole.mp4", rows_of(video_id("whole.mp4"), 2))
    bad = add_video(run, "bad.mp4", rows_of(video_id("bad.mp4"), 2))
    (run.path / "descriptions" / f"{bad}.parquet").write_bytes(b"PAR1 not really")
    assert command("report", run.path) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and "cannot be read" in errors[0] and bad in errors[0]
    assert (run.path / "report" / "videos" / "whole.html").exists()
    rows = {row["id"]: row for row in payload(run.path / "report" / "index.html")[0]["videos"]}
    assert "cannot be read" in rows[bad]["problems"][0]["text"] and rows[whole]["problems"] == []


def test_a_film_that_cannot_be_made_costs_nothing_else(
    run: RunFolder, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first video is gone, so that its film cannot be drawn; its page and table, and all of the second video, are written."""
    clip = tmp_path / "there.mp4"
    shutil.copy(samples / "single_face.mp4", clip)
    gone = add_video(run, "away/gone.mp4", rows_of(video_id("away/gone.mp4"), 2))
    there = add_video(run, clip, rows_of(video_id(clip), 2, rate=30.0), width=640, height=360, fps=30.0)
    assert command("report", run.path, "--video", "--frames", "csv") == 2
    said = capsys.readouterr()
    (failed,) = (line for line in said.out.splitlines() if line.startswith("failed"))
    assert "gone.mp4, film: " in failed and "no longer there" in failed
    assert len(said.err.splitlines()) == 1 and "1 of 2 videos" in said.err and "gone.mp4" in said.err
    report = run.path / "report"
    rows = {row["id"]: row for row in payload(report / "index.html")[0]["videos"]}
    assert rows[gone]["files"] == ["videos/gone.html", "frames/gone.columns.json", "frames/gone.csv"]
    assert [one["kind"] for one in rows[gone]["problems"]] == ["film"] and rows[there]["problems"] == []
    assert "no longer there" in rows[gone]["problems"][0]["text"]
    assert rows[there]["files"] == ["videos/there.html", "frames/there.columns.json", "frames/there.csv", "films/there.mp4"]

    assert command("report", run.path, "--only", "there.mp4", "--video") == 0
    rows = {row["id"]: row for row in payload(report / "index.html")[0]["videos"]}
    assert [one["kind"] for one in rows[gone]["problems"]] == ["film"], "still so, though nobody tried this time"
    assert command("report", run.path) == 0, "no film is asked for"
    rows = {row["id"]: row for row in payload(report / "index.html")[0]["videos"]}
    assert rows[gone]["problems"] == []


def test_a_film_of_earlier_tables_is_not_shown_as_this_runs(run: RunFolder, samples: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    shutil.copy(samples / "single_face.mp4", clip)
    about = {"width": 640, "height": 360, "fps": 30.0}
    add_video(run, clip, rows_of(video_id(clip), 2, rate=30.0), **about)

    def files(*options: str) -> list[str]:
        assert command("report", run.path, *options) == 0
        (row,) = payload(run.path / "report" / "index.html")[0]["videos"]
        return list(row["files"])

    assert files("--video") == ["videos/clip.html", "films/clip.mp4"] == files()
    add_video(run, clip, rows_of(video_id(clip), 1, rate=30.0), **about)
    assert files() == ["videos/clip.html"]
    assert files("--video") == ["videos/clip.html", "films/clip.mp4"]


def test_odd_rows_make_a_page(run: RunFolder) -> None:
    """Nulls where there may be some, NaN, an unknown region and emotion, columns of another release missing."""
    key = video_id("odd.mp4")
    faces, rows = rows_of(key, 3)
    odd = rows.to_pylist()
    odd[0] |= {"AU01": float("nan"), "activity": None, "region": "left_ear", "emotion": "bliss", "aus": ["AU99"], "box": [-5, -5, 1e9, 9]}
    odd[1] |= {"activity": float("inf"), "emotion_fear": float("nan"), "description": ""}
    add_video(run, "odd.mp4", (faces, pa.Table.from_pylist(odd, TABLES["descriptions"])), fps=float("nan"), duration_s=None)
    file = run.path / "descriptions" / f"{key}.parquet"
    pq.write_table(pq.read_table(file).drop_columns(["AU43", "age_low", "model"]), file)
    assert command("report", run.path) == 0
    header, columns = payload(run.path / "report" / "videos" / "odd.html")
    assert header["tables"]["rows"]["count"] == rows.num_rows and "left_ear" in header["regions"]
    assert set(columns["windows"]["age_low"].tolist()) == {MISSING}


def test_notes_and_kinds_of_errors_stand_in_the_index_and_on_the_page(run: RunFolder) -> None:
    note = "deinterlaced: interlaced frames are deinterlaced; orientation: mirrored"
    add_video(run, "old.mpg", rows_of(video_id("old.mpg"), 2), note=note, error="it ends at 0.5 of 8.5 s", error_kind="truncated")
    failed = {"status": "failed", "error": "broken.mp4: empty file", "error_kind": "empty"}
    add_video(run, "broken.mp4", (empty("faces"), empty("descriptions")), **failed)
    assert command("report", run.path) == 0
    rows = {row["name"]: row for row in payload(run.path / "report" / "index.html")[0]["videos"]}
    notes = [{"kind": "deinterlaced", "text": "interlaced frames are deinterlaced"}, {"kind": "orientation", "text": "mirrored"}]
    assert rows["old.mpg"]["notes"] == notes
    assert rows["old.mpg"]["problems"] == [{"kind": "truncated", "text": "it ends at 0.5 of 8.5 s"}]
    assert rows["broken.mp4"]["problems"] == [{"kind": "empty", "text": "empty file"}] and rows["broken.mp4"]["notes"] == []
    page = run.path / "report" / "videos" / "old.html"
    assert payload(page)[0]["notes"] == notes
    assert "<dd>mirrored</dd>" in page.read_text(encoding="utf-8"), "also where scripts do not run"


def test_names_models_and_errors_stay_text(run: RunFolder, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>.mp4"
    faces, rows = rows_of(video_id(evil), 2)
    said = [row | {"description": evil, "model": evil, "region": evil} for row in rows.to_pylist()]
    add_video(run, evil, (faces, pa.Table.from_pylist(said, TABLES["descriptions"])), error=evil)
    add_video(run, "broken.mp4", (empty("faces"), empty("descriptions")), status="failed", error=evil)
    assert command("report", run.path) == 0
    pages = [run.path / "report" / "index.html", *(run.path / "report" / "videos").iterdir()]
    assert len(pages) == 2
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text and "<img src=x" not in text
        assert "&lt;script&gt;alert(1)" in text
        assert re.search(r"Content-Security-Policy\" content=\"default-src 'none'; script-src 'sha256-", text)
    (page,) = (run.path / "report" / "videos").iterdir()
    assert not set(page.name) & set("<>/")


@pytest.mark.slow
def test_two_hours_of_two_people_are_a_small_page(run: RunFolder) -> None:
    """15 MB, less 8 MB for as many pictures as a page may hold, is what the rows may take."""
    add_video(run, "long.mp4", rows_of(video_id("long.mp4"), 7200, people=2), duration_s=7200.0)
    assert command("report", run.path) == 0
    page = run.path / "report" / "videos" / "long.html"
    assert payload(page)[0]["tables"]["rows"]["count"] > 25_000
    assert page.stat().st_size < 7e6


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "holyday.mp4"], r"--only holyday\.mp4: no such video in this run; did you mean holiday\.mp4\?"),
        (["--frames", "xlsx"], r"--frames takes csv, jsonl, parquet, not 'xlsx'"),
        (["--frames", "csv", "--columns", "facs"], r"--columns must be one of focalface, openface, openface-spaces, pyfeat"),
        (["--empty-frames"], r"give --frames csv as well"),
        (["--no-faces", "--blur"], r"give one of them"),
        (["--no-faces", "--video"], r"give --blur instead"),
        (["--out", "FILE/report"], r"cannot write .*FILE"),
    ],
)
def test_wishes_that_cannot_be_met_end_in_one_line(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_video(run, "holiday.mp4", rows_of(video_id("holiday.mp4"), 1))
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("")
    assert command("report", run.path, *words) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1 and re.search(said, errors[0])
    assert not (run.path / "report" / "videos").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("report", tmp_path) == 2
    assert "holds no run" in capsys.readouterr().err


def test_one_video_is_chosen_by_name_path_or_id(run: RunFolder) -> None:
    keys = [add_video(run, name, rows_of(video_id(name), 1)) for name in ("a/one.mp4", "b/two.mp4", "b/three.mp4")]
    assert command("report", run.path, "--only", "one.mp4", "--only", keys[1]) == 0
    assert {file.stem for file in (run.path / "report" / "videos").iterdir()} == {"one", "two"}
    rows = {row["id"]: row["files"] for row in payload(run.path / "report" / "index.html")[0]["videos"]}
    assert rows == {keys[0]: ["videos/one.html"], keys[1]: ["videos/two.html"], keys[2]: []}


def test_frame_tables_and_films_lie_beside_the_pages(run: RunFolder, samples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = samples / "single_face.mp4"
    add_video(run, clip, rows_of(video_id(clip), 2, rate=30.0), width=640, height=360, fps=30.0)
    report = run.path / "report"
    assert command("report", run.path, "--frames", "csv,parquet", "--video") == 0
    film = report / "films" / "single_face.mp4"
    tables = {f"frames/single_face.{kind}" for kind in ("columns.json", "csv", "parquet")}
    (row,) = payload(report / "index.html")[0]["videos"]
    assert row["files"][0] == "videos/single_face.html"
    assert set(row["files"][1:]) == {*tables, "films/single_face.mp4"}
    made = film.stat().st_mtime_ns
    assert command("report", run.path, "--frames", "csv", "--columns", "pyfeat", "--video") == 0
    (row,) = payload(report / "index.html")[0]["videos"]
    more = {"frames/single_face.pyfeat.csv", "frames/single_face.pyfeat.columns.json"}
    assert set(row["files"][1:]) == {*tables, *more, "films/single_face.mp4"}, "a layout leaves the tables of another alone"
    assert film.stat().st_mtime_ns == made  # a film takes long: once is enough
    capsys.readouterr()
    assert command("report", run.path, "--no-faces") == 0
    assert "1 annotated films of an earlier report show faces" in capsys.readouterr().out
    assert command("report", run.path, "--blur", "--video") == 0
    assert film.stat().st_mtime_ns != made and "show faces" not in capsys.readouterr().out
