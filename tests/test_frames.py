"""Every frame that a video gives is the picture that is shown at its time.

Films are generated over a product of what files do: how they are coded, where they begin, joints, drops, edit lists, sizes, orientations,
pixel aspects. Each of their frames carries its number as blocks, and the number read from every frame must be the one of its time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import VideoError
from pipeline.video.decoder_process import Decoder
from pipeline.video.opening import open_video
from pipeline.video.segments import cut, segment_frames
from tests.support.stamps import CODECS, RATE, read_stamp, set_edit_list, set_matrix, stamp, write_stamped

FRAMES = 44
SECOND = 1000
"""First number of a second recording."""

FAST, ALL = 70, 500
"""Generated films in the fast and the slow tests."""

MATRICES = {  # a, b, c, d of the display matrix; the picture as it is stored, from the one that is shown
    "as stored": ((1, 0, 0, 1), lambda image: image),
    "mirrored left to right": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "mirrored upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "rotated by 180 degrees": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    "rotated by 90 degrees clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, 1)),
    "rotated by 90 degrees counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, -1)),
    "mirrored along the diagonal": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "mirrored along the other diagonal": ((0, -1, -1, 0), lambda image: image[::-1, ::-1].transpose(1, 0, 2)),
}


@dataclass(frozen=True)
class Film:
    """A generated film.

    Attributes:
        codec, container: how it is stored.
        group, b_frames, is_open: its groups of pictures.
        skipped: packets that are missing at its beginning.
        dropped: frames that the recorder left out.
        joint: how far the second recording's time stamps are from the first one's beginning, in frames; None for one recording.
        second_skipped: packets that are missing at the second recording's beginning.
        edits: an edit list (`set_edit_list`).
        size: width and height as shown.
        sizes: of further pictures.
        orientation: of `MATRICES`.
        aspect: of a stored pixel.
    """

    codec: str = "h264"
    container: str = "mp4"
    group: int = 12
    b_frames: int = 0
    is_open: bool = False
    skipped: int = 0
    dropped: tuple[int, ...] = ()
    joint: int | None = None
    second_skipped: int = 0
    edits: tuple[tuple[int, int], ...] = ()
    size: tuple[int, int] = (192, 108)
    sizes: tuple[tuple[int, int], ...] = ()
    orientation: str = "as stored"
    aspect: Fraction | None = None

    def __str__(self) -> str:
        plain = Film(self.codec, self.container)
        differing = {name: getattr(self, name) for name in self.__dataclass_fields__ if getattr(self, name) != getattr(plain, name)}
        return f"{self.codec}.{self.container} " + " ".join(f"{name}={value}" for name, value in differing.items())

    def write(self, folder: Path) -> tuple[Path, dict[int, int]]:
        """Write the film. Returns its path, and the number that is shown in each frame of time, without what cannot be decoded."""
        path = folder / f"film.{self.container}"
        matrix, stored = MATRICES[self.orientation]
        numbers = [number for number in range(FRAMES) if number not in self.dropped]
        size = stored(np.zeros((self.size[1], self.size[0], 3), np.uint8)).shape[1::-1]
        parts = [(range(FRAMES * (i + 1), FRAMES * (i + 2)), size) for i, size in enumerate(self.sizes)]
        begin = -self.joint if self.joint and self.joint < 0 else 0

        def draw(number: int, size: tuple[int, int]) -> np.ndarray:
            return np.ascontiguousarray(stored(stamp(number, size if matrix[0] else size[::-1])))

        def write(path: Path, numbers: Sequence[int], at: Sequence[int], skipped: int, then: Any = ()) -> list[tuple[int, int, bool]]:
            log: list[tuple[int, int, bool]] = []
            write_stamped(
                path,
                numbers,
                self.codec,
                at=at,
                size=size,
                group=self.group,
                b_frames=self.b_frames,
                is_open=self.is_open,
                kept=lambda place: place >= skipped,
                then=then,
                aspect=self.aspect,
                draw=draw,
                log=log,
            )
            return log

        first = write(path, numbers, [number + begin for number in numbers], self.skipped, parts)
        written = [*numbers, *range(FRAMES, FRAMES * (1 + len(parts)))]
        shown = {number: number for number in written if number + begin >= first_decoded(first)}
        if self.joint is not None:
            second, start = folder / f"second.{self.container}", max(0, self.joint)
            log = write(second, range(SECOND, SECOND + FRAMES), range(start, start + FRAMES), self.second_skipped)
            path.write_bytes(path.read_bytes() + second.read_bytes())
            begins, decoded = min(at for _, at, _ in log), first_decoded(log)
            shown |= {FRAMES + at - begins: SECOND + at - start for at in range(decoded, start + FRAMES)}
        if matrix != (1, 0, 0, 1):
            a, b, c, d = matrix
            set_matrix(path, (a, b, c, d, size[0] if a < 0 or b < 0 else 0, size[1] if c < 0 or d < 0 else 0))
        if self.edits:
            set_edit_list(path, self.edits)
            shown, now = {}, 0
            for length, begin in self.edits:
                shown |= {now + i: begin + i for i in range(length) if begin >= 0 and begin + i < FRAMES}
                now += length
        return path, shown


def first_decoded(log: Sequence[tuple[int, int, bool]]) -> int:
    """When the first keyframe among some packets is shown."""
    return min((at for _, at, is_key in log if is_key), default=FRAMES * 1000)


def films(count: int, seed: int = 14) -> Iterator[Film]:
    """Films that together combine everything with everything."""
    rng = random.Random(seed)
    names = list(CODECS)
    kinds = ["plain", "skipped", "joint", "dropped", "edits", "sizes", "orientation", "aspect", "odd"]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        film = _coded(rng, names, kind)
        group = film.group
        if kind == "skipped":
            film = replace(film, skipped=rng.randint(1, 2 * group))
        elif kind == "joint":
            film = replace(film, joint=rng.choice([0, 0, 10, -50, -3000]), second_skipped=rng.choice([0, 0, rng.randint(1, group)]))
        elif kind == "dropped":
            film = replace(film, dropped=tuple(sorted(rng.sample(range(2, FRAMES), rng.randint(1, 20)))))
        elif kind == "edits":
            film = replace(film, edits=_edits(rng))
        elif kind == "sizes":
            film = replace(film, sizes=tuple(rng.choice([(96, 54), (384, 216), (108, 192), (192, 144)]) for _ in range(rng.randint(1, 2))))
        elif kind == "orientation":
            film = replace(film, orientation=rng.choice(list(MATRICES)[1:]), size=rng.choice([(192, 108), (108, 192), (160, 160)]))
        elif kind == "aspect":
            film = replace(film, aspect=rng.choice([Fraction(16, 11), Fraction(12, 11), Fraction(4, 3), Fraction(8, 9), Fraction(1, 2)]))
        elif kind == "odd":
            film = replace(film, size=rng.choice([(190, 106), (254, 182), (178, 130)]))
        yield film


def _coded(rng: random.Random, names: Sequence[str], kind: str) -> Film:
    """Some codec in some container that can hold what the kind needs."""
    takes = {
        "skipped": ("ts", "mkv", "webm", "asf"),
        "joint": ("ts", "webm", "mkv"),
        "dropped": ("ts", "mp4", "mkv", "webm", "mov"),
        "edits": ("mp4", "mov"),
        "sizes": ("webm", "ts"),
        "orientation": ("mp4", "mov"),
        "aspect": ("mp4", "mkv", "ts", "mov"),
    }.get(kind)
    while True:
        codec = rng.choice(names)
        known = CODECS[codec]
        containers = [name for name in known.containers if takes is None or name in takes]
        fits = not (kind == "sizes" and codec not in ("vp8", "vp9", "h264", "hevc", "mpeg2"))
        fits = fits and not (kind == "aspect" and codec in ("vp8", "vp9", "wmv2", "mjpeg"))
        if containers and fits:
            b_frames = rng.randint(0, known.most_b_frames)
            return Film(codec, rng.choice(containers), rng.choice([6, 12, 18]), b_frames, known.opens and rng.random() < 0.5)


def _edits(rng: random.Random) -> tuple[tuple[int, int], ...]:
    begin = rng.randint(0, 20)
    return rng.choice(
        [
            ((FRAMES - begin, begin),),
            ((15, -1), (FRAMES, 0)),
            ((10, -1), (20, begin)),
            ((12, begin), (12, begin + 12)),
            ((10, 0), (12, begin + 12)),
        ]
    )


def assert_right(film: Film, path: Path, shown: dict[int, int], decoder: str = "auto") -> None:
    """The number in every frame is the one of its time; no frame is missing that can be decoded."""
    begin = min(shown)
    with open_video(path, decoder=decoder) as video:  # type: ignore[arg-type]
        frames = list(video.frames())
        times = [frame.time_s for frame in frames]
        assert times[0] == 0
        assert all(a < b for a, b in itertools.pairwise(times))
        notes = [str(note) for note in video.notes]
        at = [begin + round(time_s * RATE) for time_s in times]
        got = {at: read_stamp(_picture(frame.image, film, at)) for at, frame in zip(at, frames, strict=True)}
        wrong = {at: (number, shown.get(at)) for at, number in got.items() if number != shown.get(at)}
        assert not wrong, f"{len(wrong)} of {len(frames)}: {dict(itertools.islice(wrong.items(), 6))}; {notes}"
        missing = set(shown) - set(got)
        assert not missing, (sorted(missing), video.problem, notes)
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert np.abs(np.array(times) * RATE - np.round(np.array(times) * RATE)).max() < 0.06
        assert video.info.duration_s == pytest.approx((max(shown) + 1 - begin) / RATE, abs=0.012)
        chosen = random.Random(3).sample(frames, min(4, len(frames)))
        picked = list(video.pick([frame.index for frame in chosen], {frame.index: frame.time_s for frame in chosen}))
        assert [(frame.index, frame.time_s) for frame in picked] == sorted((frame.index, frame.time_s) for frame in chosen)
        for frame in picked:
            assert np.abs(frame.image.astype(int) - frames[frame.index].image).mean() < 1
        cuts = cut(video, 0.5)
        if len(cuts) > 1:
            ends = zip(cuts, [*cuts[1:], len(video.times)], strict=True)
            parts = [frame for first, last in ends for frame in segment_frames(video, None, first, last)]
            assert [(frame.index, frame.time_s) for frame in parts] == [(frame.index, frame.time_s) for frame in frames]
            assert all(np.array_equal(part.image, frame.image) for part, frame in zip(parts, frames, strict=True))


def _picture(image: np.ndarray, film: Film, at: int) -> np.ndarray:
    """The part of a frame that is the picture: where sizes change, pictures are fitted into the frame."""
    if not film.sizes:
        return image
    sizes = [film.size, *film.sizes]
    width, height = sizes[min(at // FRAMES, len(sizes) - 1)]
    frame_height, frame_width = image.shape[:2]
    assert (frame_width, frame_height) == max(sizes, key=lambda size: size[0] * size[1])
    scale = min(frame_width / width, frame_height / height)
    fitted = round(width * scale), round(height * scale)
    left, top = (frame_width - fitted[0]) // 2, (frame_height - fitted[1]) // 2
    return image[top : top + fitted[1], left : left + fitted[0]]


def assert_same_in_a_process(path: Path, decoder: Decoder) -> None:
    """The decoder process gives what this process gives."""
    with open_video(path) as video, decoder.open(str(path)) as watched:
        for one, other in zip(watched.frames(), video.frames(), strict=True):
            assert (one.index, one.time_s) == (other.index, other.time_s)
            assert np.array_equal(one.image, other.image)
        assert (watched.info, watched.notes, watched.decoded) == (video.info, video.notes, video.decoded)
        assert str(watched.problem) == str(video.problem)


def run_films(chosen: Sequence[Film], folder: Path) -> None:
    """Try films and say of all that fail how."""
    failed = []
    for film in chosen:
        try:
            path, shown = film.write(folder)
            if not shown:
                with pytest.raises(VideoError, match="no frame of it decodes"):
                    open_video(path)
                continue
            assert_right(film, path, shown)
            if CODECS[film.codec].name == "libx264" and film.container in ("mp4", "mkv"):
                assert_right(film, path, shown, "pyav")
        except Exception as fault:
            failed.append(f"{film}\n    {type(fault).__name__}: {str(fault).splitlines()[0][:400]}")
    assert not failed, "\n".join([f"{len(failed)} of {len(chosen)} films", *failed])


def test_every_frame_is_the_picture_of_its_time(tmp_path: Path) -> None:
    run_films(list(films(FAST)), tmp_path)


def test_the_decoder_process_gives_the_same_frames_times_and_notes(tmp_path: Path) -> None:
    with Decoder(timeout_s=60, memory_mb=4096) as decoder:
        for film in films(9, seed=5):
            assert_same_in_a_process(film.write(tmp_path)[0], decoder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_every_frame_is_the_picture_of_its_time_in_many_more_films(tmp_path: Path, seed: int) -> None:
    run_films(list(films(ALL // 4, 100 + seed)), tmp_path)
