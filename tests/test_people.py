"""People instead of tracks: clustering rules, what readers see, and changes by hand, on small tables."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import open_run
from pipeline.errors import FocalfaceError, ModelError, SettingsError
from pipeline.faces.alignment import align
from pipeline.people.clustering import cluster, sharing_frames
from pipeline.people.crops import choose
from pipeline.people.measuring import Measured, distances
from pipeline.people.recognisers import load_recogniser
from pipeline.schemas import PEOPLE, PERSON_TRACKS, TABLES
from pipeline.storage.people_folder import PeopleFolder
from pipeline.storage.run_folder import RunFolder, video_id
from tests.support.people import link_by_hand, persons_of
from tests.support.tables import add_video, command, new_run, rows_of

A, B = video_id("a.mp4"), video_id("b.mp4")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two videos with three tracks each; tracks of a video share frames."""
    run = new_run(tmp_path / "run")
    for number, path in enumerate(("a.mp4", "b.mp4")):
        key = video_id(path)
        add_video(run, path, rows_of(key, 5, 3, seed=number), faces=15)
    run.finish()
    return run


@pytest.fixture
def linked(run: RunFolder) -> PeopleFolder:
    """P001 and P002 are in both videos; track 3 of b.mp4 is P003, that of a.mp4 is not linked."""
    people = {(A, 1): "P001", (A, 2): "P002", (A, 3): None, (B, 1): "P001", (B, 2): "P002", (B, 3): "P003"}
    return link_by_hand({"run": run}, run.path / "people", {"run": people})


def test_tracks_that_are_near_are_one_person_and_far_ones_are_not() -> None:
    points = np.array([[0.0, 0], [0.1, 0], [5, 5], [0, 0.1], [5, 5.1]])
    assert cluster(points, 1.0).tolist() == [0, 0, 1, 0, 1]
    assert cluster(points, 0.01).tolist() == [0, 1, 2, 3, 4]
    assert cluster(points[:1], 1.0).tolist() == [0]


@pytest.mark.parametrize("seed", range(20))
def test_tracks_of_one_frame_are_never_one_person_whatever_lies_between_them(seed: int) -> None:
    chance = np.random.default_rng(seed)
    points = chance.normal(size=(30, 2)) * 0.2  # all of them near enough to be one person
    apart = [tuple(sorted(chance.choice(30, 2, replace=False).tolist())) for _ in range(25)]
    labels = cluster(points, 2.0, apart)
    assert all(labels[one] != labels[other] for one, other in apart)
    assert len(set(labels.tolist())) < 30  # and all others may be together


def test_hand_made_links_hold_and_may_not_contradict_frames() -> None:
    points = np.array([[0.0], [9.0], [18.0], [0.1]])
    assert cluster(points, 1.0, together=[(0, 1), (1, 2)]).tolist() == [0, 0, 0, 1]
    assert cluster(points, 1.0, apart=[(0, 3)]).tolist() == [0, 1, 2, 3]
    with pytest.raises(FocalfaceError, match="different people"):
        cluster(points, 1.0, apart=[(0, 2)], together=[(0, 1), (1, 2)])


def test_clusters_do_not_depend_on_the_order_of_tracks() -> None:
    points = np.random.default_rng(3).normal(size=(40, 8))
    order = np.random.default_rng(4).permutation(40)
    one, other = cluster(points, 3.5), cluster(points[order], 3.5)
    together = one[:, None] == one[None]
    assert (together[np.ix_(order, order)] == (other[:, None] == other[None])).all()


def test_tracks_that_share_a_frame_are_found() -> None:
    frames, tracks = np.array([1, 1, 2, 2, 3, 3]), np.array([1, 2, 2, 3, 1, 4])
    assert sharing_frames(frames, tracks) == [(1, 2), (1, 4), (2, 3)]


