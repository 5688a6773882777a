"""Per-frame export: rows match the tables exactly, and scripts written for OpenFace's and py-feat's files read them."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from math import floor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import SettingsError, VideoError
from pipeline.faces.pose import head_pose
from pipeline.report import export
from pipeline.report.export import FORMATS, export_frames
from pipeline.report.layouts import LAYOUTS
from pipeline.schemas import READ_COLUMNS, TABLES
from pipeline.storage.run_folder import RunFolder, empty, file_mark, video_id
from pipeline.video.opening import open_video
from pipeline.vocabulary import AUS, EMOTIONS, compatible
from tests.support.clips import write_clip
from tests.support.runs import make_run

FPS = 4.0
WINDOW_S = 1.0


@pytest.fixture(scope="module")
def clips(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One person; nobody; one who leaves; two beside each other; a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    names = {"one": "single_face.mp4", "none": "no_face.mp4", "leaves": "face_noface.mov"}
    clips = {key: folder / name for key, name in names.items()}
    for path in clips.values():
        shutil.copy(samples / path.name, path)

    def pictures(name: str) -> Iterator[np.ndarray]:
        with av.open(str(samples / name)) as container:
            for frame in itertools.islice(container.decode(video=0), 45):
                yield frame.to_ndarray(format="rgb24")

    pairs = zip(pictures("single_face.mp4"), pictures("WolfgangLanger_Pexels.mp4"), strict=True)
    clips["two"] = write_clip(folder / "two.mp4", [np.concatenate(pair, axis=1) for pair in pairs])
    clips["broken"] = folder / "broken.mp4"
    clips["broken"].write_bytes(b"no video" * 100)
    return clips


@pytest.fixture(scope="module")
def run(clips: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("run"), list(clips.values()), video_fps=FPS)


def table(run: RunFolder, name: str, path: Path) -> list[dict[str, Any]]:
    return [row for row in run.read(name).to_pylist() if row["video_id"] == video_id(path)]


def read(run: RunFolder, path: Path, out: Path, **options: Any) -> pd.DataFrame:
    (file,) = export_frames(run, video_id(path), out / "frames", **options)
    return pd.read_csv(file)


@pytest.mark.parametrize("clip", ["one", "two", "leaves"])
def test_rows_are_those_of_the_faces_table(run: RunFolder, clips: dict[str, Path], tmp_path: Path, clip: str) -> None:
    faces = table(run, "faces", clips[clip])
    assert len({face["track_id"] for face in faces}) == (2 if clip == "two" else 1)
    rows = read(run, clips[clip], tmp_path)
    key = ["frame_index", "track_id"]
    assert rows[key].to_numpy().tolist() == sorted([face[name] for name in key] for face in faces)
    for name in ("time_s", "det_score", "yaw", "pitch", "roll", "sharpness"):
        np.testing.assert_allclose(rows[name], [face[name] for face in faces], rtol=1e-5)
    np.testing.assert_allclose(rows[["box_x0", "box_y0", "box_x1", "box_y1"]], [face["box"] for face in faces], rtol=1e-5)
    landmarks = [name for name in rows if name.endswith(("_x", "_y"))]
    np.testing.assert_allclose(rows[landmarks], [face["landmarks5"] for face in faces], rtol=1e-5)


READ = (*AUS, *(f"emotion_{emotion}" for emotion in EMOTIONS), "age")


@pytest.mark.parametrize("clip", ["one", "two"])
def test_every_frame_has_its_own_values_where_the_run_read_it(run: RunFolder, clips: dict[str, Path], tmp_path: Path, clip: str) -> None:
    """And the sentence of its window; the interval of the age stands in the row of the described frame alone."""
    words = {(row["track_id"], row["window_index"]): row for row in table(run, "descriptions", clips[clip]) if row["region"] == "face"}
    rows, faces = read(run, clips[clip], tmp_path).to_dict("records"), table(run, "faces", clips[clip])
    limits = run.info["thresholds"]
    described = []
    for row, face in zip(rows, faces, strict=True):
        said = words[row["track_id"], floor(row["time_s"] / WINDOW_S)]
        for name in READ:
            assert row[name] == pytest.approx(face[name], rel=1e-5) if face[name] is not None else np.isnan(row[name])
        assert row["emotion"] == face["emotion"] is not None
        margins = {au: (face[au] - limits[au]) / (1 - limits[au]) for au in limits if face[au] >= limits[au]}
        assert tuple(str(row["aus"]).replace("nan", "").split()) == compatible(margins)
        assert (row["window_index"], row["region"], row["description"]) == (said["window_index"], "face", said["description"])
        assert row["described"] == (row["frame_index"] == said["frame_index"])
        interval = (said["age_low"], said["age_high"]) if row["described"] else (np.nan, np.nan)
        assert (row["age_low"], row["age_high"]) == pytest.approx(interval, nan_ok=True)
        described += [(row["track_id"], row["window_index"])] if row["described"] else []
    assert sorted(described) == sorted(words), "each window has one frame that was looked at"
    assert len({row["AU12"] for row in rows}) == len(rows) > len(words)


def test_a_smile_begins_in_its_own_frame_in_openfaces_columns(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    """The mouth is at rest when this clip begins, and smiles before its first second ends."""
    rows, faces = read(run, clips["one"], tmp_path, columns="openface"), table(run, "faces", clips["one"])
    np.testing.assert_allclose(rows.AU12_r, [face["AU12_intensity"] for face in faces], rtol=1e-5)
    assert rows.AU12_r[0] < 0.5 and rows.AU12_c[0] == 0
    assert rows.AU12_r.max() > 1.5 and set(rows.AU12_c) == {0, 1}
    assert len(set(rows.AU12_c[rows.window_index == 0])) == 2, "it begins inside a window"


def test_frames_of_a_run_that_read_only_the_described_ones_carry_what_their_window_says(clips: dict[str, Path], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [clips["one"]], video_fps=FPS, describe_frames="described", select_regions="face")
    words = {(row["track_id"], row["window_index"]): row for row in table(run, "descriptions", clips["one"])}
    assert len(words) >= 2
    for row in read(run, clips["one"], tmp_path).to_dict("records"):
        said = words[row["track_id"], floor(row["time_s"] / WINDOW_S)]
        assert (row["region"], row["emotion"], row["description"]) == ("face", said["emotion"], said["description"])
        assert str(row["aus"]).replace("nan", "").split() == said["aus"]
        for name in (*READ, "age_low", "age_high"):
            assert row[name] == pytest.approx(said[name], rel=1e-5) if said[name] is not None else np.isnan(row[name])
    for layout in LAYOUTS:
        read(run, clips["one"], tmp_path, columns=layout)
        columns = json.loads((tmp_path / "frames.columns.json").read_text(encoding="utf-8"))["columns"]
        assert {about["resolution"] for name, about in columns.items() if "AU12" in name} == {"window"}


def test_intensities_are_those_of_the_model_where_it_gives_them(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    faces = [face | {"AU12_intensity": 2.5, "AU12": 0.9, "AU25_intensity": None} for face in table(run, "faces", clips["one"])]
    rows = read(hand_made(tmp_path / "run", clips["one"], faces, []), clips["one"], tmp_path, columns="openface")
    assert set(rows.AU12_r) == {2.5} and set(rows.AU12_c) == {1}
    np.testing.assert_allclose(rows.AU25_r, [5 * face["AU25"] for face in faces], rtol=1e-5)
    about = json.loads((tmp_path / "frames.columns.json").read_text(encoding="utf-8"))["columns"]
    assert "FACS intensity, 0 to 5" in about["AU12_r"]["meaning"] and "five times" in about["AU25_r"]["meaning"]


def test_a_face_that_could_not_be_read_has_no_values(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    """Not those of another frame of its window either."""
    faces, words = (table(run, name, clips["one"]) for name in ("faces", "descriptions"))
    hidden = dict.fromkeys(READ_COLUMNS) | {"readable": 0.2, "unreadable": "covered"}
    faces = [face | (hidden if 2 <= number < 5 else {}) for number, face in enumerate(faces)]
    made = hand_made(tmp_path / "run", clips["one"], faces, words)
    rows = read(made, clips["one"], tmp_path)
    assert rows.loc[2:4, [*READ, "emotion", "aus"]].isna().all(axis=None) and rows.description.notna().all()
    assert rows.drop(index=[2, 3, 4]).emotion.notna().all() and rows.drop(index=[2, 3, 4]).unreadable.isna().all()
    assert (rows.unreadable[2:5] == "covered").all() and (rows.readable[2:5] < 0.3).all()
    tool = read(made, clips["one"], tmp_path, columns="openface")
    assert tool.loc[2:4].filter(regex="_[rc]$").isna().all(axis=None)
    assert (tool.success == tool.AU12_c.notna()).all() and tool.success.sum() == len(tool) - 3


def test_a_blink_is_one_in_openfaces_columns_even_below_the_threshold(clips: dict[str, Path], run: RunFolder, tmp_path: Path) -> None:
    """As `focalface trends` counts blinks: by the rise of AU43. A frame beyond a gap is no part of it."""
    face = table(run, "faces", clips["one"])[0]
    scores = [0.02, 0.02, 0.02, 0.4, 0.45, 0.03, 0.02, 0.02, 0.9, 0.9, 0.02]
    faces = [
        face | {"frame_index": i, "time_s": i / 10, "AU43": score, "AU43_intensity": None, "AU05": 0.0} for i, score in enumerate(scores)
    ]
    made = hand_made(tmp_path / "run", clips["one"], faces, [], fps=10.0)
    made.update_info(settings={"video": {"fps": 10.0}, "select": {"window": WINDOW_S}}, thresholds={"AU43": 0.6})
    rows = read(made, clips["one"], tmp_path, columns="openface", empty_frames=False)
    assert rows.AU45_c.tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0]
    np.testing.assert_allclose(rows.AU45_r, 5 * np.array(scores), rtol=1e-5)


def test_formats_say_the_same(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    for columns in LAYOUTS:
        files = export_frames(run, video_id(clips["two"]), tmp_path / columns, formats=tuple(FORMATS), columns=columns)
        assert [file.name for file in files] == [f"{columns}.{name}" for name in FORMATS]
        csv, parquet = pd.read_csv(files[0]), pq.read_table(files[2])
        lines = [json.loads(line) for line in files[1].read_text(encoding="utf-8").splitlines()]
        assert lines == parquet.to_pylist()
        assert list(csv) == list(lines[0]) == parquet.column_names
        both = [table.fillna({"aus": ""}) if "aus" in table else table for table in (csv, parquet.to_pandas())]  # CSV has no null
        pd.testing.assert_frame_equal(*both, check_dtype=False, rtol=1e-5)


def test_openface_scripts_read_it(run: RunFolder, clips: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    theirs = pd.read_csv(samples / "OpenFace_Test.csv", skipinitialspace=True)
    rows = read(run, clips["two"], tmp_path, columns="openface")
    known = set(theirs) | {"face_id"}  # its files of several people have that one
    assert [name for name in rows if name not in known] == ["track_id", "person_id", "time_s", "window_index", "described", "path"]
    assert set(rows.path) == {str(clips["two"])}
    for ending in ("_r", "_c"):  # by ending, as many scripts pick them
        assert [name for name in rows if name.endswith(ending)] == [name for name in theirs if name.endswith(ending)]
    assert list(rows)[:5] == ["frame", "face_id", "timestamp", "confidence", "success"]

    faces = table(run, "faces", clips["two"])
    assert rows[["frame", "face_id"]].to_numpy().tolist() == [[f["frame_index"] + 1, f["track_id"] - 1] for f in faces]
    good = rows[(rows.success == 1) & (rows.confidence > 0.5)]
    assert len(good) == len(faces)
    assert good.filter(regex="_r$").max().max() <= 5 and good.AU12_r.between(0, 5).all()
    assert set(good.AU12_c) <= {0, 1} and good.AU14_r.isna().all() and good.AU14_c.isna().all(), "no checkpoint knows AU14"
    ours = read(run, clips["two"], tmp_path)
    np.testing.assert_allclose(good.AU12_r, [face["AU12_intensity"] for face in faces], rtol=1e-5)
    np.testing.assert_allclose(good.AU45_r, [face["AU43_intensity"] for face in faces], rtol=1e-5)
    assert all(good.AU45_c[["AU43" in str(aus) for aus in ours.aus]] == 1)


def test_openface_names_have_its_spaces_when_asked(run: RunFolder, clips: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    theirs = (samples / "OpenFace_Test.csv").read_text().splitlines()[0].split(",")
    (file,) = export_frames(run, video_id(clips["two"]), tmp_path / "frames", columns="openface-spaces")
    names = file.read_text().splitlines()[0].split(",")
    added = [" face_id", " track_id", " person_id", " time_s", " window_index", " described"]  # face_id is OpenFace's own since 2.2
    added += [" path"]
    measured = [name for name in theirs if not name.startswith((" gaze", " pose_T", " x_", " y_", " X_", " Y_", " Z_", " p_"))]
    order = ["frame", " timestamp", " confidence", " success"]
    assert [name for name in names if name not in added] == measured and names[:5] == [order[0], " face_id", *order[1:]]
    assert " AU12_r" in names and " AU28_c" in names and " AU28_r" not in names
    plain = read(run, clips["two"], tmp_path, columns="openface")
    pd.testing.assert_frame_equal(pd.read_csv(file, skipinitialspace=True), plain)


def test_openface_counts_the_frames_without_a_face_unless_told_not_to(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    """The share of frames with `success` 1 is what its users report as tracking quality."""
    sampled = next(row for row in run.read("videos").to_pylist() if row["video_id"] == video_id(clips["leaves"]))["sampled_frames"]
    rows = read(run, clips["leaves"], tmp_path, columns="openface")
    assert len(rows) == sampled > rows.success.sum() == len(table(run, "faces", clips["leaves"]))
    for options in ({"columns": "openface", "empty_frames": False}, {"columns": "pyfeat"}, {}):
        assert len(read(run, clips["leaves"], tmp_path, **options)) == rows.success.sum()


def test_every_column_is_described_with_its_resolution(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    """A column said to have one value a window does not change within a (track, window)."""
    for layout in LAYOUTS:
        rows = read(run, clips["two"], tmp_path, columns=layout)
        about = json.loads((tmp_path / "frames.columns.json").read_text(encoding="utf-8"))
        assert list(about["columns"]) == list(rows) and about["layout"] == layout and about["video"] == str(clips["two"])
        assert all(column["meaning"] for column in about["columns"].values())
        windowed = [name for name, column in about["columns"].items() if column["resolution"] == "window"]
        assert {column["resolution"] for name, column in about["columns"].items() if "AU12" in name} == {"frame"}
        assert windowed == (["region", "description", "change"] if layout == "focalface" else [])
        rows.columns = rows.columns.str.strip()
        groups = rows.groupby(["track_id", "window_index"])
        assert (groups[[name.strip() for name in windowed]].nunique(dropna=False) == 1).all(axis=None)
        assert (groups.size() > 1).any()


def test_pyfeat_scripts_read_it(run: RunFolder, clips: dict[str, Path], samples: Path, tmp_path: Path) -> None:
    theirs = pd.read_csv(samples / "Feat_Test.csv")
    rows = read(run, clips["two"], tmp_path, columns="pyfeat")
    added = ["approx_time", "Identity", "track_id", "person_id", "time_s", "window_index", "described"]  # py-feat has the first two
    assert [name for name in rows if name not in added] == [name for name in theirs if not name.startswith(("x_", "y_"))]
    assert [name for name in rows if "AU" in name] == [name for name in theirs if "AU" in name]
    faces = table(run, "faces", clips["two"])
    boxes = np.array([face["box"] for face in faces])
    rectangles = rows[["FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight"]]
    np.testing.assert_allclose(rectangles, np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]), rtol=1e-4)
    assert rows.frame.tolist() == [face["frame_index"] for face in faces]
    np.testing.assert_allclose(rows[["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]].sum(axis=1), 1, atol=1e-3)
    assert set(rows.Identity) == {"Person_1", "Person_2"}
    assert rows.approx_time[0] == "00:00" and set(rows.input) == {str(clips["two"])}


@pytest.mark.parametrize(
    ("sample", "columns", "pairs"),
    [
        ("OpenFace_Test.csv", "openface", {"pose_Rx": "pose_Rx", "pose_Ry": "pose_Ry", "pose_Rz": "pose_Rz"}),
        ("002.csv", "pyfeat", {"Pitch": "Pitch", "Roll": "Roll"}),
    ],
)
def test_angles_have_the_tools_signs(samples: Path, tmp_path: Path, sample: str, columns: str, pairs: dict[str, str]) -> None:
    """The tool's own landmarks, through our pose and our export, turn the way the tool says that they turn."""
    theirs = pd.read_csv(samples / sample, skipinitialspace=True)

    def centre(points: range) -> np.ndarray:
        return np.stack([theirs[[f"{axis}_{i}" for i in points]].mean(axis=1) for axis in "xy"], axis=1)

    spans = (range(36, 42), range(42, 48), range(30, 31), range(48, 49), range(54, 55))
    landmarks = np.stack([centre(points) for points in spans], axis=1)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"")
    faces = [
        {"video_id": video_id(clip), "frame_index": i, "time_s": i / 30, "track_id": 1, "det_score": 0.9, "box": [0, 0, 9, 9]}
        | {"landmarks5": face.ravel().tolist(), "sharpness": 1.0}
        | dict(zip(("yaw", "pitch", "roll"), head_pose(face), strict=True))
        for i, face in enumerate(landmarks)
    ]
    rows = read(hand_made(tmp_path / "run", clip, faces, []), clip, tmp_path, columns=columns, empty_frames=False)
    assert (rows[list(pairs)].abs() < 0.5).all(axis=None), "radians"
    for ours, name in pairs.items():
        assert np.corrcoef(rows[ours], theirs[name])[0, 1] > 0.4, name


