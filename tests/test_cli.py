"""The command line: answers on stdout, errors in one line on stderr, and exit codes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.schemas import IMAGES
from pipeline.vocabulary import REGIONS, region_aus


class Done(NamedTuple):
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def focalface(*arguments: str | Path) -> Done:
    """Run a command in this process, which has imported the heavy packages already."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def refused(*arguments: str | Path) -> str:
    """The line on stderr of a command that exits with 2."""
    done = focalface(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def commands(*group: str) -> list[tuple[str, ...]]:
    """All commands, read from the help: `("run",)`, `("jobs", "list")` ..."""
    _, _, listed = focalface(*group, "--help").stdout.partition("Commands ─")
    names = re.findall(r"(?m)^│ (\w+) ", listed)
    return [one for name in names for one in commands(*group, name)] if names else [group]


def test_every_commands_help_has_an_example() -> None:
    found = commands()
    assert {("run",), ("describe",), ("jobs", "list"), ("dataset", "build"), ("eval",)} <= set(found)
    for words in found:
        done = focalface(*words, "--help")
        assert done.returncode == 0
        assert f"Example: focalface {' '.join(words)}" in done.stdout, words


def test_help_is_quick_because_nothing_heavy_is_imported() -> None:
    code = "import sys; import pipeline.cli; print(*{'torch', 'ray', 'transformers', 'onnxruntime'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_command_as_a_process() -> None:
    """Output, errors and exit codes of a real process."""

    def process(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, check=False)

    assert process("--version").stdout.startswith("focalface ")
    wrong = process("describe", "none.jpg")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", "focalface: there is no file or folder none.jpg\n")


def test_models_lists_what_nano_knows() -> None:
    done = focalface("models")
    assert done.returncode == 0
    assert "nano" in done.stdout
    assert "AU12" in done.stdout


def test_five_faces_are_found_and_described(samples: Path, tmp_path: Path) -> None:
    picture = tmp_path / "described.png"
    done = focalface("describe", samples / "multi_face.jpg", "--json", "--save", picture)
    assert done.returncode == 0, done.stderr
    faces = json.loads(done.stdout)
    assert len(faces) == 5
    assert [face["box"][0] for face in faces] == sorted(face["box"][0] for face in faces)
    for face in faces:
        (region,) = face["regions"]
        assert region["region"] == "face"
        assert sum(region["emotion_scores"].values()) == pytest.approx(1, abs=1e-3)
        assert region["age_low"] <= region["age"] <= region["age_high"]
        assert set(region["aus"]) <= set(region["au_scores"])
    with Image.open(picture) as saved, Image.open(samples / "multi_face.jpg") as original:
        assert saved.height >= 720
        assert saved.width > 720 * original.width / original.height


def test_an_image_without_a_face_is_not_an_error(samples: Path) -> None:
    image = samples / "free-mountain-vector-01.jpg"
    done = focalface("describe", image)
    assert (done.returncode, done.stdout) == (0, f"No face found in {image}.\n")
    assert json.loads(focalface("describe", image, "--json").stdout) == []


def test_regions_are_chosen_by_name(samples: Path) -> None:
    done = focalface("describe", samples / "single_face.jpg", "--region", "mouth,brows", "--region", "all")
    assert done.returncode == 2  # all stands alone
    done = focalface("describe", samples / "single_face.jpg", "--region", "all", "--json")
    (face,) = json.loads(done.stdout)
    assert [region["region"] for region in face["regions"]] == list(REGIONS)
    for region in face["regions"]:
        assert set(region["au_scores"]) <= set(region_aus(region["region"], (0, 0, 1, 1)))
    text = focalface("describe", samples / "single_face.jpg", "--region", "mouth,brows", "--region", "eyes").stdout
    assert text.startswith("Face 1")
    assert text.index("mouth") < text.index("brows") < text.index("eyes")


def test_some_of_the_faces_of_an_image(samples: Path) -> None:
    image = samples / "multi_face.jpg"
    every = [face["box"] for face in json.loads(focalface("describe", image, "--json").stdout)]
    by_size = sorted(every, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]), reverse=True)

    def some(*options: str) -> list[list[float]]:
        return [face["box"] for face in json.loads(focalface("describe", image, "--json", *options).stdout)]

    assert some("--largest", "2") == [box for box in every if box in by_size[:2]]
    assert some("--area", "0,0,0.5,1") == every[:3], "two stand in the right half"
    assert some("--area", "0,0,0.5,1", "--largest", "1") == [next(box for box in by_size if box in every[:3])]
    assert some("--area", "0,0,10,10") == []
    assert "--largest takes 1 or more" in refused("describe", image, "--largest", "0")
    assert "--area" in refused("describe", image, "--area", "5,5")