def test_the_sharpest_most_frontal_faces_are_looked_at_and_bad_ones_are_not() -> None:
    def face(frame: int, track: int = 1, size: float = 40.0, yaw: float = 0.0, sharpness: float = 500.0) -> dict[str, object]:
        marks = [0, 0, size, 0, size / 2, size / 2, 0, size, size, size]
        pose = {"yaw": yaw, "pitch": 0.0, "sharpness": sharpness, "det_score": 0.9}
        place = {"video_id": "v", "frame_index": frame, "time_s": frame / 8, "track_id": track}
        return {**place, "landmarks5": marks, "box": [0, 0, 9, 9], **pose}

    rows = [face(frame, sharpness=100 + frame) for frame in range(40)] + [face(50, yaw=80), face(51, size=5)] + [face(60, 2, size=6)]
    one, two = choose(pa.Table.from_pylist(rows, TABLES["faces"]))
    assert one.frames.tolist() == [39, 35, 31, 27, 23] and one.faces == 42
    assert not len(two.frames) and "sharp and frontal" in two.note


def test_roc_of_known_distances() -> None:
    same, different = distances(np.array([[0.0], [0.1], [1.0], [1.2]]), ["Ada", "Ada", "Bo", "Bo"])
    assert same == pytest.approx([0.1, 0.2]) and different == pytest.approx([0.9, 1.0, 1.1, 1.2])
    assert Measured("b", None, 2, 4, same, different).auc == 1.0
    assert Measured("b", 0.1, 2, 4, same, different).rates(0.95) == (0.25, 1.0)
    assert Measured("b", None, 2, 4, np.array([0.2]), np.array([0.1, 0.3])).auc == 0.5


def test_a_run_has_people_once_they_are_linked(run: RunFolder, linked: PeopleFolder) -> None:
    opened = open_run(run.path)
    assert opened.people.schema.names == PEOPLE.names
    (first,) = opened.people.to_pandas().query("person_id == 'P001'").to_dict("records")
    assert (first["tracks"], first["videos"], first["faces"], first["first_video"], first["last_video"]) == (2, 2, 10, "a.mp4", "b.mp4")
    assert (linked.path / first["face"]).is_file()
    for table in (opened.faces, opened.descriptions):
        assert table.column_names.index("person_id") == table.column_names.index("track_id") + 1
        found = {(row["video_id"], row["track_id"]): row["person_id"] for row in table.to_pylist()}
        assert found == persons_of(linked)
    assert pq.read_schema(linked.path / "tracks.parquet").names == PERSON_TRACKS.names


def test_a_run_without_people_has_its_tables_as_ever(run: RunFolder) -> None:
    assert open_run(run.path).faces.schema.names == TABLES["faces"].names
    with pytest.raises(SettingsError, match="link them with focalface people"):
        _ = open_run(run.path).people


def test_links_of_a_video_that_was_analysed_again_do_not_count(run: RunFolder, linked: PeopleFolder) -> None:
    run.begin(run.info["settings"])
    add_video(run, "a.mp4", rows_of(A, 4, 3, seed=5), faces=12)
    persons = run.persons()
    assert persons is not None
    assert {video for video, _ in persons.of} == {B}


def test_a_run_that_starts_again_forgets_its_people(run: RunFolder, linked: PeopleFolder) -> None:
    run.begin({}, overwrite=True)
    assert not linked.exists


def test_people_of_one_study_are_found_from_each_run(tmp_path: Path) -> None:
    runs = {name: new_run(tmp_path / name) for name in ("one", "two")}
    for run in runs.values():
        add_video(run, "a.mp4", rows_of(A, 5, 1), faces=5)
        run.finish()
    study = link_by_hand(runs, tmp_path / "study", {"one": {(A, 1): "P001"}, "two": {(A, 1): "P002"}})
    for name, person in (("one", "P001"), ("two", "P002")):
        persons = runs[name].persons(study.path)
        assert persons is not None
        assert persons.of == {(A, 1): person}
    os.rename(tmp_path / "two", tmp_path / "elsewhere")
    assert RunFolder(tmp_path / "elsewhere").persons(study.path) is None