def hand_made(folder: Path, path: Path, faces: list[dict[str, Any]], words: list[dict[str, Any]], **row: Any) -> RunFolder:
    run = RunFolder(folder)
    run.begin({})
    row = {"video_id": video_id(path), "path": str(path), "status": "ok", "error": None, "sampled_frames": len(faces)} | row
    rows, said = pa.Table.from_pylist(faces, TABLES["faces"]), pa.Table.from_pylist(words, TABLES["descriptions"])
    run.commit(row, rows, said, file_mark(path))
    run.update_info(settings={"video": {"fps": FPS}, "select": {"window": WINDOW_S}})
    return run


def test_what_the_face_does_not_know_comes_from_a_region(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    faces, words = (table(run, name, clips["one"]) for name in ("faces", "descriptions"))
    whole = next(row for row in words if row["region"] == "face" and row["window_index"] == 0)
    faces = [face | dict.fromkeys(READ_COLUMNS) for face in faces]  # none was read by itself
    faces[0] |= {"yaw": float("nan"), "det_score": None}
    whole |= {"AU12": None, "aus": ["AU25"], "AU25": 0.9, "emotion": "fear"}
    mouth = whole | {"region": "mouth", "AU12": 0.75, "AU25": 0.1, "AU01": None, "aus": ["AU12"], "emotion": "anger"}
    eyes = whole | {"region": "eyes", "AU12": None, "AU25": None, "aus": []}
    later = mouth | {"window_index": 1, "start_s": 1.0, "end_s": 2.0}
    made = hand_made(tmp_path / "run", clips["one"], faces, [mouth, eyes, whole, later])
    rows = read(made, clips["one"], tmp_path)
    first, second, third = (rows[rows.time_s.floordiv(WINDOW_S) == window] for window in range(3))
    assert set(first.region) == {"face"} and set(first.emotion) == {"fear"}
    assert set(first.AU12) == {0.75}, "a region where the face does not know"
    assert set(first.AU25) == {np.float64(0.9)}, "the face where it does"
    assert set(first.aus) == {"AU12 AU25"}
    assert set(second.region) == {"mouth"} and set(second.emotion) == {"anger"}
    assert set(second.AU25) == {0.1} and set(second.aus) == {"AU12"}
    assert third[["window_index", "region", "AU12", "emotion", "age", "description", "aus"]].isna().all(axis=None), "nobody spoke"
    assert not third.described.any() and third.box_x0.notna().all()
    assert first[["yaw", "det_score"]].isna().to_numpy()[0].all(), "NaN is not known, like null"
    (lines,) = export_frames(made, video_id(clips["one"]), tmp_path / "frames", formats=["jsonl"])
    assert "NaN" not in lines.read_text()


@pytest.mark.parametrize("batch", [3, 4096])
@pytest.mark.parametrize(("clip", "decoder"), [("none", "pyav"), ("leaves", "decord"), ("two", "decord")])
def test_frames_without_a_face_are_rows_when_asked(
    run: RunFolder, clips: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: str, decoder: str, batch: int
) -> None:
    monkeypatch.setattr(export, "BATCH_ROWS", batch)
    with open_video(clips[clip]) as video:
        assert video.info.decoder == decoder
        sampled = [(frame.index, frame.time_s) for frame in video.frames(FPS)]
    rows = read(run, clips[clip], tmp_path, empty_frames=True)
    assert rows.drop_duplicates("frame_index")[["frame_index", "time_s"]].to_numpy() == pytest.approx(np.array(sampled), rel=1e-6)
    assert rows[["frame_index", "track_id"]].equals(rows[["frame_index", "track_id"]].sort_values(["frame_index", "track_id"]))
    seen = rows[rows.track_id.notna()].reset_index(drop=True)
    pd.testing.assert_frame_equal(seen, read(run, clips[clip], tmp_path), check_dtype=False)
    assert (len(seen) < len(rows)) == (clip != "two")

    tool = read(run, clips[clip], tmp_path, columns="openface", empty_frames=True)
    assert tool.success.tolist() == rows.track_id.notna().astype(int).tolist()
    assert (tool[tool.success == 0][["confidence", "face_id"]] == 0).all(axis=None)
    assert tool[tool.success == 0].filter(regex="_[rc]$").isna().all(axis=None)
    feat = read(run, clips[clip], tmp_path, columns="pyfeat", empty_frames=True)
    assert ((feat.FaceScore > 0) == rows.track_id.notna()).all()


def test_a_video_without_faces_gives_a_header(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    for columns in LAYOUTS:
        options: dict[str, Any] = {"formats": tuple(FORMATS), "columns": columns, "empty_frames": False}
        csv, lines, parquet = export_frames(run, video_id(clips["none"]), tmp_path / "x", **options)
        assert len(pd.read_csv(csv)) == 0 and len(csv.read_text().splitlines()) == 1
        assert lines.read_text() == ""
        assert pq.read_table(parquet).column_names == list(pd.read_csv(csv))


def test_what_cannot_be_is_said_in_a_line(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    one = video_id(clips["one"])
    layouts = "focalface, openface, openface-spaces, pyfeat"
    for wrong, words in (({"formats": ["xlsx"]}, "csv, jsonl, parquet"), ({"columns": "amos"}, layouts)):
        with pytest.raises(SettingsError, match=words):
            export_frames(run, one, tmp_path / "x", **wrong)
    with pytest.raises(SettingsError, match="holds no video 0000"):
        export_frames(run, "0000", tmp_path / "x")
    with pytest.raises(VideoError, match="failed in the run"):
        export_frames(run, video_id(clips["broken"]), tmp_path / "x")

    copy = tmp_path / "copy.mp4"
    shutil.copy(clips["leaves"], copy)
    faces = [row | {"video_id": video_id(copy)} for row in table(run, "faces", clips["leaves"])]
    made = hand_made(tmp_path / "run", copy, faces, [], decoder="decord")
    with pytest.raises(VideoError, match="without the frames that show no face"):  # the run looked at other frames than we would
        export_frames(made, video_id(copy), tmp_path / "x", empty_frames=True)
    os.utime(copy, (0, 0))
    with pytest.raises(VideoError, match="has changed since the run"):
        export_frames(made, video_id(copy), tmp_path / "x", empty_frames=True)
    copy.unlink()
    with pytest.raises(VideoError, match="no longer there"):
        export_frames(made, video_id(copy), tmp_path / "x", empty_frames=True)
    assert not list(tmp_path.glob("*x*")), "no half file stays"
    assert len(read(made, copy, tmp_path)) == len(faces), "the tables alone still do"


def test_memory_does_not_grow_with_the_frames(run: RunFolder, clips: dict[str, Path], tmp_path: Path) -> None:
    face = table(run, "faces", clips["one"])[0]
    many = pa.Table.from_pylist([face] * 200_000, TABLES["faces"])
    stamps = np.arange(len(many))
    many = many.set_column(1, TABLES["faces"].field("frame_index"), [stamps])
    many = many.set_column(2, TABLES["faces"].field("time_s"), [stamps / 30])
    made = hand_made(tmp_path / "run", clips["one"], [], [])
    row = made.read("videos").to_pylist()[0]
    made.commit(row, many, empty("descriptions"), "")
    before = pa.total_allocated_bytes()
    peaks = []
    for known in export._Source(made, row).batches(False):
        assert len(known["frame_index"]) <= export.BATCH_ROWS
        peaks.append(pa.total_allocated_bytes() - before)
    assert max(peaks) < many.nbytes / 2
