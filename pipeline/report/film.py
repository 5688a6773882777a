"""The annotated film: a video with its faces, regions and descriptions drawn in, with its sound and at its own times."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal

import av
import av.container
import av.error
import av.stream
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from pipeline.errors import SettingsError
from pipeline.report.frame_scores import read_frame_scores
from pipeline.report.inputs import sampling_fps, video_row, window_seconds
from pipeline.report.linked import persons_in
from pipeline.report.overlay import Overlay, hide_faces
from pipeline.report.positions import FacePositions
from pipeline.report.sound import PRIMING_S, Sound, SoundTrack, sound_tracks
from pipeline.report.windows import window_rows
from pipeline.schemas import NoteKind
from pipeline.storage.atomic import replacing
from pipeline.storage.chosen_run import range_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.video_files import video_file
from pipeline.video.container import open_container
from pipeline.video.opening import open_video
from pipeline.video.sampling import Sampler
from pipeline.video.source import SeekableSource

CRF = "20"
"""Quality of x264, 0 to 51; lower looks better and makes larger files (6 more is about half the size)."""

PRESET = "veryfast"
"""Effort of x264; slower presets make smaller files of the same quality."""

FINEST_S = Fraction(1, 1000)
"""Time bases up to this are the film's too; coarser ones, as of raw streams, are replaced by `TICKS`."""

TICKS = Fraction(1, 90_000)


@dataclass(frozen=True)
class Film:
    """An annotated film.

    Attributes:
        path: the file.
        notes: what of the video it lacks, a sentence each.
    """

    path: Path
    notes: tuple[str, ...]


class _Writer:
    """Writes an H.264 file with the pictures' own times and the source's sound; a context manager."""

    def __init__(
        self,
        part: Path,
        video: SeekableSource,
        source: av.container.InputContainer,
        tracks: Sequence[SoundTrack],
        from_s: float = 0.0,
        to_s: float | None = None,
    ) -> None:
        """Start the file.

        Args:
            part: where to write.
            video: whose frames are written.
            source: the same file, open at its beginning, for the sound.
            tracks: the sound.
            from_s, to_s: the range of the source that the film shows, in seconds; to_s None: to its end.
        """
        info = video.info
        stream = source.streams[info.stream_index]
        assert isinstance(stream, av.VideoStream)
        # The film starts with its first picture, or with sound that starts before it.
        zero_s = min([info.start_s, *(track.start_s for track in tracks if track.start_s < info.start_s - PRIMING_S)])
        if from_s:
            zero_s = info.start_s + from_s
        self._length_s = float("inf") if to_s is None else info.start_s + to_s - zero_s
        self._first_s = info.start_s - zero_s
        self._time_base = stream.time_base if stream.time_base and stream.time_base <= FINEST_S else TICKS
        self._size = info.width, info.height
        self._out = av.open(os.path.abspath(part), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(info.fps).limit_denominator(100_000)
        self._stream = self._out.add_stream("libx264", rate=rate, options={"crf": CRF, "preset": PRESET})
        context = self._stream.codec_context
        context.width, context.height = (side + side % 2 for side in self._size)
        context.pix_fmt = "yuv420p"
        context.time_base = self._stream.time_base = self._time_base
        shown = stream.codec_context
        context.color_primaries, context.color_trc = shown.color_primaries, shown.color_trc
        self._space = shown.colorspace or Colorspace.ITU601  # 0 is RGB, which yuv420p is not
        if any(note.kind == NoteKind.TONE_MAPPED for note in video.notes):
            context.color_primaries, context.color_trc, self._space = 1, 1, Colorspace.ITU709  # BT.709
        context.colorspace, context.color_range = self._space, ColorRange.MPEG
        self._sound = Sound(source, tracks, self._out, zero_s, info.stream_index, video.clock_shifts_s, cut=bool(from_s))
        self._pending: av.VideoFrame | None = None
        self._last_pts = -1

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._out.mux(self._stream.encode(None))
            self._sound.until(self._length_s)
        self._out.close()

    def write(self, image: np.ndarray, time_s: float) -> None:
        """Add the next frame, later than the one before, which is shown until then.

        Args:
            image: (H, W, 3) uint8 RGB.
            time_s: from the first frame of the source.
        """
        self.end(time_s)
        height, width = image.shape[:2]
        if height % 2 or width % 2:  # yuv420p has even sides only: the last row and column come twice
            image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=self._space)
        frame.pts, frame.time_base = max(self._ticks(time_s), self._last_pts + 1), self._time_base
        self._pending, self._last_pts = frame, frame.pts

    def end(self, time_s: float) -> None:
        """Show the last frame until a time."""
        if self._pending is not None and self._pending.pts is not None:
            self._pending.duration = max(self._ticks(time_s) - self._pending.pts, 1)
            self._out.mux(self._stream.encode(self._pending))
            self._sound.until(float(self._pending.pts * self._time_base))
            self._pending = None

    def _ticks(self, time_s: float) -> int:
        """A time of the source as a time stamp of the film."""
        return round((self._first_s + time_s) / self._time_base)