def test_a_box_is_described_on_the_face_that_it_overlaps(samples: Path) -> None:
    image = samples / "multi_face.jpg"
    faces = json.loads(focalface("describe", image, "--json").stdout)
    x0, y0, x1, y1 = faces[2]["box"]
    middle = (y0 + y1) / 2
    (face,) = json.loads(focalface("describe", image, "--box", f"{x0},{middle},{x1},{y1}", "--json").stdout)
    assert face["box"] == faces[2]["box"]
    assert face["regions"][0]["region"] == "box"
    assert "AU04" not in face["regions"][0]["au_scores"]
    assert "AU25" in face["regions"][0]["au_scores"]


def test_a_box_is_clipped_or_refused(samples: Path) -> None:
    image = samples / "single_face.jpg"
    partly = focalface("describe", image, "--box=-50,100,400,9999", "--json")
    assert partly.returncode == 0
    assert "clipped to 0,100,400,562" in partly.stderr
    assert json.loads(partly.stdout)[0]["regions"][0]["box"] == [0, 100, 400, 562]
    assert "outside the image, which is 572x562" in refused("describe", image, "--box", "600,0,700,50")
    assert "x0 < x1" in refused("describe", image, "--box", "50,50,50,60")
    assert "four numbers" in refused("describe", image, "--box", "1,2,3")
    assert "touches no face" in refused("describe", image, "--box", "0,0,5,5")


