"""`focalface agree`: coefficients against the literature, and what is compared with what."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import cohen_kappa_score, f1_score, precision_score, recall_score

from pipeline.errors import SettingsError
from pipeline.evaluation.agreement.coefficients import icc_3_1, icc_parts, kappa, kappa_of_matrix
from pipeline.evaluation.agreement.compare import Agreement, compare
from pipeline.evaluation.agreement.event_matching import match_onsets
from pipeline.evaluation.agreement.options import AgreeOptions
from pipeline.trends.options import Options
from tests.support.agreement import FPS, Spans, face_rows, inside, make_run
from tests.support.tables import command

RAW = Options(smooth="none")
PLAIN = AgreeOptions(trends=RAW)


def codes(file: Path, rows: list[str], header: str = "video,au,onset,offset") -> Path:
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def rows_of(found: Agreement) -> dict[str, dict[str, Any]]:
    return {row["label"]: row for row in found.rows}


def test_kappa_has_the_values_of_the_literature() -> None:
    """Feinstein and Cicchetti (1990), "High agreement but low kappa: I", tables of 100 with the same agreement of 0.85; Fleiss, Cohen and
    Everitt (1969), "Large sample standard errors of kappa and weighted kappa", table 1."""
    assert float(kappa(*np.array([40.0, 9, 6, 45]))) == pytest.approx(0.70, abs=0.005)
    assert float(kappa(*np.array([80.0, 10, 5, 5]))) == pytest.approx(0.32, abs=0.005)
    three = np.array([[53, 5, 2], [11, 14, 5], [1, 6, 3]])
    assert float(kappa_of_matrix(three)) == pytest.approx(0.429, abs=0.0005)
    assert np.isnan(kappa(*np.array([0.0, 0, 0, 50]))), "where neither side varies, there is no agreement beyond chance to speak of"


def test_icc_has_the_value_of_shrout_and_fleiss() -> None:
    """Table 2 of Shrout and Fleiss (1979): six targets, four judges; ICC(3,1) is 0.71 there."""
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)
    assert float(icc_3_1(icc_parts(ratings).sum(0))) == pytest.approx(0.71, abs=0.005)


def test_events_are_matched_one_to_one_as_often_as_possible() -> None:
    assert match_onsets([1.0, 1.4], [1.3], 0.5) == [(1, 0)], "the nearer one"
    assert match_onsets([1.0, 1.4], [1.3, 1.8], 0.5) == [(0, 0), (1, 1)], "two pairs rather than one of the smallest distance"
    assert match_onsets([1.0], [2.0], 0.5) == []


def random_spans(chance: np.random.Generator, length_s: float) -> Spans:
    edges = np.sort(chance.choice(np.arange(1, round(length_s * FPS)), 12, replace=False)) / FPS
    return [(float(edges[i]), float(edges[i + 1])) for i in range(0, 12, 2)]


def test_figures_are_those_of_scikit_learn_on_the_frames_that_both_have(tmp_path: Path) -> None:
    chance = np.random.default_rng(3)
    person, model = random_spans(chance, 60), random_spans(chance, 60)
    away = (20.0, 26.0)
    faces = face_rows("a.mp4", 60, {"AU12": model}, seen=[(0, away[0]), (away[1], 60)])
    file = codes(tmp_path / "codes.csv", [*(f"a.mp4,AU12,{start},{end}" for start, end in person), "a.mp4,coded,3,57"])
    row = rows_of(compare([make_run(tmp_path / "run", {"a.mp4": [faces]}, 60)], [file], PLAIN))["AU12"]

    times = np.arange(600) / FPS
    kept = (times >= 3) & (times < 57) & ~inside(times, [away])
    gold, said = inside(times, person)[kept], inside(times, model)[kept]
    assert row["frames"] == kept.sum() and row["missing"] == 60, "six seconds without a face are missing, not absent"
    assert row["kappa"] == pytest.approx(cohen_kappa_score(gold, said), abs=1e-6)
    assert row["f1"] == pytest.approx(f1_score(gold, said), abs=1e-6)
    assert row["precision"] == pytest.approx(precision_score(gold, said), abs=1e-6)
    assert row["recall"] == pytest.approx(recall_score(gold, said), abs=1e-6)
    assert row["coder_share"] == pytest.approx(gold.mean(), abs=1e-6)
    assert row["run_share"] == pytest.approx(said.mean(), abs=1e-6)
    assert row["kappa_low"] < row["kappa"] < row["kappa_high"]


def test_frames_that_cannot_be_read_are_missing(tmp_path: Path) -> None:
    faces = face_rows("a.mp4", 20, {"AU12": [(5, 10)]}, unread=[(6, 8)])
    file = codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,10", "a.mp4,coded,0,20"])
    row = rows_of(compare([make_run(tmp_path / "run", {"a.mp4": [faces]}, 20)], [file], PLAIN))["AU12"]
    assert (row["frames"], row["missing"], row["kappa"], row["recall"]) == (180, 20, 1.0, 1.0)


def test_frames_outside_of_the_codes_are_left_out_unless_the_whole_video_was_coded(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 20, {"AU12": [(5, 10), (16, 18)]})]}, 20)
    file = codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,8", "a.mp4,AU12,9,12"])
    assert rows_of(compare([run], [file], PLAIN))["AU12"]["frames"] == 70
    assert rows_of(compare([run], [file], AgreeOptions(whole=True, trends=RAW)))["AU12"]["frames"] == 200


def test_a_tolerance_leaves_out_the_frames_about_a_coded_edge(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 20, {"AU12": [(5.3, 10.2)]})]}, 20)
    file = codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,10", "a.mp4,coded,0,20"])
    strict, lenient = (rows_of(compare([run], [file], AgreeOptions(tolerance, trends=RAW)))["AU12"] for tolerance in (0, 0.4))
    assert strict["frames"] == 200 and strict["agreement"] == pytest.approx(195 / 200)
    assert lenient["frames"] == 200 - 2 * 8 and lenient["kappa"] == 1.0 and lenient["missing"] == 0


def test_events_agree_by_their_onsets(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 30, {"AU12": [(5.2, 7), (12, 13), (20.3, 22)]})]}, 30)
    file = codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,9", "a.mp4,AU12,20,21", "a.mp4,AU12,25,26", "a.mp4,coded,0,30"])
    row = rows_of(compare([run], [file], PLAIN))["AU12"]
    assert (row["coder_events"], row["run_events"], row["matched_events"]) == (3, 3, 2)
    assert row["event_f1"] == pytest.approx(4 / 6, abs=1e-6) and row["onset_difference_s"] == pytest.approx(0.25)
    assert rows_of(compare([run], [file], AgreeOptions(onset_s=0.25, trends=RAW)))["AU12"]["matched_events"] == 1


def test_intensities_are_compared_by_icc(tmp_path: Path) -> None:
    graded = [0.0] * 50 + [2.0] * 50 + [4.0] * 50 + [0.0] * 50
    faces = face_rows("a.mp4", 20, {"AU12": [(5, 15)]}, intensity={"AU12": graded})
    run = make_run(tmp_path / "run", {"a.mp4": [faces]}, 20)
    rows = ["a.mp4,AU12,5,10,B", "a.mp4,AU12,10,15,C", "a.mp4,coded,0,20,"]
    row = rows_of(compare([run], [codes(tmp_path / "c.csv", rows, "video,au,onset,offset,intensity")], PLAIN))["AU12"]
    person = np.array([0.0] * 50 + [2.0] * 50 + [3.0] * 50 + [0.0] * 50)
    means = np.stack([graded, person], 1)
    between = 2 * means.mean(1).var(ddof=1)
    residual = means - means.mean(1, keepdims=True) - means.mean(0) + means.mean()
    error = (residual**2).sum() / 199
    assert row["icc"] == pytest.approx((between - error) / (between + error), abs=1e-6)
    assert row["coder_events"] == 1, "a change of grade is no new event"
    plain = rows_of(compare([run], [codes(tmp_path / "p.csv", ["a.mp4,AU12,5,15", "a.mp4,coded,0,20"])], PLAIN))["AU12"]
    assert plain["icc"] is None, "presence alone is no grade"


def test_emotions_are_compared_one_by_one_and_together(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 30, {"AU12": [], "happiness": [(10, 20)], "surprise": [(20, 25)]})]}, 30)
    file = codes(tmp_path / "codes.csv", ["a.mp4,neutral,0,10", "a.mp4,happy,10,18", "a.mp4,sadness,18,30"], "video,emotion,onset,offset")
    rows = rows_of(compare([run], [file], PLAIN))
    assert rows["happiness"]["precision"] == pytest.approx(0.8) and rows["happiness"]["recall"] == 1.0
    gold = ["neutral"] * 100 + ["happiness"] * 80 + ["sadness"] * 120
    said = ["neutral"] * 100 + ["happiness"] * 100 + ["surprise"] * 50 + ["neutral"] * 50
    assert rows["emotion"]["frames"] == 300
    assert rows["emotion"]["kappa"] == pytest.approx(cohen_kappa_score(gold, said), abs=1e-6)


def test_codes_that_cannot_be_compared_are_named_and_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 20, {"AU12": [(5, 10)]})]}, 20)
    rows = ["a.mp4,AU12,5,10", "a.mp4,AU06,5,10", "a.mp4,AU99,5,6", "a.mp4,hand,1,2", "a.mp4,hand,3,4", "b.mp4,AU12,1,2"]
    found = compare([run], [codes(tmp_path / "codes.csv", rows)], PLAIN)
    assert list(rows_of(found)) == ["AU12"]
    said = "\n".join(found.notes)
    assert "2 codes are no action unit or emotion and not compared: 'hand' (2)" in said
    assert "does not know AU06 cheek raiser (1), AU99 (1)" in said
    assert "the run has no video b.mp4" in said


def test_whose_codes_they_are_must_be_clear(tmp_path: Path) -> None:
    tables = [face_rows("a.mp4", 20, {"AU12": [(5, 10)]}, 1), face_rows("a.mp4", 20, {"AU12": [(12, 14)]}, 2, seen=[(10, 20)])]
    run = make_run(tmp_path / "run", {"a.mp4": tables}, 20)
    with pytest.raises(SettingsError, match=r"several people are on screen \(tracks 1, 2\)"):
        compare([run], [codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,15"])], PLAIN)
    file = codes(tmp_path / "tracks.csv", ["a.mp4,2,AU12,12,14", "a.mp4,2,coded,10,20"], "video,track,au,onset,offset")
    found = compare([run], [file], PLAIN)
    assert found.compared[0].tracks == (2,) and rows_of(found)["AU12"]["kappa"] == 1.0


def test_a_person_whom_a_cut_has_split_is_one_person(tmp_path: Path) -> None:
    tables = [face_rows("a.mp4", 20, {"AU12": [(5, 15)]}, track, [span]) for track, span in ((1, (0, 9)), (3, (9, 20)))]
    found = compare(
        [make_run(tmp_path / "run", {"a.mp4": tables}, 20)],
        [codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,15", "a.mp4,coded,0,20"])],
        PLAIN,
    )
    assert found.compared[0].tracks == (1, 3) and rows_of(found)["AU12"]["kappa"] == 1.0
    assert any("tracks 1, 3, which follow each other" in note for note in found.notes)


def test_intervals_come_from_videos_or_from_blocks_of_time(tmp_path: Path) -> None:
    names = [f"{number}.mp4" for number in range(6)]
    chance = np.random.default_rng(5)
    run = make_run(tmp_path / "run", {name: [face_rows(name, 30, {"AU12": random_spans(chance, 30)})] for name in names}, 30)
    rows = [f"{name},AU12,{start},{end}" for name in names for start, end in random_spans(chance, 30)]
    spans = [f"{name},coded,0,30" for name in names]
    many = compare([run], [codes(tmp_path / "six.csv", rows + spans)], PLAIN)
    assert many.unit == "6 videos"
    one = compare([run], [codes(tmp_path / "one.csv", [row for row in rows + spans if row.startswith("0.")])], PLAIN)
    assert one.unit == "6 blocks of 5 s"
    for row in (rows_of(many)["AU12"], rows_of(one)["AU12"]):
        assert row["kappa_low"] < row["kappa"] < row["kappa_high"] and row["f1_low"] < row["f1"] < row["f1_high"]
    few = compare([run], [tmp_path / "one.csv"], AgreeOptions(block_s=10, trends=RAW))
    assert "3 blocks of 10 s" in few.unit and rows_of(few)["AU12"]["kappa_low"] is None


def test_the_command_writes_figures_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run", {"a.mp4": [face_rows("a.mp4", 30, {"AU12": [(5, 10)]})]}, 30)
    file = codes(tmp_path / "codes.csv", ["a.mp4,AU12,5,10", "a.mp4,hand,1,2", "a.mp4,coded,0,30"])
    out = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "png")}
    assert command("agree", run, "--codes", file, "--json", out["json"], "--csv", out["csv"], "--save", out["png"]) == 0
    shown = capsys.readouterr().out
    assert "AU12 lip corner puller" in shown and "1.00 (1.00 to 1.00)" in shown and "'hand' (1)" in shown and "6 blocks of 5 s" in shown
    figures = json.loads(out["json"].read_text())
    assert figures["labels"][0]["kappa"] == 1.0 and figures["intervals_over"] == "6 blocks of 5 s"
    (row,) = csv.DictReader(out["csv"].open())
    assert row["label"] == "AU12" and float(row["kappa"]) == 1.0
    with Image.open(out["png"]) as picture:
        assert picture.width > 500
