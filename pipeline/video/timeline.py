"""The times of a stream's frames: joints are bridged, streams without time stamps counted, the last frame has its own length.

Recordings that are joined end to end (`cat a.ts b.ts`) restart their time stamps, or jump back. Every packet after such a joint is
shifted so that the second recording follows the first; the decoder then gives each frame the shifted time.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipeline.schemas import NoteKind
from pipeline.video.packets import NO_TIME, Packets
from pipeline.video.source import Note

WRAP = 2**33
"""The clock of an MPEG stream begins again at 0 after this many ticks."""

WRAP_GAP_S = 60.0
"""A step of `WRAP`, give or take this, is the clock's wrapping around and no joint. More takes joints for wraps."""

LEAP_S = 10.0
"""In an MPEG stream a step ahead of more than this is a joint, too, if packet numbers break off there. More decodes on across joints."""

AROUND = 3
"""Packets around a joint that the demuxer may mark as damaged because packet numbers break off."""

KEPT_LEAP_S = 3600.0
"""A step ahead up to this is kept, as a recorder may have waited that long; a longer one is the other recording's clock, and bridged."""

REORDERED = 20
"""Packets within which the presentation time of a continuous stream rises above all before; codecs reorder 16 frames at most. More misses
joints to recordings of fewer frames than this."""

JOINTS_NAMED = 5
"""Joints whose times the note gives."""


@dataclass(frozen=True)
class Timeline:
    """When a stream's frames are shown.

    Attributes:
        time_base: seconds of a time stamp's unit; of a frame where `counted`.
        counted: whether frames are counted because the stream has no time stamps.
        stamps: (M,) int64 time stamps that the packets promise, corrected, strictly rising.
        ends: (M,) int64, the end of each frame by its packet's own duration; equal to `stamps` where that is unknown.
        shifts: (N,) int64, added to the stamps of each packet in the order of the file; None where nothing is corrected.
        joints: packets at which another recording, or another part of an edit list, begins: decoding begins anew there.
        notes: what is to be said.
    """

    time_base: Fraction
    counted: bool
    stamps: np.ndarray
    ends: np.ndarray
    shifts: np.ndarray | None
    joints: frozenset[int]
    notes: tuple[Note, ...]

    def seconds(self, stamp: int, origin: int) -> float:
        """A frame's time, where `origin` is time zero."""
        return (stamp - origin) * float(self.time_base)

    def times(self, origin: int) -> np.ndarray:
        """(K,) float64 seconds of the promised frames from `origin` on; the same arithmetic as `seconds`."""
        return (self.stamps[self.stamps >= origin] - origin) * float(self.time_base)

    def last_length_s(self, rate: float) -> float:
        """Seconds for which the last frame is shown: its own length, else that of a usual frame.

        Args:
            rate: the stream's frames a second, for one frame without a length.
        """
        if len(self.stamps) and self.ends[-1] > self.stamps[-1]:
            return float((int(self.ends[-1]) - int(self.stamps[-1])) * self.time_base)
        steps = np.diff(self.stamps)
        return float(np.median(steps)) * float(self.time_base) if len(steps) else 1.0 / rate


def timeline(packets: Packets, time_base: Fraction, rate: Fraction | None, *, raw: bool, wrapping: bool, indexed: bool) -> Timeline:
    """Work out the times of a stream's frames.

    Args:
        packets: of the stream.
        time_base: of its time stamps.
        rate: the stream's own frames a second, for a stream without time stamps; None where it does not say.
        raw, wrapping, indexed: whether the format is one of `pipeline.video.container.RAW`, `WRAPPING`, `INDEXED`.
    """
    stamps = packets.stamps
    if raw or (stamps == NO_TIME).all():
        return _counted(packets, rate)
    shifts, joints, notes = (*_edited(packets), ()) if indexed else _bridged(packets, time_base, wrapping)
    if shifts is not None:
        stamps = np.where(stamps == NO_TIME, NO_TIME, stamps + shifts)
    timed = packets.shown & (stamps != NO_TIME)
    shown, at = np.unique(stamps[timed], return_index=True)
    lengths = packets.duration[timed][at]
    if indexed and len(at) and at[-1] != timed.sum() - 1:  # lengths in an index are those between decoding times
        lengths[-1] = packets.duration[timed][-1]
    return Timeline(time_base, False, shown, shown + lengths, shifts, joints, notes)


