"""What is drawn into the frames of an annotated video: faces hidden or outlined, their regions, and a card for each person
(`pipeline.report.card`)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from pipeline.execution.drawing import BACKGROUND, Font, label_place, overlap, rounded_box
from pipeline.faces.alignment import align
from pipeline.regions.placement import place_regions, to_crop_box, to_frame_box
from pipeline.report.card import Card, CardPainter, CardValues
from pipeline.report.frame_scores import FrameScores
from pipeline.report.positions import FacePosition, FacePositions
from pipeline.report.windows import active_column
from pipeline.vocabulary import AUS, EMOTIONS, WHOLE_FACE, Box

TEXT_BASE, TEXT_SHARE, TEXT_LEAST = 6.0, 0.0195, 12
"""Height of the letters: so many pixels and a share of the frame's shorter side (360p: 13, 4K: 48), and the least. More reads better and
covers more."""

SMALLEST_FRAME = 10
"""Least width and height of a frame with cards, in heights of their letters; smaller frames show boxes and labels alone."""

MAX_CARDS = 3
"""People with a card at a time, the largest faces first; the others keep their box and tag. More hides more of a crowd."""

HIDING = 4.0
"""What hiding a whole face, or another card, costs, where the way across the frame costs 2; more keeps cards further from faces."""

SHORTENED = 0.1
"""What a shorter card costs beside `HIDING`; less gives up bars sooner to keep faces free."""

BLUR_MARGIN = 0.35
"""The hidden oval reaches so far beyond the face's box on every side, in sides of the box; from 0.21 on it holds the box's corners."""

BLUR_CELLS = 4
"""A hidden face is reduced to so many cells across and down; fewer hide more. People are recognised from some 16 on."""


def hide_faces(image: np.ndarray, faces: list[FacePosition]) -> None:
    """Make faces unrecognisable, in place: each is reduced to a few cells of mean colour, melted into one another.

    Args:
        image: (H, W, 3) uint8.
        faces: with boxes in its pixels; parts outside are left out.
    """
    height, width = image.shape[:2]
    for face in faces:
        x0, y0, x1, y1 = face.box
        centre, half = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) * (0.5 + BLUR_MARGIN), (y1 - y0) * (0.5 + BLUR_MARGIN))
        left, top = (max(int(middle - reach), 0) for middle, reach in zip(centre, half, strict=True))
        right, bottom = min(int(centre[0] + half[0]) + 1, width), min(int(centre[1] + half[1]) + 1, height)
        if left >= right or top >= bottom:
            continue
        part = image[top:bottom, left:right]
        cells = cv2.resize(part, (BLUR_CELLS, BLUR_CELLS), interpolation=cv2.INTER_AREA)
        flat = cv2.resize(cells, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
        y, x = np.ogrid[top:bottom, left:right]
        oval = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
        part[oval] = flat[oval]


@dataclass(frozen=True)
class _Placed:
    """A card and the corner where it stands."""

    card: Card
    x: int
    y: int

    @property
    def box(self) -> Box:
        return (self.x, self.y, self.x + self.card.width, self.y + self.card.height)


def _area(box: Box) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1.0)


class Overlay:
    """Draws one video's tables into its frames, told in order of time."""

    def __init__(
        self,
        size: tuple[int, int],
        tracks: FacePositions,
        windows: pa.Table,
        regions: pa.Table,
        window_s: float,
        scores: FrameScores | None = None,
        people: Mapping[int, tuple[int, str]] | None = None,
    ) -> None:
        """Prepare for a video.

        Args:
            size: width and height of its frames.
            tracks: its faces.
            windows: from `pipeline.report.windows.window_rows`.
            regions: `track_id`, `window_index`, `time_s`, `region` and `box` of the descriptions table.
            window_s: seconds of a window.
            scores: of its frames. With them, tags and bars show the values of the moment; without, those of the window's described frame.
            people: track_id to the person's first track and name, where people are linked.
        """
        self._width, self._height = size
        self._tracks, self._window_s, self._scores = tracks, window_s, scores
        self._letters = max(TEXT_LEAST, round(TEXT_BASE + TEXT_SHARE * min(size)))
        self._line = max(2, self._letters // 7)
        self._painter = CardPainter(size, self._letters, self._line, people)
        self._body, self._small = self._painter.body, self._painter.small
        self._words = {(row["track_id"], row["window_index"]): row for row in windows.to_pylist()}
        self._regions: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for row in regions.to_pylist():
            if row["region"] != WHOLE_FACE:
                self._regions.setdefault((row["track_id"], row["window_index"]), []).append(row)
        self._units: dict[tuple[int, int], list[int]] = {}
        self._window = -1
        self._cards: dict[int, _Placed] = {}

    def draw(self, image: np.ndarray, time_s: float) -> np.ndarray:
        """A frame with what is known of its moment.

        Args:
            image: (H, W, 3) uint8 RGB.
            time_s: of the frame.

        Returns:
            The same shape; `image` itself where there is nothing to draw.
        """
        faces, near = self._tracks.at(time_s), self._tracks.at(time_s, extended=True)
        window = int(np.floor(time_s / self._window_s))
        if window != self._window:
            self._units.clear()
            self._window, self._cards = window, self._placed(window)
        cards = [self._cards[face.track_id] for face in near if face.track_id in self._cards]
        if not faces and not cards:
            return image
        picture = Image.fromarray(image)
        values = {face.track_id: self.values(face.track_id, window, time_s) for face in near}
        for face in faces:
            self._outline(picture, face, values[face.track_id])
        for placed in cards:
            card = self._painter.with_values(placed.card, values[placed.card.track_id])
            picture.paste(card, (placed.x, placed.y), card)
        return np.asarray(picture)

    def values(self, track_id: int, window: int, time_s: float | None = None) -> CardValues | None:
        """What the bars of a track's card show.

        With scores of the frames, the action units are the same in all of a window, so that a card keeps its size: those active in any of
        its frames, the surest first.

        Args:
            track_id: the track.
            window: index of the window.
            time_s: seconds; None gives the window's action units without values where the frames have scores.

        Returns:
            The values of the frame at that time, where the frames have scores; else those of the window's description; None where there is
            none.
        """
        words = self._words.get((track_id, window))
        if self._scores is None:
            if words is None:
                return None
            codes = sorted((au for au in AUS if words[active_column(au)]), key=lambda au: -words[au])
            return CardValues(words["emotion"], words[f"emotion_{words['emotion']}"], tuple((au, words[au], True) for au in codes))
        units = self._units.get((track_id, window))
        if units is None:
            units = self._units[track_id, window] = self._active_in_window(self._scores, track_id, window)
        at = None if time_s is None else self._scores.at(track_id, time_s)
        if at is None or np.isnan(self._scores.emotions[at]).any():
            return CardValues(None, None, tuple((AUS[unit], None, False) for unit in units))
        emotion = int(self._scores.emotions[at].argmax())
        now = tuple((AUS[unit], float(self._scores.aus[at, unit]), bool(self._scores.active[at, unit])) for unit in units)
        return CardValues(EMOTIONS[emotion], float(self._scores.emotions[at, emotion]), now)

    def _active_in_window(self, scores: FrameScores, track_id: int, window: int) -> list[int]:
        """Places in `AUS` of the action units that are active in any frame of a track's window, the surest first."""
        rows = scores.of(track_id)
        own = slice(*np.searchsorted(scores.start_s[rows], (window * self._window_s, (window + 1) * self._window_s)).tolist())
        peaks = np.where(scores.active[rows][own], scores.aus[rows][own], -1.0).max(axis=0, initial=-1.0)
        return [place for place in np.argsort(-peaks, kind="stable").tolist() if peaks[place] >= 0]

    def _outline(self, picture: Image.Image, face: FacePosition, values: CardValues | None) -> None:
        """A face's box with its regions and a tag."""
        draw, colour, line = ImageDraw.Draw(picture), self._painter.colour(face.track_id), self._line
        x0, y0, x1, y1 = (round(edge) for edge in face.box)
        radius = 3 * line
        rounded_box(draw, (x0 - 1, y0 - 1, x1 + 1, y1 + 1), radius, outline=BACKGROUND, width=line + 2)
        rounded_box(draw, (x0, y0, x1, y1), radius, outline=colour, width=line)
        taken: list[Box] = []
        name = self._painter.name(face.track_id)
        tag = f"{name}  {values.emotion}" if values and values.emotion else name
        self._tag(draw, tag, (x0, y0, x1, y1), colour, taken, self._body)
        boxes = self._region_boxes(face)
        for _, box in boxes:
            rounded_box(draw, box, 2 * line, outline=colour, width=max(1, line // 2))
        if x1 - x0 >= 8 * self._letters:  # names would hide a smaller face
            for name, box in boxes:
                self._tag(draw, name, box, colour, taken, self._small)

    def _region_boxes(self, face: FacePosition) -> list[tuple[str, Box]]:
        """The regions described in this window, where they lie on the face now."""
        rows = self._regions.get((face.track_id, self._window), [])
        try:
            alignment = align(face.landmarks5)
        except ValueError:
            return []
        places = place_regions(face.landmarks5, alignment)
        boxes = []
        for row in rows:
            place = places.get(row["region"]) or self._own_box(face.track_id, row)
            if place:
                boxes.append((row["region"].replace("_", " "), to_frame_box(place, alignment, self._width, self._height)))
        return boxes

    def _own_box(self, track_id: int, row: dict[str, Any]) -> Box | None:
        """A rectangle of the user's as a box of the aligned crop, by the frame in which it was described."""
        for face in self._tracks.at(row["time_s"]):
            if face.track_id == track_id:
                return to_crop_box(tuple(row["box"]), align(face.landmarks5))
        return None

    def _tag(self, draw: ImageDraw.ImageDraw, text: str, box: Box, colour: str, taken: list[Box], font: Font) -> None:
        """A name on its box's edge, where none is yet; left out where all places are taken."""
        pad = self._letters // 3
        left, top, right, bottom = draw.textbbox((0, 0), text, font)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        place = label_place(box, (width, height), (self._width, self._height), taken)
        if place:
            taken.append(place)
            rounded_box(draw, place, pad, fill=colour)
            draw.text((place[0] + pad - left, place[1] + pad - top), text, BACKGROUND, font)

    def _placed(self, window: int) -> dict[int, _Placed]:
        """Cards for the people of a window, each where it hides least, no card on another, and near where it stood before."""
        if self._width < SMALLEST_FRAME * self._letters or self._height < SMALLEST_FRAME * self._letters:
            return {}
        around = self._tracks.bounds(window * self._window_s, (window + 1) * self._window_s)
        largest = sorted(around, key=lambda key: _area(around[key]), reverse=True)
        shown = [key for key in largest if (key, window) in self._words][:MAX_CARDS]
        drawn = {key: self._painter.cards(self._words[key, window], self.values(key, window)) for key in shown}

        def arranged(order: tuple[int, ...]) -> tuple[float, dict[int, _Placed]]:
            """Each in turn at its best place."""
            total, cards = 0.0, dict[int, _Placed]()
            for key in order:
                choices = [
                    (self._cost(placed, key, around, cards) + SHORTENED * shorter, shorter, number, placed)
                    for shorter, card in enumerate(drawn[key])
                    for number, placed in enumerate(self._places(card, around[key], self._cards.get(key)))
                ]
                cost, *_, cards[key] = min(choices, key=lambda choice: choice[:3])
                total += cost
            return total, cards

        return min(map(arranged, itertools.permutations(shown)), key=lambda outcome: outcome[0])[1]

    def _places(self, card: Card, face: Box, before: _Placed | None) -> list[_Placed]:
        """Where a card may stand: where the track's last one did, around its face, and along the edges of the frame."""
        gap, edge = self._letters, self._letters // 2
        x0, y0, x1, y1 = face
        right, bottom = max(self._width - card.width - edge, edge), max(self._height - card.height - edge, edge)
        xs = (x1 + gap, x0 - gap - card.width, (x0 + x1 - card.width) / 2, *np.linspace(edge, right, 4))
        ys = (bottom, y1 + gap, y0 - 3 * gap - card.height, y0, *np.linspace(edge, bottom, 3))
        corners = [(before.x, before.box[3] - card.height)] if before else []
        corners += [(x, y) for y, x in itertools.product(ys, xs)]
        return [_Placed(card, round(min(max(x, edge), right)), round(min(max(y, edge), bottom))) for x, y in corners]

    def _cost(self, placed: _Placed, track_id: int, around: dict[int, Box], cards: dict[int, _Placed]) -> float:
        """How bad a place is: faces and cards that it hides, way to its face, way from where the track's card stood."""
        box = placed.box
        hidden = sum(overlap(box, face) / _area(face) for face in around.values())
        hidden += sum(overlap(box, other.box) > 0 for other in cards.values())
        diagonal = float(np.hypot(self._width, self._height))
        face, before = around[track_id], self._cards.get(track_id)
        across = abs(box[0] + box[2] - face[0] - face[2]) / 2  # middles, so that a card stands by its own face, not another's
        down = max(box[1] - face[3], face[1] - box[3], 0.0)  # edges, so that a tall card is not further than a short one
        way = 2 * np.hypot(across, down) / diagonal
        moved = np.hypot(box[0] - before.x, box[3] - before.box[3]) / diagonal if before else 0.0
        return float(HIDING * hidden + way + 0.5 * moved)