def annotate_video(
    run: RunFolder,
    video_id: str,
    out: Path,
    *,
    faces: Literal["show", "blur"] = "show",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Film:
    """Write a video with its faces, regions and descriptions drawn in: H.264 in MP4, ready to stream, upright.

    All sound tracks that can be copied or decoded are in it, in step with the pictures; `Film.notes` names the others.

    The film shows the range of time that the run knows about and that is chosen of it (`pipeline.storage.chosen_run.range_of`). Every frame
    of it that decodes is written at its own time, sampled or not; boxes move smoothly between the sampled frames of a track.
    Memory does not grow with the frames of the video (the faces table is held: `pipeline.report.positions`). The file appears whole or
    not at all.

    Args:
        run: the run folder.
        video_id: of the videos table.
        out: the file to write (`.mp4`).
        faces: `blur` makes every tracked face unrecognisable first, also in the frames around and between those where it was found.
            Voices stay.
        progress: called with (frames done, frames expected) after every frame.

    Returns:
        The film.

    Raises:
        SettingsError: an unknown video, tables that cannot be read, or a file that cannot be written.
        VideoError: the file is missing, has changed since the run, or cannot be read.
    """
    row = video_row(run, video_id)
    path = video_file(run, row)
    if out.exists() and out.samefile(path):
        raise SettingsError(f"{out} is the video itself: name another file to write")
    from_s, to_s = range_of(run)
    if from_s >= row["duration_s"]:
        raise SettingsError(f"{row['path']} ends at {row['duration_s']:.1f} s, before the range that begins at {from_s:g} s")
    tracks, notes = sound_tracks(path)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open_video(path, decoder="pyav") as video, open_container(str(path)) as source, replacing(out) as part:
            positions, overlay = _overlay(run, video_id, video)
            with _Writer(part, video, source, tracks, from_s, to_s) as writer:
                for frame in video.frames(from_s=from_s, to_s=to_s):
                    image = frame.image
                    if faces == "blur":
                        hide_faces(image, positions.at(frame.time_s, extended=True))
                    writer.write(overlay.draw(image, frame.time_s), frame.time_s)
                    progress(video.decoded, video.info.frame_count)
                writer.end(min(to_s or video.info.duration_s, video.info.duration_s))
    except (OSError, av.error.FFmpegError) as error:
        raise SettingsError(f"cannot write {out}: {error.strerror or error}") from error
    return Film(out, tuple(notes))


def _overlay(run: RunFolder, video_id: str, video: SeekableSource) -> tuple[FacePositions, Overlay]:
    """The run's tables of one video, ready to be drawn."""
    sampler = Sampler(sampling_fps(run), video.info.fps)
    sampled_s = np.array([time_s for time_s in video.times.tolist() if sampler.wants(time_s)])
    positions = FacePositions(run.batches("faces", video_id, ["track_id", "time_s", "box", "landmarks5"]), sampled_s)
    regions = run.read("descriptions", ["track_id", "window_index", "time_s", "region", "box"], video_id)
    size = video.info.width, video.info.height
    scores = read_frame_scores(run, video_row(run, video_id))
    persons = persons_in(run, video_id)
    people = {track: (persons.lead(key, track), persons.label(person)) for (key, track), person in persons.of.items() if key == video_id}
    return positions, Overlay(size, positions, window_rows(run, video_id), regions, window_seconds(run), scores, people)