def _counted(packets: Packets, rate: Fraction | None) -> Timeline:
    """Times of a stream that has none: its frames are counted at a steady rate."""
    said = "the stream's own rate" if rate else "assumed, as the stream does not say"
    rate = rate or Fraction(25)
    stamps = np.arange(len(packets), dtype=np.int64)
    note = Note(NoteKind.STREAM_RATE, f"no time stamps: frames are counted at {float(rate):g} a second, {said}")
    return Timeline(1 / rate, True, stamps, stamps + 1, None, frozenset(), (note,))


def _bridged(packets: Packets, time_base: Fraction, wrapping: bool) -> tuple[np.ndarray | None, frozenset[int], tuple[Note, ...]]:
    """What to add to each packet's stamps, the packets at which recordings are joined, and what to say of it."""
    shifts = np.zeros(len(packets), np.int64)
    if wrapping:
        places = np.flatnonzero(packets.dts != NO_TIME)
        order = packets.dts[places]
        turns = _turns(order, time_base)
        order = order + turns * WRAP
        shifts += np.repeat(turns * WRAP, np.diff([0, *places[1:].tolist(), len(packets)]))
        shifts += _mistaken(packets, time_base)
        found = _joints_by_decoding_times(order, packets.corrupt[places], time_base)
    else:
        places = np.flatnonzero(packets.pts != NO_TIME)
        order = packets.pts[places]
        found = _joints_by_showing_times(order)
    joints = [int(places[place]) for place in found]
    if not joints:
        return (shifts if shifts.any() else None), frozenset(), ()
    known = packets.stamps != NO_TIME
    stamps = packets.stamps + shifts
    usual = int(np.median(np.abs(np.diff(order))))
    restarts: list[float] = []
    leaps: list[tuple[float, float]] = []
    end = origin = int(stamps[known][0])
    for start, stop in zip([0, *joints], [*joints, len(packets)], strict=True):
        part = np.flatnonzero(known[start:stop]) + start
        if not len(part):
            continue
        begin = int(stamps[part].min())
        if not start:
            origin = begin
        elif 0 <= (begin - end) * time_base <= KEPT_LEAP_S:
            leaps.append((float((end - origin) * time_base), float((begin - end) * time_base)))
        else:
            restarts.append(float((end - origin) * time_base))
            shifts[start:stop] += end - begin
        last = part[np.argmax(stamps[part])]
        end = int(packets.stamps[last] + shifts[last]) + (int(packets.duration[last]) or usual)
    return (shifts if shifts.any() else None), frozenset(joints), (_joint_note(restarts, leaps),)


def _edited(packets: Packets) -> tuple[np.ndarray | None, frozenset[int]]:
    """What to add to each packet's stamps, and the packets at which another part of an edit list begins.

    The demuxer goes back to the keyframe before a part. It also begins the second and later parts too late by as much as frames are
    reordered; parts follow each other without a gap.
    """
    back = (np.diff(packets.dts) <= 0) & (packets.dts[1:] != NO_TIME) & packets.keyframe[1:]
    parts = (np.flatnonzero(back) + 1).tolist()
    shifts = np.zeros(len(packets), np.int64)
    shown = packets.shown & (packets.pts != NO_TIME)
    reordered = int((packets.pts - packets.dts)[shown].max()) if shown.any() else 0
    for start, stop in itertools.pairwise([*parts, len(packets)]):
        before, part = np.flatnonzero(shown[:start]), np.flatnonzero(shown[start:stop]) + start
        if len(before) and len(part):
            gap = int(packets.pts[part].min()) - int((packets.pts + packets.duration)[before].max())
            shifts[start:] -= gap if 0 < gap <= reordered else 0
    return (shifts if shifts.any() else None), frozenset(parts)


