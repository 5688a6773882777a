"""Each kind of file that archives hold gets its promised row."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.execution.analysis import analyse_video
from pipeline.faces.detectors import load_detector
from pipeline.settings import load_settings
from pipeline.storage.inputs import find_videos
from pipeline.storage.run_folder import file_mark
from pipeline.video.decoder_process import Decoder
from tests.support.corpus import SIDE, Promise, make_corpus, small_clip

MIN_FACE = 20


@pytest.fixture(scope="module")
def corpus(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Promise]:
    """The files and their promises."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), samples)


@pytest.fixture(scope="module")
def found(corpus: dict[Path, Promise]) -> dict[Path, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What the first stage makes of each file: its row and its faces. One decoder serves all of them."""
    settings = load_settings(assignments=[f"detect.min_face={MIN_FACE}"])
    detector = load_detector("centerface", min_face=MIN_FACE)
    rows = {}
    with Decoder(timeout_s=30, memory_mb=4096) as decoder:
        for path in corpus:
            chunks = list(analyse_video(str(path), settings, detector, decoder.open))
            assert chunks[-1].video is not None
            rows[path] = chunks[-1].video, [row for chunk in chunks for row in chunk.faces.to_pylist()]
    return rows


def test_every_file_has_its_promised_row(corpus: dict[Path, Promise], found: dict[Path, Any]) -> None:
    wrong = {}
    for path, (status, error) in corpus.items():
        row, faces = found[path]
        told = row["error"]
        right = row["status"] == status and len(faces) == row["faces"] and (row["faces"] > 0) == (status == "ok")
        right &= error == "" or (told is None if error is None else error in (told or ""))
        if not right or "\n" in (told or "").replace(str(path), ""):
            wrong[path.name] = (status, error), (row["status"], told)
    assert not wrong


def test_good_files_are_read_whole_upright_and_at_their_own_times(corpus: dict[Path, Promise], found: dict[Path, Any]) -> None:
    rows = {path.name: found[path] for path, promise in corpus.items() if promise[0] != "failed"}
    for name, (row, faces) in rows.items():
        times = sorted({face["time_s"] for face in faces})
        assert all(0 <= time_s < row["duration_s"] for time_s in times), name
        assert row["sampled_frames"] <= row["frame_count"], name
    assert [rows["turned.mp4"][0][side] for side in ("width", "height")] == [SIDE[1], SIDE[0]]
    assert [rows["odd.mkv"][0][side] for side in ("width", "height")] == [161, 91]
    assert rows["late.mkv"][1][0]["time_s"] == 0
    assert rows["jump.mkv"][1][-1]["time_s"] == pytest.approx(3600 + 15 / 30, abs=0.01)
    assert rows["variable.mp4"][0]["duration_s"] == pytest.approx(15 / 30 + 0.4 + 1 / 22, abs=0.05)
    assert rows["boast.mp4"][0]["duration_s"] == pytest.approx(16 / 30, abs=0.01)
    assert {rows[name][0]["codec"] for name in ("hevc10.mp4", "vp9.webm", "av1.mkv")} == {"hevc", "vp9", "av1"}
    assert 0 < rows["truncated.mkv"][0]["frame_count"] < 40


def test_the_same_pictures_show_the_same_face_in_every_format(corpus: dict[Path, Promise], found: dict[Path, Any]) -> None:
    boxes = {
        path.name: np.array(found[path][1][0]["box"])
        for path in corpus
        if path.name.split(".")[0] in ("plain", "hevc10", "vp9", "av1", "mjpeg", "old", "one", "late", "variable", "interlaced", "picture")
    }
    for name, box in boxes.items():
        assert np.abs(box - boxes["plain.mp4"]).max() < 4, (name, box, boxes["plain.mp4"])


def test_a_folder_lists_them_all(corpus: dict[Path, Promise]) -> None:
    (folder,) = {path.parent for path in corpus}
    assert set(find_videos([str(folder)])) == set(map(str, corpus))
    inside = folder / "folder.mp4" / "inside.mp4"
    inside.write_bytes(b"")
    try:
        names = find_videos([str(folder)])
        assert str(inside) in names
        assert str(inside.parent) not in names  # a folder with videos in it is a folder
    finally:
        inside.unlink()
    assert all(file_mark(path) for path in corpus)
    assert file_mark(folder / "gone.mp4") == "0-0"


def test_8k_is_read(samples: Path, tmp_path: Path) -> None:
    path = small_clip(samples / "single_face.mp4", tmp_path / "8k.mp4", 2, codec="mpeg4", size=(7680, 4320))
    detector = load_detector("centerface", min_face=1000)
    with Decoder(timeout_s=60, memory_mb=1500) as decoder:
        *_, last = analyse_video(str(path), load_settings(assignments=["video.fps=null"]), detector, decoder.open)
    assert last.video is not None
    assert (last.video["status"], last.video["error"], last.video["faces"]) == ("ok", None, 2)
    assert [last.video[name] for name in ("width", "height", "frame_count")] == [7680, 4320, 2]


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user the corpus holds a file without permission instead")
def test_root_reads_what_others_may_not(samples: Path, tmp_path: Path) -> None:
    path = small_clip(samples / "single_face.mp4", tmp_path / "locked.mp4", 2)
    path.chmod(0)
    with Decoder(timeout_s=60, memory_mb=4096) as decoder, decoder.open(str(path)) as video:
        assert len(list(video.frames())) == 2