def test_images_are_read_upright_and_in_any_mode(samples: Path, tmp_path: Path) -> None:
    with Image.open(samples / "single_face.jpg") as original:
        upright = original.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright.convert("L").save(tmp_path / "grey.png")
    Image.fromarray(np.asarray(upright.convert("L")).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    clear = upright.copy()
    clear.putalpha(255)
    clear.save(tmp_path / "alpha.png")
    (expected,) = json.loads(focalface("describe", samples / "single_face.jpg", "--json").stdout)
    for name in ("turned.jpg", "grey.png", "deep.png", "alpha.png"):
        done = focalface("describe", tmp_path / name, "--json")
        (face,) = json.loads(done.stdout)
        assert face["box"] == pytest.approx(expected["box"], abs=12), name


def test_transparent_images_are_read(samples: Path) -> None:
    assert len(json.loads(focalface("describe", samples / "Image_with_alpha.png", "--json").stdout)) == 1


def test_wrong_arguments_are_reported_in_one_line(samples: Path, tmp_path: Path) -> None:
    image = samples / "single_face.jpg"
    assert "cannot be read as an image" in refused("describe", samples / "001.csv")
    assert "there is no file or folder" in refused("describe", tmp_path / "none.jpg")
    assert "did you mean mouth?" in refused("describe", image, "--region", "moth")
    assert "--save takes" in refused("describe", image, "--save", tmp_path / "x.txt")
    assert "No such option: --regoin" in refused("describe", image, "--regoin", "mouth")
    assert "neither embedded" in refused("describe", image, "--model", str(tmp_path / "no/such/model"))
    assert "detect.min_face" in refused("describe", image, "--min-face", "1")
    assert "detector 'nothing'" in refused("describe", image, "--detector", "nothing")
    assert "'--fps': 'fast' is neither a number nor all" in refused("run", image, "--out", tmp_path / "out", "--fps", "fast")
    assert "video.fps: must be greater than 0" in refused("run", image, "--out", tmp_path / "out", "--fps", "0")
    assert "did you mean select.window?" in refused("run", image, "--out", tmp_path / "out", "--set", "select.windwo=1")
    assert "there is no file or folder" in refused("run", tmp_path / "none", "--out", tmp_path / "out")
    assert "no file matches" in refused("run", tmp_path / "*.mp4", "--out", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    assert "no videos found" in refused("run", tmp_path / "bare", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def photos(samples: Path, folder: Path) -> Path:
    """A folder with two photos, one of them in a subfolder, a drawing without a face, a text file named .jpg, and a note."""
    (folder / "deeper").mkdir(parents=True)
    (folder / "one.jpg").symlink_to(samples / "single_face.jpg")
    (folder / "deeper" / "one.png").write_bytes((samples / "multi_face.jpg").read_bytes())
    (folder / "nobody.jpg").symlink_to(samples / "free-mountain-vector-01.jpg")
    (folder / "text.jpg").write_text("not an image")
    (folder / "notes.txt").write_text("not searched")
    return folder


def test_folders_and_patterns_of_images_become_a_table(samples: Path, tmp_path: Path) -> None:
    folder, out = photos(samples, tmp_path / "photos"), tmp_path / "faces"
    words = ("--region", "face,mouth", "--save", tmp_path / "drawn")
    done = focalface("describe", folder, *words, "--out", out.with_suffix(".parquet"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"focalface: {folder}/text.jpg cannot be read as an image") == 1
    assert "images   4: 2 with faces, 1 without, 1 failed" in done.stdout
    table = pq.read_table(out.with_suffix(".parquet"))
    assert table.schema.equals(IMAGES)
    rows = table.to_pylist()
    assert [(Path(row["path"]).relative_to(folder).as_posix(), row["status"], row["face"], row["region"]) for row in rows] == [
        *(("deeper/one.png", "ok", face, region) for face in range(1, 6) for region in ("face", "mouth")),
        ("nobody.jpg", "no_faces", None, None),
        *(("one.jpg", "ok", 1, region) for region in ("face", "mouth")),
        ("text.jpg", "failed", None, None),
    ]
    assert rows[-1]["error"].startswith(f"{folder}/text.jpg cannot be read")
    assert sorted(file.name for file in (tmp_path / "drawn").iterdir()) == ["one-2.png", "one.png"]

    (alone,) = json.loads(focalface("describe", folder / "one.jpg", "--region", "face,mouth", "--json").stdout)
    for row, region in zip(rows[-3:-1], alone["regions"], strict=True):
        assert row["face_box"] == pytest.approx(alone["box"], abs=0.01)
        assert row["aus"] == region["aus"] and row["emotion"] == region["emotion"]
        assert {au: row[au] for au in region["au_scores"]} == pytest.approx(region["au_scores"], abs=1e-3)
        assert row["description"] == region["description"]

    assert focalface("describe", folder / "*.jpg", "--region", "face,mouth", "--out", out.with_suffix(".csv")).returncode == 0
    with out.with_suffix(".csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["path"] for line in lines] == [f"{folder}/{name}.jpg" for name in ("nobody", "one", "one", "text")]
    for line, row in zip(lines[1:3], rows[-3:-1], strict=True):
        assert float(line["face_box_x0"]) == pytest.approx(row["face_box"][0])
        assert line["aus"].split() == row["aus"] and line["description"] == row["description"]
        assert float(line["left_eye_x"]) == pytest.approx(row["landmarks5"][0])

    data = json.loads(focalface("describe", folder / "one.jpg", folder / "text.jpg", "--region", "face,mouth", "--json").stdout)
    assert [(image["path"], image["status"]) for image in data] == [(f"{folder}/one.jpg", "ok"), (f"{folder}/text.jpg", "failed")]
    assert data[0]["faces"] == [alone]
    assert focalface("describe", folder / "one.jpg", "--region", "face,mouth", "--out", out.with_suffix(".json")).returncode == 0
    assert json.loads(out.with_suffix(".json").read_text())[0]["faces"] == [alone]


def test_describing_fails_when_every_image_does(samples: Path, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_text("not an image")
    done = focalface("describe", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("cannot be read as an image") == 2
    assert "images   2: 0 with faces, 0 without, 2 failed" in done.stdout
    done = focalface("describe", samples / "single_face.jpg", tmp_path / "a.jpg", "--box", "600,0,700,50")
    assert done.returncode == 1
    assert "the box 600,0,700,50 lies outside the image, which is 572x562 pixels" in done.stderr


def test_output_files_of_another_kind_are_refused(samples: Path, tmp_path: Path) -> None:
    image = samples / "single_face.jpg"
    assert "--out takes a .csv, .parquet or .json file, not faces.xlsx" in refused("describe", image, "--out", "faces.xlsx")
    assert "--save takes a folder for several images" in refused("describe", image, samples / "multi_face.jpg", "--save", "drawn.png")
    (tmp_path / "empty").mkdir()
    assert "no images found in" in refused("describe", tmp_path / "empty")


def test_a_run_of_photos_points_to_describe(samples: Path, tmp_path: Path) -> None:
    folder = photos(samples, tmp_path / "my photos")
    said = refused("run", folder, "--out", tmp_path / "out")
    assert said == f"focalface: no videos but 4 images in '{folder}': to describe images, use focalface describe '{folder}'"
    said = refused("run", folder / "one.jpg", "--out", tmp_path / "out")
    assert said.startswith("focalface: no videos but 1 image in ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [["--fps", "all"], ["--fps", "null"], ["--set", "video.fps=all"], ["--set", "video.fps=null"]])
def test_every_frame_may_be_sampled(words: list[str], samples: Path, tmp_path: Path) -> None:
    shown = focalface("run", samples / "no_face.mp4", "--out", tmp_path / "out", "--fps", "5", "--dry-run")
    assert "fps=5.0" in shown.stdout
    shown = focalface("run", samples / "no_face.mp4", "--out", tmp_path / "out", "--dry-run", *words)
    assert "fps=null" in shown.stdout


def test_per_frame_is_one_switch_for_a_value_in_every_frame(samples: Path, tmp_path: Path) -> None:
    words = ("run", samples / "no_face.mp4", "--out", tmp_path / "out", "--dry-run", "--per-frame")
    shown = focalface(*words).stdout
    assert "fps=null" in shown and 'frames="all"' in shown
    assert "fps=5.0" in focalface(*words, "--fps", "5").stdout


def test_the_summary_of_a_run_counts_emotions_and_action_units_once_a_window(samples: Path, tmp_path: Path) -> None:
    words = ("--fps", "2", "--regions", "face,mouth", "--set", "execution.executor=in_process")
    done = focalface("run", samples / "single_face.mp4", "--out", tmp_path / "out", *words)
    summary = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in done.stdout.splitlines() if "  " in line.strip())
    windows = int(summary["descriptions"].split()[-2])
    assert summary["regions"] == f"face {windows}, mouth {windows}"
    assert sum(map(int, re.findall(r" (\d+)", summary["emotions"]))) == windows
    assert max(map(int, re.findall(r" (\d+)(?:,|$)", summary["action units"]))) <= windows


def test_a_run_whose_every_file_failed_exits_with_1(samples: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).write_text("not a video\n" * 99)
    words = ("--set", "execution.executor=in_process")
    done = focalface("run", tmp_path, "--out", tmp_path / "failed", *words)
    assert (done.returncode, done.stderr) == (1, "focalface: every file failed; the reasons are listed above\n")
    assert "2: 0 with faces, 0 without, 2 failed" in done.stdout
    done = focalface("run", tmp_path / "a.mp4", samples / "no_face.mp4", "--out", tmp_path / "mixed", "--fps", "1", *words)
    assert (done.returncode, done.stderr) == (0, "")


def test_debug_shows_the_traceback(samples: Path) -> None:
    assert "Traceback" in focalface("describe", samples / "001.csv", "--debug").stderr
