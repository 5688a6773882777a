"""`focalface eval` on real labelled faces: what it measures, what it writes, and that it does so the same way twice."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.dataset.build import build
from pipeline.describe.backends import load_describer
from pipeline.describe.checkpoints import locate
from pipeline.evaluation.predictions import ask, to_table
from pipeline.evaluation.schemas import PREDICTIONS


@pytest.fixture(scope="module")
def slice_(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every sixty-fourth validation face: 94 of three sources."""
    table = pq.read_table(shared / "faces" / "val.parquet")
    path = tmp_path_factory.mktemp("faces") / "slice.parquet"
    pq.write_table(table.take(list(range(0, table.num_rows, 64))), path)
    return path


BY = [word for name in ("sex", "age", "eye_distance", "yaw", "readable") for word in ("--by", name)]
"""Split by columns of the file, and by measured ones."""


def run(faces: Path, as_json: Path, *options: str) -> dict[str, Any]:
    """The figures of the command; without Java, whose start would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(SystemExit) as ended:
            main(["eval", str(faces), "--device", "cpu", "--json", str(as_json), *options])
    assert ended.value.code == 0
    return dict(json.loads(as_json.read_text()))


@pytest.fixture(scope="module")
def out(slice_: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command writes for nano."""
    folder = tmp_path_factory.mktemp("out") / "new" / "folder"
    run(slice_, folder / "figures.json", "--out", str(folder), *BY)
    return folder


@pytest.fixture(scope="module")
def figures(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "figures.json").read_text()))


@pytest.mark.slow
def test_nano_is_useful_on_faces_it_never_saw(figures: dict[str, Any]) -> None:
    """Chance is 1/7 in emotion; the bounds leave room for a small slice."""
    assert figures["faces"] == 94
    assert figures["emotion_accuracy"]["ferplus"] > 0.4
    assert figures["emotion_accuracy"]["web"] > 0.6
    assert set(figures["au_f1"]) == set(json.loads((locate("nano") / "focal.json").read_text())["aus"]), "nano knows these"
    assert figures["au_f1_mean"] > 0.4
    assert figures["age_mae"] < 11
    assert figures["locality_violations"] == 0
    assert figures["consistency"] > 0.95
    assert figures["consistency_final"] == 1
    assert figures["regions_per_second"] > 0
    assert 0 <= figures["sentences_replaced"] <= 1
    assert figures["excluded_pairs"] == 0
    assert 0 < figures["age_coverage"] <= 1
    assert figures["emotion_vote_share"]["ferplus"] <= figures["emotion_vote_share_best"]["ferplus"]


@pytest.mark.slow
def test_conversations_are_measured_beside_single_questions(figures: dict[str, Any]) -> None:
    assert set(figures["in_turn_f1"]) == set(figures["apart_f1"]) == {"1", "2", "3", "4"}
    assert figures["in_turn_loss"] == pytest.approx(figures["apart_f1"]["4"] - figures["in_turn_f1"]["4"], abs=1e-5)
    assert figures["in_turn_f1"]["1"] == pytest.approx(figures["apart_f1"]["1"], abs=0.2), "nothing was said before the first turn"


@pytest.mark.slow
def test_nano_looks_at_the_region(figures: dict[str, Any]) -> None:
    blind = figures["baselines"]["whole_face"]
    assert figures["region_au_f1"] > blind["region_au_f1"]
    assert figures["discrimination"]["score"] > blind["discrimination"]["score"]
    assert figures["perturbation"]["stability"] > 0.8
    assert figures["perturbation"]["sensitivity"] > 0.5 > blind["perturbation"]["sensitivity"] == 0
    assert blind["locality_violations"] > 0.5


@pytest.mark.slow
def test_nano_beats_the_majority(figures: dict[str, Any]) -> None:
    most = figures["baselines"]["majority"]
    assert figures["emotion_accuracy"]["web"] > most["emotion_accuracy"]["web"]
    assert figures["au_ap_mean"] > most["au_ap_mean"]
    assert figures["text"]["rouge_l"] > most["text"]["rouge_l"]


@pytest.mark.slow
def test_figures_lie_in_their_intervals(figures: dict[str, Any]) -> None:
    ends = figures["confidence_intervals"]
    for name in ("au_f1_mean", "age_mae", "region_au_f1"):
        assert ends[name][0] <= figures[name] <= ends[name][1]
    assert ends["text"]["rouge_l"][0] < figures["text"]["rouge_l"] < ends["text"]["rouge_l"][1]


@pytest.mark.slow
def test_figures_are_split_by_columns(figures: dict[str, Any], slice_: Path, out: Path) -> None:
    """Sex and age are known of UTKFace alone; its faces have ages and action units but no emotion."""
    table = pq.read_table(slice_)
    sexes = figures["by"]["sex"]["groups"]
    assert {name: group["faces"] for name, group in sexes.items()} == {
        name: table["sex"].to_pylist().count(name) for name in ("female", "male")
    }
    assert all(0 < group["age_mae"] < 40 and 0 < group["au_f1_micro"] < 1 and "emotion_accuracy" not in group for group in sexes.values())
    assert sum(group["faces"] for group in figures["by"]["age"]["groups"].values()) == table.num_rows - table["age"].null_count
    for name in ("eye_distance", "yaw", "readable"):  # measured: the file has no such columns
        sizes = [group["faces"] for group in figures["by"][name]["groups"].values()]
        assert len(sizes) == 4 and sum(sizes) == table.num_rows and min(sizes) > 10, name
    assert "By sex:" in (out / "benchmark.md").read_text()


def test_what_cannot_be_worked_out_is_named(figures: dict[str, Any]) -> None:
    assert figures["text_missing"]["meteor"] == "needs Java"
    assert figures["text"]["meteor"] is None
    assert "endpoint" in figures["judge"]["skipped"]
    assert "NaN" not in json.dumps(figures)


