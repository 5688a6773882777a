"""A wrong argument is answered at once: in one line, before the command imports anything that takes seconds.

The tests look at what was imported, not at a clock. torch, OpenCV, onnxruntime, Ray and pyarrow.dataset (which imports pandas) take from a
quarter of a second to several seconds.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = ("torch", "transformers", "cv2", "onnxruntime", "pyarrow.dataset", "ray")

PROBE = f"""
import io, json, os, sys
from contextlib import redirect_stderr, redirect_stdout
from pipeline.cli import main

for arguments in json.load(sys.stdin):
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        with open(reader) as answer:
            print(answer.read())
        os.wait()
        continue
    code, said = None, io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            main(arguments)
    except SystemExit as ended:
        code = ended.code
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    with open(writer, "w") as answer:
        json.dump([code, said.getvalue(), heavy], answer)
    os._exit(0)
"""
"""Runs each command line in a fork of a process that has imported the command line alone."""

STAGE = f"{ROOT}/configs/train/0-teacher.yaml"

WRONG = [
    ("eval /nonexistent", "/nonexistent"),
    ("eval text.parquet", "text.parquet: not a Parquet file"),
    ("eval other.parquet", "columns age, aus, emotion"),
    ("eval empty", "no faces in it"),
    ("eval faces.parquet --model /nonexistent", "/nonexistent"),
    ("eval faces.parquet --adapter empty", "no LoRA adapter"),
    ("eval faces.parquet --answers none.parquet", "none.parquet"),
    ("eval faces.parquet --answers other.parquet", "columns age, aus, description"),
    ("eval faces.parquet --judge localhost", "must begin with http"),
    ("eval faces.parquet --judge-model m --judge http://localhost:9/v1", "--judge needs --out"),
    ("eval faces.parquet --device gpu7", "describe.device"),
    ("eval faces.parquet --limit 0", "--limit"),
    ("eval faces.parquet --by nonsense", "columns nonsense are missing"),
    ("eval train-only", "none of its faces has the split val"),
    ("eval faces.parquet --sentence-model none", "there is no folder none"),
    ("eval faces.parquet --out text.parquet/x", "cannot write"),
    ("train none.yaml --data empty --out t", "none.yaml"),
    ("train text.parquet --data empty --out t", "text.parquet"),
    (f"train {STAGE} --data empty --out t", "no train faces there; make the dataset with"),
    (f"train {STAGE} --data val-only --out t", "none of its faces has the split train"),
    (f"train {STAGE} --data empty --out t --set nonsense=1", "nonsense"),
    (f"train {STAGE} --data empty --out t --set nonsense", "KEY=VALUE"),
    (f"train {STAGE} --data empty --out t --limit 1", "--limit"),
    ("dataset build none.parquet --out d", "there is no file none.parquet"),
    ("dataset build text.parquet --out d", "cannot be read as labelled faces"),
    ("dataset build faces.parquet --out d --boxes square=1", "'square=1' is not KIND=N"),
    ("dataset build faces.parquet --out d --emotions hungry", "'hungry' is not an emotion"),
    ("dataset build faces.parquet --out d --labels none.parquet", "there is no file none.parquet"),
    ("dataset build faces.parquet --out d --labels other.parquet", "has no column image_id"),
    ("dataset build faces.parquet --out d --active 9", "--active"),
    ("dataset build faces.parquet --out text.parquet", "is not a dataset"),
    ("agree /nonexistent --codes other.parquet", "holds no run"),
    ("agree run --codes none.eaf", "there is no file none.eaf"),
    ("agree run --codes empty", "has no .eaf"),
    ("agree run --codes other.parquet --tolerance -1", "--tolerance takes seconds"),
    ("agree run --codes other.parquet --present-from 9", "--present-from takes an intensity"),
    ("agree run --codes other.parquet --smooth nonsense", "--smooth takes"),
    ("agree run --codes other.parquet --save x.txt", "--save takes a .png"),
    ("dataset show empty", "is not a dataset"),
    ("dataset show empty --out x.txt", "--out takes a .png"),
    ("bench --only nonsense", "there is no row nonsense"),
    ("bench --json none/x.json", "there is no folder none"),
    ("bench --video none.mp4", "none.mp4: no such file"),
    ("bench --model /nonexistent", "/nonexistent"),
    ("bench --shape 9b", "--shape"),
    ("bench --shape tiny --device gpu", "--device"),
    ("describe none.jpg", "none.jpg"),
    ("describe text.parquet", "cannot be read as an image"),
    ("describe face.png --region ear", "unknown region 'ear'"),
    ("describe face.png --box 1,2", "--box"),
    ("describe face.png --save x.txt", "--save takes a .png"),
    ("describe face.png --model /nonexistent", "/nonexistent"),
    ("describe face.png --detector none.onnx", "detector 'none.onnx': no such file"),
    ("describe face.png --device gpu7", "describe.device"),
    ("describe face.png --min-face -1", "detect.min_face"),
    ("people", "give a run folder"),
    ("people /nonexistent", "holds no run"),
    ("people run run2 --model face.png --threshold 1", "holds no run"),
    ("people run --model none.onnx", "--model: there is no file none.onnx"),
    ("people run --model face.png", "the threshold of face.png is not known"),
    ("people run --threshold 3", "--threshold takes a distance"),
    ("people run --out run", "--out run is a run folder"),
    ("people s3://films/run", "people are linked on this machine"),
    ("people run --merge A B --erase A", "--merge and --erase are two things"),
    ("people run --name A B --forget", "--forget is about linking"),
    ("people run --erase A", "run holds no people"),
    ("people --measure none.parquet", "there is no file none.parquet"),
    ("people run --plot x.png", "--plot draws what --measure finds"),
    ("report /nonexistent", "holds no run"),
    ("report run --people empty", "--people: empty holds no people"),
    ("trends run --people empty", "--people: empty holds no people"),
    ("report empty", "holds no run"),
    ("report empty --frames xls", "--frames takes csv"),
    ("report empty --columns nonsense", "--columns must be one of"),
    ("report empty --no-faces --blur", "--no-faces"),
    ("trends /nonexistent", "holds no run"),
    ("trends run empty --out t", "empty holds no run"),
    ("trends run --smooth nonsense", "--smooth takes"),
    ("trends run --groups none.csv", "there is no file none.csv"),
    ("trends run --grid -1", "--grid takes seconds"),
    ("trends run --region ear", "--region takes one of"),
    ("run none.mp4 --out o", "there is no file or folder none.mp4"),
    ("run none.mp4 --out o --dry-run", "there is no file or folder none.mp4"),
    ("run face.png --out o --fps -1", "video.fps"),
    ("run face.png --out o --set nonsense.key=1", "nonsense.key"),
    ("run face.png --out o --config none.yaml", "none.yaml"),
    ("run face.png --out o --regions ear", "unknown region 'ear'"),
    ("run face.png --out o --detector none.onnx", "detector 'none.onnx': no such file"),
    ("run face.png --out o --model /nonexistent", "/nonexistent"),
    ("run face.png --out o --device gpu7", "describe.device"),
    ("run face.png --out text.parquet", "text.parquet"),
    ("submit face.png --out o --address localhost", "--address"),
    ("submit face.png --out o --fps -1", "video.fps"),
    ("submit face.png --out o --env NO_SUCH_VARIABLE", "NO_SUCH_VARIABLE"),
    ("jobs status x --address localhost", "--address"),
    ("models nonsense", "nonsense"),
    ("nonsense", "nonsense"),
]
"""Command line, part of the answer."""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files that are right for some arguments and wrong for others."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "text.parquet").write_text("neither Parquet nor a picture")
    (folder / "empty").mkdir()
    (folder / "run" / "videos").mkdir(parents=True)
    (folder / "val-only" / "val").mkdir(parents=True)
    (folder / "train-only" / "train").mkdir(parents=True)
    for name in ("val-only", "train-only"):
        (folder / name / "dataset.json").write_text("{}")
    pq.write_table(pa.table({"other": [1]}), folder / "other.parquet")
    columns = {"image_id": ["a"], "source": ["s"], "image": [b""], "landmarks5": [[0.0] * 10], "emotion": ["fear"], "age": [3.0]}
    pq.write_table(pa.table({**columns, "aus": [["AU12"]]}), folder / "faces.parquet")
    from PIL import Image

    Image.new("RGB", (64, 64)).save(folder / "face.png")
    return folder


@pytest.fixture(scope="module")
def answers(material: Path) -> dict[str, tuple[int | None, str, list[str]]]:
    """Command line -> exit code, stderr, and the heavy modules that it imported."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(material)}
    lines = [line for line, _ in WRONG]
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        input=json.dumps([shlex.split(line) for line in lines]),
        capture_output=True,
        text=True,
        cwd=material,
        env=environment,
        check=True,
    )
    return {line: tuple(json.loads(answer)) for line, answer in zip(lines, done.stdout.splitlines(), strict=True)}


@pytest.mark.parametrize(("arguments", "answer"), WRONG)
def test_a_wrong_argument_is_answered_before_anything_heavy_is_imported(
    arguments: str, answer: str, answers: dict[str, tuple[int | None, str, list[str]]]
) -> None:
    code, said, imported = answers[arguments]
    assert code == 2, said
    (line,) = said.strip().splitlines()
    assert line.startswith("focalface: ") and answer in line
    assert imported == []