def test_merge(linked: PeopleFolder, run: RunFolder) -> None:
    assert command("people", run.path, "--name", "P003", "Bo") == 0
    assert command("people", run.path, "--merge", "P001", "Bo") == 2  # both are on screen in b.mp4
    assert command("people", run.path, "--split", "P002", "b.mp4#2") == 0
    assert persons_of(linked)[B, 2] == "P004"
    assert command("people", run.path, "--merge", "P002", "Bo") == 0
    assert persons_of(linked) == {(A, 1): "P001", (A, 2): "P002", (A, 3): None, (B, 1): "P001", (B, 2): "P004", (B, 3): "P002"}
    table = open_run(run.path).people.to_pandas().set_index("person_id")
    assert table.loc["P002", "name"] == "Bo" and "P003" not in table.index
    assert {file.stem for file in (linked.path / "faces").glob("*.jpg")} == {"P001", "P002", "P004"}
    assert "Bo" in (linked.path / "index.html").read_text() and "P003" not in (linked.path / "index.html").read_text()


def test_edits_say_what_is_wrong(linked: PeopleFolder, run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for words, said in (
        (("--merge", "P001", "P009"), "there is no person 'P009'; some of them: P001, P002, P003"),
        (("--merge", "P001", "P002"), ".mp4 at 0.40 s"),
        (("--split", "P001", "b.mp4#2"), "P001 has no track b.mp4#2; it has a.mp4#1, b.mp4#1"),
        (("--split", "P001", "1"), "2 tracks of P001 fit 1"),
        (("--split", "P003", "b.mp4#3"), "P003 has no other tracks"),
        (("--name", "P001", "P002"), "another person is called 'P002'"),
        (("--erase", "a.mp4#1"), "a.mp4#1 is a track of P001"),
    ):
        assert command("people", run.path, *words) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert command("people", run.path, "--name", "P001", "Ada") == command("people", run.path, "--name", "Ada", "Eve") == 0
    assert open_run(run.path).people["name"].to_pylist() == ["Eve", None, None]


def recognition_model(path: Path, side: int = 112) -> Path:
    """A network with the inputs and outputs of insightface's recognition models: it embeds a face as its coarse colours."""
    from onnx import TensorProto, checker, helper, save

    pool = helper.make_node("AveragePool", ["faces"], ["coarse"], kernel_shape=[side // 4] * 2, strides=[side // 4] * 2)
    flat = helper.make_node("Flatten", ["coarse"], ["embedding"])
    faces = helper.make_tensor_value_info("faces", TensorProto.FLOAT, ["N", 3, side, side])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 48])
    model = helper.make_model(helper.make_graph([pool, flat], "coarse", [faces], [embedding]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    checker.check_model(model)
    save(model, path)
    return path


def test_a_recognition_model_of_insightface(tmp_path: Path) -> None:
    recogniser = load_recogniser(recognition_model(tmp_path / "net.onnx"))
    assert recogniser.threshold is None and recogniser.side == 112
    chance = np.random.default_rng(0)
    crops = [chance.integers(0, 255, (112, 112, 3), np.uint8) for _ in range(3)]
    crops[1][:, :, 0] = 255  # red: insightface's models see it as the first channel
    found = recogniser.embed(crops)
    assert found.shape == (3, 48) and np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)
    assert found[1, :16].min() > 0.2 > abs(found[1, 16:]).max()
    with pytest.raises(ModelError, match="not a recognition model with 112x112 crops"):
        load_recogniser(recognition_model(tmp_path / "small.onnx", 96))


def test_dlibs_network_is_given_its_own_chips() -> None:
    """The template puts eyes, nose and mouth where dlib's 150-pixel chips have them."""
    recogniser = load_recogniser()
    landmarks = np.array([[300, 200], [352.8, 200], [326.4, 234], [303.6, 257.6], [349.2, 257.6]])  # a face in a frame, at that scale
    chip = align(landmarks, recogniser.template).to_crop(landmarks) * recogniser.side / 112
    assert chip == pytest.approx(np.array([[48.6, 47.2], [101.4, 47.2], [75, 81.3], [52.2, 104.8], [97.8, 104.8]]), abs=0.3)
    found = recogniser.embed([np.zeros((150, 150, 3), np.uint8)])
    assert found.shape == (1, 128) and np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