@pytest.mark.slow
def test_the_confusions_count_every_labelled_face(figures: dict[str, Any], slice_: Path) -> None:
    labelled = sum(emotion in figures["emotion_confusion"]["labels"] for emotion in pq.read_table(slice_)["emotion"].to_pylist())
    assert sum(sum(map(sum, figures["emotion_confusion"]["counts"][source])) for source in ("web", "ferplus")) == labelled
    assert sum(figures["emotion_reliability"]["count"]) == labelled


@pytest.mark.slow
def test_the_folder_holds_report_predictions_and_figures(out: Path, figures: dict[str, Any]) -> None:
    report = (out / "benchmark.md").read_text()
    assert f"| ↑ emotion accuracy, web | {figures['emotion_accuracy']['web']:.3f} (" in report
    assert "| AU12 lip corner puller |" in report
    assert "Action unit labels: machine labels" in report and "| machine labels |" in report and "| majority of annotators |" in report
    assert figures["label_origin"]["emotion"] == {"ferplus": "majority of annotators", "web": "label of the collection"}
    table = pq.read_table(out / "predictions.parquet")
    assert table.schema.equals(PREDICTIONS)
    assert table.num_rows == sum(figures["questions"].values()) == 94 * 2 + 47 * 3 + 12 * 8
    for name in ("action_units", "confusion", "reliability", "worst"):
        assert f"![{name.replace('_', ' ')}]({name}.png)" in report
        with Image.open(out / f"{name}.png") as picture:
            assert min(picture.size) > 300


@pytest.mark.slow
def test_its_own_predictions_score_to_the_same_digits(out: Path, figures: dict[str, Any], slice_: Path, tmp_path: Path) -> None:
    again = run(slice_, tmp_path / "again.json", "--answers", str(out / "predictions.parquet"), *BY)
    assert again.pop("regions_per_second") is None
    assert again == {name: value for name, value in figures.items() if name in again}
    assert len(again) == len(figures) - 1


@pytest.mark.slow
def test_two_runs_ask_and_answer_the_same(slice_: Path) -> None:
    describer = load_describer("nano", device="cpu")
    first, second = (to_table(ask(describer, slice_, limit=6)) for _ in range(2))
    assert first.equals(second)


@pytest.mark.slow
def test_a_dataset_is_asked_about_its_own_boxes(slice_: Path, tmp_path: Path) -> None:
    """The dataset's crops are JPEG again, so answers may differ a little; boxes and labels are the dataset's."""
    build([slice_], tmp_path / "set", limit=14)
    rows = {row["image_id"]: row for file in (tmp_path / "set" / "val").glob("*.parquet") for row in pq.read_table(file).to_pylist()}
    assert len(rows) == 14
    describer = load_describer("nano", device="cpu")
    found = ask(describer, tmp_path / "set")
    for question in (row.question for row in found.rows if row.question.kind != "nudged"):
        boxes = [(region["region"], region["box"], region["visible"], set(region["aus"])) for region in rows[question.image_id]["regions"]]
        assert (question.region, list(question.box), list(question.visible), question.aus) in boxes
    same = [row.answer.emotion for row in found.rows if row.question.kind == "face"]
    direct = [row.answer.emotion for row in ask(describer, slice_, limit=14).rows if row.question.kind == "face"]
    assert sum(a == b for a, b in zip(same, direct, strict=True)) >= 11


class _AlwaysTheFirst(BaseHTTPRequestHandler):
    """A judge that gives every description the same marks, and prefers whichever it is shown first."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        marks = {"region": 5, "aus": 4, "emotion": 3, "age": 2, "clarity": 5, "restraint": 5}
        wanted = asked["response_format"]["json_schema"]["name"]
        reply = json.dumps({"reason": "so", **(marks if wanted == "marks" else {"better": "A"})})
        body = json.dumps({"choices": [{"message": {"content": reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.slow
def test_a_judge_marks_and_compares(out: Path, slice_: Path, tmp_path: Path) -> None:
    """One that goes by the place alone is found out: all ties."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _AlwaysTheFirst) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        options = [
            "--answers",
            str(out / "predictions.parquet"),
            "--limit",
            "5",
            "--out",
            str(tmp_path),
            "--judge",
            url,
            "--judge-model",
            "m",
        ]
        judge = run(slice_, tmp_path / "figures.json", *options)["judge"]
        server.shutdown()
    assert judge["model"] == "m"
    assert (judge["absolute"]["age"], judge["absolute"]["overall"], judge["absolute"]["judged"]) == (2, 4, 5)
    assert set(judge["pairwise"]) == {"majority", "whole_face"}
    for found in judge["pairwise"].values():
        assert (found["win_rate"], found["order_agreement"], found["shown_first"], found["judged"]) == (0.5, 0, 1, 5)
    assert "| majority class | 0 | 0 | 5 | 0.500 | 0.000 |" in (tmp_path / "benchmark.md").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--answers", "nothing.parquet"], "nothing.parquet"),
        (["--judge", "localhost:8000"], "must begin with http"),
        (["--out", "slice.parquet/x"], "cannot write"),
        (["--judge-model", "m", "--judge", "http://localhost:9/v1"], "--judge needs --out"),
    ],
)
@pytest.mark.slow
def test_a_wrong_option_is_said_in_a_line(
    options: list[str], message: str, slice_: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(slice_.parent)
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(slice_), "--device", "cpu", *options])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_a_file_that_is_not_of_faces_is_refused(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.parquet"
    if content is None:
        pq.write_table(pa.table({"image": [b""]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        main(["eval", str(path), "--device", "cpu"])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert "x.parquet" in message
    assert "Traceback" not in message
