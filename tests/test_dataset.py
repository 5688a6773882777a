"""The region-level dataset: built from real faces with anyone's labels, the same for the same seed, and true to its labels."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.dataset.boxes import Counts
from pipeline.dataset.build import build
from pipeline.dataset.labels import USUALLY_LISTED, LabelOptions, LabelReader, age_of, landmarks_of, split_of
from pipeline.dataset.schema import MARGIN, SCHEMA
from pipeline.describe.sentences import agrees
from pipeline.errors import FocalfaceError, SettingsError
from pipeline.faces.alignment import CROP_SIZE, TEMPLATE
from pipeline.faces.detectors.centerface import CenterFace
from pipeline.vocabulary import AUS, GAZE, REGION_AUS, region_aus
from tests.support.datasets import fake_faces, rows_of

FACES = ("0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "45-m7-di-ph.jpg", "BWPictureHuman.jpg")


def write_csv(path: Path, columns: str, rows: Sequence[str]) -> Path:
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")
    return path


def info_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "dataset.json").read_text()))


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code and what a command printed to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(["dataset", *map(str, arguments)])
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def pictures(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures with a CSV, as people keep them: no landmarks, emotions by other names, OpenFace's intensities."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in (*FACES, "multi_face.jpg", "free-mountain-vector-01.jpg"):
        (folder / name).write_bytes((samples / name).read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    write_csv(
        folder / "labels.csv",
        "file, Emotion, age, AU01_r, AU12_r, AU12_c, AU45_r, split, note",
        [
            f"{FACES[0]}, surprised, 25, 3.5, 0, 0, 1, ,",
            f"{FACES[1]}, Happy, , 0, 1.5, 1, 0, train, smiles",
            f"{FACES[2]}, angry, 30, , , , , val,",
            f"{FACES[3]}, contempt, 45.5, 0, 0, 0, 0, train,",
            f"{FACES[4]}, , , , , , , ,",
            "multi_face.jpg, ecstatic, 0, 0, 0, 0, 0, train,",
            "free-mountain-vector-01.jpg, happy, 20, 0, 0, 0, 0, train,",
            "broken.jpg, happy, 20, 0, 0, 0, 0, train,",
            "missing.jpg, happy, 20, 0, 0, 0, 0, train,",
            f"{FACES[0]}, happy, old, 0, 0, 0, 0, train,",
            f"{FACES[0]}, happy, 20, 7, 0, 0, 0, train,",
            f"{FACES[0]}, happy, 20, 0, 0, 0, 0, test,",
        ],
    )
    return folder


@pytest.fixture(scope="module")
def built(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """That folder as a dataset, and what the command said."""
    out = tmp_path_factory.mktemp("built") / "dataset"
    code, said, warned = command("build", pictures, "--out", out)
    assert code == 0, warned
    return out, said, warned


def check_row(row: dict[str, Any]) -> None:
    """What holds for every row of every dataset."""
    picture = Image.open(io.BytesIO(row["image"]))
    assert picture.format == "JPEG" and picture.size == (CROP_SIZE + 2 * MARGIN,) * 2
    landmarks = np.reshape(row["landmarks5"], (5, 2))
    assert np.abs(landmarks.mean(0) - TEMPLATE.mean(0)).max() < 1e-3
    assert set(row["aus"]) <= set(row["aus_known"])
    age = None if row["age"] is None else round(row["age"])
    degrees = {au: value for au, value in zip(row["aus_known"], row["au_intensities"] or (), strict=False) if value is not None}
    for region in row["regions"]:
        can_show = region_aus(region["region"], region["box"])
        assert region["visible"] == [au for au in row["aus_known"] if au in can_show]
        assert region["aus"] == [au for au in region["visible"] if au in row["aus"]]
        assert agrees(region["description"], region["aus"], row["emotion"], age, degrees), region
        if "in this box" in region["description"] or "this box shows no" in region["description"].lower():
            assert not region["visible"]
    for turns in row["dialogues"]:
        assert len(turns) >= 2 and len(set(turns)) == len(turns)
        assert all(row["regions"][turn]["description"] for turn in turns)


def test_pictures_with_a_csv(built: tuple[Path, str, str]) -> None:
    out, said, warned = built
    assert pq.read_schema(out / "train" / "part-0000.parquet").equals(SCHEMA)
    train = {row["image_id"]: row for row in rows_of(out)}
    (val,) = rows_of(out, "val")
    assert set(train) == {FACES[0], FACES[1], FACES[3], FACES[4], "multi_face.jpg"}
    assert val["image_id"] == FACES[2] and val["emotion"] == "anger" and val["split"] == "val"
    for row in (*train.values(), val):
        check_row(row)
        assert len(row["regions"]) == 25 and row["blendshapes"] is None
    surprised, happy, other, unlabelled = (train[FACES[i]] for i in (0, 1, 3, 4))
    assert (surprised["emotion"], surprised["age"], surprised["aus"]) == ("surprise", 25, ["AU01"])
    assert surprised["aus_known"] == ["AU01", "AU12"] and surprised["au_intensities"] == [3.5, 0]
    assert happy["aus"] == ["AU12"], "the presence column decides, not the weak intensity"
    assert happy["age"] is None and happy["au_intensities"] == [0, 1.5]
    assert other["emotion"] is None and other["age"] == 45.5
    assert Image.open(io.BytesIO(happy["image"])).mode == "RGB"
    assert Image.open(io.BytesIO(unlabelled["image"])).mode == "L"
    info = info_of(out)
    assert info["sources"] == [{"file": "labels.csv", "rows": 12, "faces": 6}]
    assert info["skipped"] == 6
    reasons = {item["row"]: item["reason"] for item in info["skipped_first"]}
    assert set(reasons) == {f"labels.csv row {number}" for number in range(7, 13)}
    for number, part in {7: "no face", 8: "broken.jpg", 9: "missing.jpg", 10: "'old'", 11: "au01_r 7", 12: "'test'"}.items():
        assert part in reasons[f"labels.csv row {number}"]
    assert "AU45_r" in warned and "ecstatic (1)" in warned and "skipped labels.csv row 7" in warned
    assert "5 faces, 125 boxes" in said and "Traceback" not in warned


def test_nothing_is_said_that_the_labels_do_not_know(built: tuple[Path, str, str]) -> None:
    rows = {row["image_id"]: row for row in rows_of(built[0])}
    for region in rows[FACES[4]]["regions"]:  # no labels at all: only that a box is empty can be said
        assert not region["visible"] and (region["kind"] != "empty" or region["description"])
        assert not region["description"] or not set(REGION_AUS.get(region["region"], ())), region
    for region in rows["multi_face.jpg"]["regions"]:  # AU01 and AU12 are known and inactive: is a mouth at rest? nobody knows
        if region["region"] in ("mouth", "eyes", "nose"):
            assert region["description"].startswith(("The face looks about 0 years old", "The apparent age is 0"))


def test_the_largest_face_is_taken_or_the_one_in_the_box(samples: Path, tmp_path: Path) -> None:
    picture = samples / "multi_face.jpg"
    boxes = CenterFace().detect([np.asarray(Image.open(picture).convert("RGB"))])[0].boxes
    left = boxes[boxes[:, 0].argmin()]
    write_csv(tmp_path / "labels.csv", "file,x0,y0,x1,y1,age", [f"{picture},,,,,1", f"{picture},{','.join(map(str, left))},2"])
    build([tmp_path / "labels.csv"], tmp_path / "out", counts=Counts(empty=0))
    first, second = rows_of(tmp_path / "out")
    assert second["image_id"] == f"{picture}#2"
    assert first["image"] != second["image"]


def test_a_spreadsheets_csv_in_any_unicode_form(samples: Path, tmp_path: Path) -> None:
    stored, written = (unicodedata.normalize(form, "Zo\u00eb.jpg") for form in ("NFD", "NFC"))
    (tmp_path / stored).write_bytes((samples / "single_face.jpg").read_bytes())
    (tmp_path / "labels.csv").write_bytes(f"file;age\r\n{written};23,5\r\n".encode("cp1252"))
    build([tmp_path / "labels.csv"], tmp_path / "out", counts=Counts(empty=0))
    (row,) = rows_of(tmp_path / "out")
    assert (row["image_id"], row["age"]) == (written, 23.5)


def test_the_same_seed_gives_the_same_files(pictures: Path, built: tuple[Path, str, str], tmp_path: Path) -> None:
    build([pictures], tmp_path / "again")
    for path in sorted(built[0].rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "again" / path.relative_to(built[0])).read_bytes(), path.name


def test_a_face_does_not_hang_on_the_others(tmp_path: Path) -> None:
    whole = fake_faces(tmp_path / "whole.parquet", 12, emotion=["fear"] * 12)
    table = pq.read_table(whole)
    pq.write_table(table.take(list(range(11, 5, -1))), tmp_path / "late.parquet")
    pq.write_table(table.slice(0, 6), tmp_path / "early.parquet", row_group_size=2)
    build([whole], tmp_path / "one", seed=3)
    build([tmp_path / "late.parquet", tmp_path / "early.parquet"], tmp_path / "two", seed=3)
    build([whole], tmp_path / "other", seed=4, limit=2)
    one, two, other = ({row.pop("image_id"): row for row in rows_of(tmp_path / name)} for name in ("one", "two", "other"))
    for name, row in one.items():
        assert row["regions"] == two[name]["regions"] and row["dialogues"] == two[name]["dialogues"]
    assert set(other) == {"face 0", "face 1"}
    assert all(row["regions"] != one[name]["regions"] for name, row in other.items())


def test_bad_rows_of_a_parquet_file_are_named(tmp_path: Path) -> None:
    path = fake_faces(tmp_path / "faces.parquet", 6, age=[20.0, float("nan"), None, 300.0, 40.0, 50.0])
    table = pq.read_table(path).to_pydict()
    table["landmarks5"][4] = [5.0] * 10
    table["image"][5] = b""
    pq.write_table(pa.table(table), path)
    info = build([path], tmp_path / "out")
    assert [item["row"] for item in info["skipped_first"]] == [f"faces.parquet row {number}" for number in (4, 5, 6)]
    assert [row["age"] for row in rows_of(tmp_path / "out")] == [20, None, None]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "labels.csv", "file,emotion", ["gone.jpg,happy"])
    with pytest.raises(FocalfaceError, match=r"no face comes of .*row 1: there is no file"):
        build([path], tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]


def test_a_folder_is_not_overwritten_unasked(tmp_path: Path) -> None:
    path = fake_faces(tmp_path / "faces.parquet", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(SettingsError, match="is not a dataset"):
            build([path], tmp_path / "mine", overwrite=overwrite)
    out = tmp_path / "new" / "out"
    build([path], out)
    with pytest.raises(SettingsError, match="--overwrite"):
        build([path], out)
    assert build([path], out, overwrite=True, limit=1)["counts"]["train"]["faces"] == {"faces": 1}
    assert len(rows_of(out)) == 1 and [file.name for file in out.parent.iterdir()] == ["out"]


def test_numbers_of_emotions_need_their_names(tmp_path: Path) -> None:
    path = fake_faces(tmp_path / "faces.parquet", 3, emotion=[0, 2, 9])
    code, _, said = command("build", path, "--out", tmp_path / "out")
    assert code == 2 and said.count("\n") == 1 and "faces.parquet row 1" in said and "--emotions" in said
    code, _, said = command("build", path, "--out", tmp_path / "out", "--emotions", "Angry,contempt,joy")
    assert code == 0 and "row 3: emotion 9 is beyond the 3 names" in said
    assert [row["emotion"] for row in rows_of(tmp_path / "out")] == ["anger", "happiness"]
    code, _, said = command("build", path, "--out", tmp_path / "out2", "--emotions", "angry,hungry")
    assert code == 2 and "'hungry' is not an emotion" in said


@pytest.mark.parametrize(
    ("row", "known", "strength"),
    [
        ({"au12": 1, "au1": "0", "au99": 1}, {"AU01": False, "AU12": True}, {}),
        ({"au12": 0.7, "au01": 0.2}, {"AU01": False, "AU12": True}, {}),
        ({"au12": 9, "au01": -1, "au04": 999}, {}, {}),
        ({"au12_r": 1.9, "au04_r": "2.0"}, {"AU04": True, "AU12": False}, {"AU04": 2.0, "AU12": 1.9}),
        ({"au12_r": 4.0, "au12_c": 0}, {"AU12": False}, {"AU12": 4.0}),
        ({"au12_r": None, "au04": "", "au07": float("nan")}, {}, {}),
        ({"aus": ["AU12", "AU45"]}, {au: au == "AU12" for au in USUALLY_LISTED}, {}),
        ({"aus": "AU01 AU12", "aus_known": "AU01,AU12,AU06"}, {"AU01": True, "AU06": False, "AU12": True}, {}),
        ({"aus": None}, {}, {}),
    ],
)
def test_action_units_as_others_write_them(row: dict[str, Any], known: dict[str, bool], strength: dict[str, float]) -> None:
    units = LabelReader(row, LabelOptions()).action_units(row)
    assert (units.active, units.intensity, units.probability) == (known, strength, {})
    assert list(units.active) == [au for au in AUS if au in known]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"au12": 3}, "au12 3 is not within 0 and 1"),
        ({"au12_r": 6}, "au12_r 6 is not an intensity"),
        ({"au12": "yes"}, "au12 'yes' is not a number"),
    ],
)
def test_wrong_action_units(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LabelReader(row, LabelOptions()).action_units(row)


NAMES = {"au_names": ["AU12", "AU01", "AU99", "AU25"], "au_thresholds": {"AU01": 0.5, "AU12": 0.3, "AU25": 0.5}}


@pytest.mark.parametrize(
    ("row", "active", "probability", "intensity"),
    [
        ({"au_prob": [0.4, None, 0.9, 0.1]}, {"AU12": True, "AU25": False}, {"AU12": 0.4, "AU25": 0.1}, {}),
        ({"au_prob": [0.4, None, 0.9, 0.1], "aus": ["AU25"]}, {"AU12": False, "AU25": True}, {"AU12": 0.4, "AU25": 0.1}, {}),
        ({"au_prob": [None] * 4, "aus": []}, {"AU01": False, "AU12": False, "AU25": False}, {}, {}),
        (
            {"au_prob": [0.9, 0.1, 0.9, 0.8], "au_intensity": [2.5, None, 1.0, 0.5]},
            {"AU01": False, "AU12": True, "AU25": True},
            {"AU01": 0.1, "AU12": 0.9, "AU25": 0.8},
            {"AU12": 2.5, "AU25": 0.5},
        ),
        ({"aus": ["AU12"]}, {"AU01": False, "AU12": True, "AU25": False}, {}, {}),
        (
            {"aus": ["AU12"], "aus_known": ["AU12", "AU04"], "au_prob": [0.2, 0.1]},
            {"AU04": False, "AU12": True},
            {"AU04": 0.1, "AU12": 0.2},
            {},
        ),
    ],
)
def test_lists_of_probabilities_and_intensities(
    row: dict[str, Any], active: dict[str, bool], probability: dict[str, float], intensity: dict[str, float]
) -> None:
    """Null is unknown, not absent; the list of active units has the last word on the known ones."""
    reader = LabelReader(row, LabelOptions(), NAMES)
    units = reader.action_units(row)
    assert (units.active, units.probability, units.intensity) == (active, probability, intensity)
    assert reader.ignored == ["AU99"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"au_prob": [0.1, 0.2]}, "2 values for 4 names"),
        ({"au_prob": [0.1, 0.2, 0.3, 1.4]}, "au_prob of AU25 is not within 0 and 1"),
        ({"au_intensity": [0.1, 6.0, 0.3, 1.4]}, "au_intensity of AU01 is not within 0 and 5"),
    ],
)
def test_wrong_lists_of_action_units(row: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LabelReader(row, LabelOptions(), NAMES).action_units(row)


def test_votes_are_shares_in_the_order_of_the_vocabulary() -> None:
    order = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    reader = LabelReader(["emotion_votes"], LabelOptions(), {"emotion_names": order})
    assert reader.emotion_votes({"emotion_votes": [5, 3, 0, 0, 1, 0, 0, 1]}) == pytest.approx((1 / 9, 0, 0, 3 / 9, 5 / 9, 0, 0))
    assert reader.emotion_votes({"emotion_votes": None}) is None and reader.emotion_votes({"emotion_votes": [0] * 8}) is None
    with pytest.raises(ValueError, match="not 8 shares"):
        reader.emotion_votes({"emotion_votes": [1.0] * 7})


def test_other_columns_as_others_write_them() -> None:
    assert [split_of({"split": name}) for name in ("train", "Validation", None, "")] == ["train", "val", "train", "train"]
    assert age_of({"age": "31.5"}) == 31.5
    celeba: dict[str, Any] = dict(zip(["lefteye_x", "lefteye_y", "righteye_x", "righteye_y", "nose_x", "nose_y"], range(6), strict=True))
    assert landmarks_of(celeba) is None
    celeba |= dict(zip(["leftmouth_x", "leftmouth_y", "rightmouth_x", "rightmouth_y"], "6789", strict=True))
    for row in (celeba, {"landmarks5": "[0, 1 2 3 4,5,6,7 8 9]"}, {"landmarks5": list(range(10))}):
        points = landmarks_of(row)
        assert points is not None and points.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    with pytest.raises(ValueError, match="ten numbers"):
        landmarks_of({"landmarks5": [1.0, None]})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["build", "nowhere.parquet", "--out", "x"], "there is no file nowhere.parquet"),
        (["build", "{empty}", "--out", "x"], "holds no CSV files"),
        (["build", "{text}", "--out", "x"], "cannot be read as labelled faces"),
        (["build", "{csv}", "--out", "x"], "has no column `image` or `file`; it has name, age"),
        (["build", "{csv}", "--out", "x", "--boxes", "square=3"], "'square=3' is not KIND=N"),
        (["show", "{empty}"], "is not a dataset"),
        (["show", "{empty}", "--out", "sheet.txt"], "--out takes a .png"),
    ],
)
def test_mistakes_get_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "faces.parquet").write_text("not Parquet")
    write_csv(tmp_path / "labels.csv", "name,age", ["a,1"])
    places = {"empty": tmp_path / "empty", "text": tmp_path / "faces.parquet", "csv": tmp_path / "labels.csv"}
    code, _, line = command(*(word.format(**places) for word in arguments))
    assert code == 2 and line.count("\n") == 1 and said in line
    assert not Path("x").exists()


def test_help_has_examples() -> None:
    for name in ("build", "show"):
        code, said, _ = command(name, "--help")
        assert code == 0 and f"Example: focalface dataset {name}" in said


def test_a_card_and_a_contact_sheet(built: tuple[Path, str, str], tmp_path: Path) -> None:
    card = (built[0] / "README.md").read_text()
    assert "| faces | 5 | 1 |" in card and "| happiness | 1 | 0 |" in card and "| AU12 | lip corner puller | 1 of 4 |" in card
    assert "research" in card and "6 rows gave no face" in card and "sheet.png" in card
    made = [tmp_path / f"{name}.png" for name in "abc"]
    for path, seed in zip(made, (1, 1, 2), strict=True):
        assert command("show", built[0], "--out", path, "--count", "4", "--seed", str(seed))[0] == 0
    same, again, other = (np.asarray(Image.open(path)) for path in made)
    assert np.array_equal(same, again) and not np.array_equal(same, other)
    assert Image.open(built[0] / "sheet.png").height > 600
    assert command("show", built[0], "--out", tmp_path / "all.jpg", "--count", "300")[0] == 0


def test_the_shared_faces(shared: Path, tmp_path: Path) -> None:
    """All four files together; the web pictures take their labels from a file of their own. Units that intensity settles are left aside."""
    faces = shared / "faces"
    names = ("val", "train-web", "train-utk", "train-ferplus")
    info = build([faces / f"{name}.parquet" for name in names], tmp_path / "out", labels=faces / "train-web-labels.parquet", limit=25)
    assert info["skipped"] == 0 and info["counts"]["train"]["faces"] == {"web": 25, "utk": 25, "ferplus": 25}
    assert [part.get("labels") for part in info["sources"]] == [None, "train-web-labels.parquet", None, None]
    assert "train-web.parquet: labels are those of train-web-labels.parquet" in info["warnings"]
    given = {row["image_id"]: row for name in (*names, "train-web-labels") for row in first_rows(faces / f"{name}.parquet", 25)}
    given |= {row["image_id"]: row for row in pq.read_table(faces / "train-web-labels.parquet").to_pylist()}
    units = json.loads(pq.read_schema(faces / "val.parquet").metadata[b"au_names"])
    assert len(json.loads(pq.read_schema(tmp_path / "out" / "train" / "part-0000.parquet").metadata[b"blendshape_names"])) == 52
    for row in rows_of(tmp_path / "out") + rows_of(tmp_path / "out", "val"):
        check_row(row)
        labels = given[row["image_id"]]
        probability = {au: value for au, value in zip(units, labels["au_prob"], strict=True) if value is not None and au in AUS}
        stored = dict(zip(row["aus_known"], row["au_prob"], strict=True))
        for au in probability.keys() - {"AU26", "AU27", "AU43", *GAZE}:
            assert stored[au] == pytest.approx(probability[au]) and (au in row["aus"]) == (au in labels["aus"])
        assert row["age_guess"] == pytest.approx(labels["age_guess"]) and (row["sex"], row["group"]) == (labels["sex"], labels["group"])
        assert row["emotion"] == labels["emotion"] and row["emotion_votes"] == pytest.approx(labels["emotion_votes"], abs=2e-3)
        assert row["age"] == (None if labels["age"] is None else min(labels["age"], 100))


def first_rows(path: Path, count: int) -> list[dict[str, Any]]:
    return list(next(pq.ParquetFile(path).iter_batches(count)).to_pylist())


def test_labels_are_joined_by_image_id(tmp_path: Path) -> None:
    """The joined file's labels replace the source's own; a picture that it lacks has none; other sources keep theirs."""
    fake_faces(tmp_path / "faces.parquet", 3, emotion=["fear"] * 3, AU12=[1, 1, 1], source=["lab"] * 3)
    other = fake_faces(tmp_path / "other.parquet", 2, emotion=["anger"] * 2)
    table = pq.read_table(other).to_pydict()
    table["image_id"] = ["other 0", "other 1"]
    pq.write_table(pa.table(table), other)
    codes = write_csv(tmp_path / "codes.csv", "image_id,AU04,emotion,sex", ["face 0,1,sad,f", "face 2,0,,m", "face 9,1,happy,f"])
    info = build([tmp_path / "faces.parquet", other], tmp_path / "out", labels=codes)
    rows = {row["image_id"]: row for row in rows_of(tmp_path / "out")}
    assert [rows[f"face {i}"]["emotion"] for i in range(3)] == ["sadness", None, None]
    assert [rows[f"face {i}"]["aus_known"] for i in range(3)] == [["AU04"], [], ["AU04"]]
    assert [rows[f"face {i}"]["aus"] for i in range(3)] == [["AU04"], [], []]
    assert [rows[f"face {i}"]["sex"] for i in range(3)] == ["f", None, "m"] and rows["face 0"]["source"] == "lab"
    assert rows["other 0"]["emotion"] == "anger"
    assert "faces.parquet: 1 pictures are not in the labels file, so their labels are unknown" in info["warnings"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (["image_id,AU04", "nobody,1"], "names no picture of"),
        (["name,AU04", "face 0,1"], "has no column image_id"),
        (["image_id,weather", "face 0,1"], "has no labels"),
        (["image_id,AU04", "face 0,1", "face 0,0"], "two rows for the image_id face 0"),
    ],
)
def test_labels_that_do_not_fit_are_refused(content: list[str], said: str, tmp_path: Path) -> None:
    path = fake_faces(tmp_path / "faces.parquet", 2)
    codes = write_csv(tmp_path / "codes.csv", content[0], content[1:])
    code, _, line = command("build", path, "--out", tmp_path / "out", "--labels", codes)
    assert code == 2 and line.count("\n") == 1 and said in line


def test_a_split_without_faces_is_said(tmp_path: Path) -> None:
    both = fake_faces(tmp_path / "both.parquet", 2, split=["train", "val"])
    val = fake_faces(tmp_path / "val.parquet", 2, split=["val", "val"])
    train = fake_faces(tmp_path / "train.parquet", 2)
    warnings = {path.stem: build([path], tmp_path / f"{path.stem}-set")["warnings"] for path in (both, val, train)}
    assert not warnings["both"]
    assert warnings["val"][0].startswith("every row has the split val") and warnings["train"][0].startswith("no row has the split val")


def test_the_command_line_stays_light() -> None:
    code = "import sys; import pipeline.cli; print(*{'cv2', 'pyarrow', 'onnxruntime', 'torch', 'PIL'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
