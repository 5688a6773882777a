"""Files of human codes: the same coding as ELAN, Datavyu and tables say it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.errors import SettingsError
from pipeline.evaluation.agreement.codes import Code
from pipeline.evaluation.agreement.compare import compare
from pipeline.evaluation.agreement.options import AgreeOptions
from pipeline.evaluation.agreement.reading import read_codes
from pipeline.report.elan import write_elan as write_report
from pipeline.storage.run_folder import RunFolder
from pipeline.trends.options import Options
from tests.support.agreement import face_rows, make_run, write_elan

CODED = {
    *(Code("AU12", 1.0, 2.5, 3.0), Code("AU12", 4.0, 5.0, 1.0), Code("AU04", 1.5, 2.0)),
    *(Code("happiness", 1.0, 5.0), Code("hand", 6.0, 6.5)),
}

DATAVYU = """#4
AU12 (MATRIX,true,)-grade|NOMINAL,remark|NOMINAL
00:00:01:000,00:00:02:500,(C,broad\\, open)
00:00:04:000,00:00:05:000,(A,)
AU04 (MATRIX,true,)-code01|NOMINAL
00:00:01:500,00:00:02:000,()
feeling (MATRIX,true,)-word|NOMINAL
00:00:01:000,00:00:05:000,(happy)
AU15 (MATRIX,true,)-code01|NOMINAL
hand (MATRIX,true,)-code01|NOMINAL
00:00:06:000,00:00:06:500,()
"""

TABLES = {
    "events.csv": "video,au,onset,offset,intensity\na.mp4,AU12,1,2.5,C\na.mp4,12,4,5,1\na.mp4,AU4,1.5,2,\na.mp4,joy,1,5,\n"
    "a.mp4,hand,6,6.5,\n",
    "semicolons.csv": "Datei;video;code;start_ms;end_ms\nx;a.mp4;12C;1000;2500\nx;a.mp4;12A;4000;5000\n"
    "x;a.mp4;4;1500;2000\nx;a.mp4;Happy;1000;5000\nx;a.mp4;hand;6000;6500\n",
    "bids.tsv": "onset\tduration\ttrial_type\n1\t1.5\tAU12C\n4\t1\tAU12A\n1.5\t0.5\tAU04\n1\t4\thappiness\n6\t0.5\thand\n",
    "clock.csv": "video,code,onset,offset\na.mp4,R12C,0:01,0:00:02.5\na.mp4,12A,00:04,00:05\na.mp4,AU 4,0:01.5,0:02\n"
    "a.mp4,happy,0:01,0:05\na.mp4,hand,0:06,0:06.5\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_as_people_write_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TABLES[name])
    ((coding,), _) = read_codes([tmp_path / name])
    assert set(coding.codes) == CODED and not coding.media_clock


def test_elan(tmp_path: Path) -> None:
    tiers = {
        "AU12": [(1.0, 2.5, "C"), (4.0, 5.0, "A")],
        "FACS": [(1.5, 2.0, "4")],
        "emotion": [(1.0, 5.0, "happy")],
        "AU15": [],
        "notes": [(6.0, 6.5, "hand")],
    }
    ((coding,), _) = read_codes([write_elan(tmp_path / "x.eaf", "a.mp4", tiers)])
    assert set(coding.codes) == CODED and coding.video == "a.mp4"
    assert "AU15" in coding.labels, "an empty tier was looked for and never found"


def test_elan_tiers_of_several_people(tmp_path: Path) -> None:
    file = write_elan(tmp_path / "x.eaf", "a.mp4", {"AU12@track 1": [(1.0, 2.0, "")], "AU12@track 2": [(3.0, 4.0, "")]})
    codings, _ = read_codes([file])
    assert {coding.person: coding.codes for coding in codings} == {
        "track 1": (Code("AU12", 1.0, 2.0),),
        "track 2": (Code("AU12", 3.0, 4.0),),
    }


@pytest.mark.parametrize("name", ["x.opf", "x.csv"])
def test_datavyu(tmp_path: Path, name: str) -> None:
    if name.endswith("opf"):
        with zipfile.ZipFile(tmp_path / name, "w") as packed:
            packed.writestr("project", "!project")
            packed.writestr("db", DATAVYU)
    else:
        (tmp_path / name).write_text(DATAVYU)
    ((coding,), _) = read_codes([tmp_path / name])
    assert set(coding.codes) == CODED and {"AU04", "AU12", "AU15", "happiness"} <= coding.labels


def test_datavyus_export_of_cells(tmp_path: Path) -> None:
    header = "AU12.ordinal,AU12.onset,AU12.offset,AU12.code01,feeling.ordinal,feeling.onset,feeling.offset,feeling.word"
    (tmp_path / "x.csv").write_text(f"{header}\n1,1000,2500,C,1,1000,5000,happy\n2,4000,5000,A,,,,\n")
    ((coding,), _) = read_codes([tmp_path / "x.csv"])
    assert set(coding.codes) == {Code("AU12", 1.0, 2.5, 3.0), Code("AU12", 4.0, 5.0, 1.0), Code("happiness", 1.0, 5.0)}


def test_frames_with_a_column_for_each_unit(tmp_path: Path) -> None:
    graded = [2 if 10 <= place < 20 else 0 for place in range(30)]
    marked = ["" if place < 5 else int(place >= 15) for place in range(30)]
    rows = "".join(f"{0.1 * place:.1f},{graded[place]},{marked[place]},neutral\n" for place in range(30))
    (tmp_path / "x.csv").write_text(f"time,AU12,AU04_c,emotion\n{rows}")
    ((coding,), _) = read_codes([tmp_path / "x.csv"])
    found = {(code.label, round(code.onset_s, 3), round(code.offset_s, 3), code.intensity) for code in coding.codes}
    assert ("AU12", 0.95, 1.95, 2.0) in found and ("AU04", 1.45, 2.95, None) in found and ("neutral", -0.05, 2.95, None) in found
    assert [(code.label, round(code.offset_s, 3)) for code in coding.uncoded] == [("AU04", 0.45)], "an empty cell is not coded"


def test_every_kind_gives_the_same_figures(tmp_path: Path) -> None:
    """A kind that counts from the start of the media is placed by the video's own start."""
    run = make_run(tmp_path / "run", {"clips/a.mp4": [face_rows("clips/a.mp4", 10, {"AU12": [(1.2, 2.7), (7, 8)]})]}, 10, start_s=0.5)
    frames = "".join(f"{place},{int(10 <= place < 25 or 70 <= place < 80)}\n" for place in range(90))
    (tmp_path / "a.frames.csv").write_text(f"frame_index,AU12\n{frames}")
    (tmp_path / "events.csv").write_text("video,au,onset,offset\na.mp4,AU12,1,2.5\na.mp4,AU12,7,8\na.mp4,coded,0,9\n")
    write_elan(tmp_path / "x.eaf", "a.mp4", {"AU12": [(1.5, 3.0, ""), (7.5, 8.5, "")], "coded": [(0.5, 9.5, "")]})
    write_elan(tmp_path / "y.eaf", "a.mp4", {"AU12": [(0.5, 2.0, ""), (6.5, 7.5, "")], "coded": [(0.0, 8.5, "")]}, origin_ms=1000)
    (tmp_path / "a.csv").write_text(
        "#4\nAU12 (MATRIX,true,)-c|NOMINAL\n00:00:01:500,00:00:03:000,()\n00:00:07:500,00:00:08:500,()\n"
        "coded (MATRIX,true,)-c|NOMINAL\n00:00:00:500,00:00:09:500,()\n"
    )
    options = AgreeOptions(trends=Options(smooth="none"))
    files = ("events.csv", "a.frames.csv", "x.eaf", "a.csv")
    rows = [compare([run], [tmp_path / name], options).rows[0] for name in files]
    assert rows[1].pop("onset_difference_s") == pytest.approx(0.15), "a frame's code begins half a frame before it"
    assert {row.pop("onset_difference_s") for row in rows if "onset_difference_s" in row} == {0.1}
    assert rows[0]["frames"] == 90 and 0.8 < rows[0]["kappa"] < 1
    assert all(row == rows[0] for row in rows[1:])
    shifted = compare([run], [tmp_path / "y.eaf"], options).rows[0]
    assert shifted["kappa"] == pytest.approx(rows[0]["kappa"], abs=0.02) and shifted["coder_events"] == 2