def _turns(order: np.ndarray, time_base: Fraction) -> np.ndarray:
    """How many times the clock has wrapped around at each packet; back and forth where packets around the wrap are out of order."""
    steps = np.diff(order)
    gap = int(WRAP_GAP_S / time_base)
    turned = np.where(np.abs(steps + WRAP) < gap, 1, np.where(np.abs(steps - WRAP) < gap, -1, 0))
    return np.concatenate([np.zeros(min(1, len(order)), np.int64), np.cumsum(turned)])


def _mistaken(packets: Packets, time_base: Fraction) -> np.ndarray:
    """(N,) int64: what to add to presentation times that the demuxer took from behind a leap, where a packet had none of its own.

    Such a packet is the last reference picture before the leap, shown after all others before it.
    """
    shifts = np.zeros(len(packets), np.int64)
    known = (packets.pts != NO_TIME) & (packets.dts != NO_TIME)
    leap = int(LEAP_S / time_base)
    mistaken = known & (np.abs(packets.pts - packets.dts) > leap) & (np.abs(packets.pts - packets.dts) < WRAP - leap)
    for place in np.flatnonzero(mistaken).tolist():
        around = slice(max(0, place - REORDERED), place + REORDERED)
        near = (known & ~mistaken)[around] & (np.abs(packets.pts[around] - packets.dts[place]) <= leap)
        if near.any():
            shifts[place] = int(packets.pts[around][near].max()) + int(packets.duration[place]) - int(packets.pts[place])
    return shifts


def _joints_by_decoding_times(order: np.ndarray, corrupt: np.ndarray, time_base: Fraction) -> list[int]:
    """Places at which another recording begins, from the decoding times that MPEG streams store.

    A single packet that steps back is a mistake of the muxer; a joint is a step back that the packet after it confirms.
    """
    found: list[int] = []
    leap, too_long = int(LEAP_S / time_base), int(KEPT_LEAP_S / time_base)
    steps = np.diff(order)
    for place in np.flatnonzero((steps < 0) | (steps > leap)).tolist():
        before, here = int(order[place]), int(order[place + 1])
        after = int(order[place + 2]) if place + 2 < len(order) else here
        marked = corrupt[max(0, place + 1 - AROUND) : place + 1 + AROUND].any()
        leaps = here > before and after >= here and (marked or here - before > too_long)
        if leaps or (here < before and after <= before):
            found.append(place + 1)
    return found


def _joints_by_showing_times(order: np.ndarray) -> list[int]:
    """Places at which another recording begins, from presentation times, which jump back and forth by as much as frames are reordered.

    At a joint no time of the next `REORDERED` packets reaches what has been; it lies at the largest step back among them.
    """
    found: list[int] = []
    steps = np.diff(order)
    start = 0
    while len(order) - start > REORDERED:
        part = order[start:]
        reached = np.maximum.accumulate(part)[:-REORDERED]
        ahead = np.lib.stride_tricks.sliding_window_view(part[1:], REORDERED).max(1)
        behind = np.flatnonzero(ahead <= reached[: len(ahead)])
        if not len(behind):
            return found
        place = start + int(behind[0])
        start = place + 1 + int(np.argmin(steps[place : place + REORDERED]))
        found.append(start)
    return found


def _joint_note(restarts: list[float], leaps: list[tuple[float, float]]) -> Note:
    """What to say of joints: the times at which stamps restart, and those at which they leap ahead and by how much."""
    said = [f"{len(restarts) + len(leaps) + 1} recordings joined"]
    if restarts:
        named = ", ".join(f"{time_s:.2f}" for time_s in restarts[:JOINTS_NAMED]) + " ..." * (len(restarts) > JOINTS_NAMED)
        said.append(f"time stamps restart at {named} s, where times go on without a gap")
    if leaps:
        named = ", ".join(f"{time_s:.2f} s (by {by_s:.2f} s)" for time_s, by_s in leaps[:JOINTS_NAMED])
        said.append(f"time stamps leap ahead at {named}{' ...' * (len(leaps) > JOINTS_NAMED)}, and times with them")
    return Note(NoteKind.JOINED, f"{said[0]}: {', and '.join(said[1:])}")
