"""Small files of every kind that archives hold, good and bad, made from real clips, each with its expected row."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support.clips import pictures, write_clip

SIDE = (160, 90)
"""Width and height of most clips."""

Promise = tuple[str, str | None]
"""Expected status, and a part of the expected error: None for no error, empty for any."""


def small_clip(source: Path, path: Path, count: int = 16, **options: object) -> Path:
    """A small copy of the first frames of a clip."""
    return write_clip(path, pictures(source, count), **({"size": SIDE} | options))  # type: ignore[arg-type]


def _rotate(path: Path) -> None:
    """Put a quarter turn into the display matrix of an MP4 file."""
    content = bytearray(path.read_bytes())
    unity = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    at = content.rindex(unity)  # the track's; the movie's comes first
    content[at : at + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, SIDE[1] << 16, 0, 0x40000000)
    path.write_bytes(content)


def _lengthen(path: Path) -> None:
    """Add eight seconds to the length that a file declares: in the media header of an MP4, in a tag of a Matroska file."""
    content = bytearray(path.read_bytes())
    if (header := content.find(b"mdhd")) >= 0:
        scale, length = struct.unpack(">II", content[header + 16 : header + 24])
        content[header + 20 : header + 24] = struct.pack(">I", length + 8 * scale)
    else:
        content[content.index(b"00:00:00.5") + 7] = ord("8")
    path.write_bytes(content)


def _flip(path: Path, share: float) -> None:
    """Flip bits in the last third of a file."""
    content = np.frombuffer(path.read_bytes(), np.uint8).copy()
    rng = np.random.default_rng(5)
    places = rng.integers(len(content) * 2 // 3, len(content), max(1, round(share * len(content))))
    content[places] ^= (1 << rng.integers(0, 8, len(places))).astype(np.uint8)
    path.write_bytes(content.tobytes())


def _sound(path: Path) -> None:
    """Write a file with sound only."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        tone = (np.sin(np.arange(16000) / 10) * 9000).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
        for part in (frame, None):
            container.mux(stream.encode(part))


def _interlaced(source: Path, path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "top": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIDE, "yuv420p"
        for image in pictures(source, 12):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image).reformat(*SIDE, "yuv420p")))
        container.mux(stream.encode())


def make_corpus(folder: Path, samples: Path) -> dict[Path, Promise]:
    """Every kind of file, in a folder; the face in them is about 35 pixels high."""
    face, plain = samples / "single_face.mp4", samples / "no_face.mp4"
    promises: dict[Path, Promise] = {}

    def clip(name: str, expected: Promise = ("ok", None), source: Path = face, **options: object) -> Path:
        path = small_clip(source, folder / name, **options)  # type: ignore[arg-type]
        promises[path] = expected
        return path

    def raw(name: str, make: Callable[[Path], object], expected: Promise) -> None:
        make(folder / name)
        promises[folder / name] = expected

    clip("plain.mp4")
    clip("no_face.mp4", ("no_faces", None), plain)
    clip("hevc10.mp4", codec="libx265", pixels="yuv420p10le", options={"x265-params": "log-level=none"})
    clip("vp9.webm", codec="libvpx-vp9", options={"cpu-used": "8", "deadline": "realtime"})
    clip("av1.mkv", codec="libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"})
    clip("mjpeg.avi", codec="mjpeg", pixels="yuvj420p")
    clip("picture.gif", codec="gif", pixels="rgb8")
    clip("old.wmv", codec="wmv2")
    clip("odd.mkv", codec="ffv1", pixels="yuv444p", size=(161, 91))
    clip("narrow.mp4", ("no_faces", None), pixels="yuv444p", size=(2, 90))
    clip("dot.mkv", ("no_faces", None), codec="ffv1", pixels="yuv444p", size=(1, 1))
    clip("one.mp4", count=1)
    clip("variable.mp4", times=[i / 30 + (i > 8) * 0.4 + (i % 3) * 0.007 for i in range(16)])
    clip("late.mkv", times=[7 + i / 30 for i in range(16)])
    clip("jump.mkv", times=[i / 30 + (i >= 8) * 3600 for i in range(16)])
    _rotate(clip("turned.mp4"))
    _lengthen(clip("boast.mp4"))  # its list of frames has the true length
    _lengthen(clip("boast.mkv", ("ok", "cut short: it ends at 0.5 of 8.5 s")))
    raw("interlaced.mpg", lambda path: _interlaced(face, path), ("ok", None))

    for name in ("a b 'c' \"d\" $(e); #f%20&.mp4", "two\nlines\t.mp4", "-rf.mp4", "Ünï ⟨視頻⟩ 🎬.MP4", "a:b %03d.mp4"):
        promises[folder / name] = ("ok", None)
        (folder / name).write_bytes((folder / "plain.mp4").read_bytes())
    latin = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.mp4"))
    latin.write_bytes((folder / "plain.mp4").read_bytes())
    promises[latin] = ("ok", None)

    whole = small_clip(face, folder / "whole.mkv", 40).read_bytes()
    (folder / "whole.mkv").unlink()
    raw("truncated.mkv", lambda path: path.write_bytes(whole[: len(whole) * 6 // 10]), ("ok", "cut short"))
    moved = small_clip(face, folder / "moved.mp4", 40).read_bytes()
    (folder / "moved.mp4").unlink()
    raw("truncated.mp4", lambda path: path.write_bytes(moved[: len(moved) * 6 // 10]), ("failed", "not a video, or damaged"))
    _flip(clip("flipped.mkv", ("ok", ""), count=40, options={"threads": "1"}), 0.0005)
    raw("zero.mp4", lambda path: path.write_bytes(b""), ("failed", "empty file"))
    raw("zeros.mp4", lambda path: path.write_bytes(bytes(5000)), ("failed", "not a video"))
    raw("noise.mp4", lambda path: path.write_bytes(np.random.default_rng(1).bytes(20000)), ("failed", "not a video"))
    raw("text.mp4", lambda path: path.write_text("not a video\n" * 100), ("failed", "not a video"))
    raw("list.mp4", lambda path: path.write_text(f"#EXTM3U\n#EXTINF:1,\n{folder}/plain.mp4\n"), ("failed", "not a video"))
    raw("sound.mp4", _sound, ("failed", "audio only"))
    raw("gone.mp4", lambda path: path.symlink_to(folder / "nowhere.mp4"), ("failed", "no such file"))
    raw("folder.mp4", Path.mkdir, ("failed", "a folder"))
    raw("pipe.mp4", os.mkfifo, ("failed", "not a regular file"))
    if os.geteuid():  # root may read everything
        raw("locked.mp4", lambda path: path.write_bytes(moved), ("failed", "no permission"))
        (folder / "locked.mp4").chmod(0)
    return promises