def test_the_elan_file_of_a_report_agrees_with_its_run(tmp_path: Path) -> None:
    """Two people on screen: each tier goes to its own track."""
    tables = [
        face_rows("a.mp4", 10, {"AU12": [(1.2, 2.7), (7, 8)], "happiness": [(1, 3)]}, 1),
        face_rows("a.mp4", 10, {"AU12": [(4, 5)]}, 2),
    ]
    run = RunFolder(make_run(tmp_path / "run", {"a.mp4": tables}, 10, start_s=0.5))
    write_report(run, run.read("videos").to_pylist()[0], tmp_path / "a.eaf")
    found = compare([run.path], [tmp_path / "a.eaf"], AgreeOptions(whole=True))
    assert sorted(one.tracks for one in found.compared) == [(1,), (2,)]
    rows = {row["label"]: row for row in found.rows}
    assert rows["AU12"]["kappa"] == rows["happiness"]["kappa"] == 1.0 and rows["AU12"]["frames"] == 200
    assert rows["AU12"]["matched_events"] == rows["AU12"]["run_events"] == 3


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("x.eaf", "<not xml", "not an ELAN file"),
        ("x.opf", "no zip", "not a Datavyu file"),
        ("x.csv", "a,b\n1,2\n", "needs the columns au"),
        ("x.csv", "au,onset,offset\nAU12,5,4\n", "line 2: it ends at 4 s, before it begins at 5 s"),
        ("x.csv", "au,onset,offset\nAU12,soon,4\n", "line 2: 'soon' is no time"),
        ("x.csv", "au,onset,offset,intensity\nAU12,1,4,much\n", "line 2: 'much' is no intensity"),
        ("x.csv", "au,onset,offset,track\nAU12,1,4,Ann\n", "'Ann' is no track number"),
        ("x.csv", "time,gaze\n1,2\n", "no column named for an action unit"),
        ("x.csv", "frame,AU12\n7,1\n", "does not tell when frame 7"),
        ("x.csv", "au,onset,offset\n", "no codes in it"),
        ("x.csv", "#4\nAU12 (MATRIX,true,)-c|NOMINAL\nnonsense\n", "line 3: neither a column nor a cell"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, name: str, text: str, answer: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingsError, match=name) as error:
        read_codes([tmp_path / name])
    assert answer in str(error.value)
