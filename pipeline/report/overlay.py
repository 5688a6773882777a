"""What is drawn into the frames of an annotated video: faces hidden or outlined, their regions, and a card of words for each person."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw, ImageFont

from pipeline.execution.drawing import BACKGROUND, CARD, FAINT, PALETTE, TEXT, TRACK, Font, label_place, overlap, rounded_box, wrapped
from pipeline.faces.alignment import align
from pipeline.regions.placement import place_regions, to_crop_box, to_frame_box
from pipeline.report.positions import FacePosition, FacePositions
from pipeline.report.windows import active_column
from pipeline.vocabulary import AUS, UNIT, WHOLE_FACE, Box

TEXT_BASE, TEXT_SHARE, TEXT_LEAST = 6.0, 0.0195, 12
"""Height of the letters: so many pixels and a share of the frame's shorter side (360p: 13, 4K: 48), and the least. More reads better and
covers more."""

CARD_LETTERS, CARD_LEAST = 20, 15
"""Width of a card in heights of its letters, and the least for two side by side; less makes cards taller."""

SMALLEST_FRAME = 10
"""Least width and height of a frame with cards, in heights of their letters; smaller frames show boxes and labels alone."""

CARD_OPACITY = 0.8
"""Of a card's ground, 0 to 1; less shows more of what is behind and reads worse."""

MAX_CARDS = 3
"""People with a card at a time, the largest faces first; the others keep their box and tag. More hides more of a crowd."""

MAX_UNITS = 4
"""Action units in a card, the most probable first; more makes cards taller."""

HIDING = 4.0
"""What hiding a whole face, or another card, costs, where the way across the frame costs 2; more keeps cards further from faces."""

SHORTENED = 0.1
"""What a shorter card costs beside `HIDING`; less gives up bars sooner to keep faces free."""

BLUR_MARGIN = 0.3
"""The hidden oval reaches so far beyond the face's box on every side, in sides of the box; from 0.21 on it holds the box's corners."""

BLUR_CELLS = 6
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

    card: Image.Image
    x: int
    y: int

    @property
    def box(self) -> Box:
        return (self.x, self.y, self.x + self.card.width, self.y + self.card.height)


def _area(box: Box) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1.0)


def _colour(track_id: int) -> str:
    return PALETTE[(track_id - 1) % len(PALETTE)]


class Overlay:
    """Draws one video's tables into its frames, told in order of time."""

    def __init__(self, size: tuple[int, int], tracks: FacePositions, windows: pa.Table, regions: pa.Table, window_s: float) -> None:
        """Prepare for a video.

        Args:
            size: width and height of its frames.
            tracks: its faces.
            windows: from `pipeline.report.windows.window_rows`.
            regions: `track_id`, `window_index`, `time_s`, `region` and `box` of the descriptions table.
            window_s: seconds of a window.
        """
        self._width, self._height = size
        self._tracks, self._window_s = tracks, window_s
        self._letters = max(TEXT_LEAST, round(TEXT_BASE + TEXT_SHARE * min(size)))
        self._line = max(2, self._letters // 7)
        self._body, self._small = (ImageFont.load_default(size=round(self._letters * share)) for share in (1.0, 0.9))
        self._words = {(row["track_id"], row["window_index"]): row for row in windows.to_pylist()}
        self._regions: dict[tuple[int, int], list[dict[str, Any]]] = {}
        for row in regions.to_pylist():
            if row["region"] != WHOLE_FACE:
                self._regions.setdefault((row["track_id"], row["window_index"]), []).append(row)
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
            self._window, self._cards = window, self._placed(window)
        cards = [self._cards[face.track_id] for face in near if face.track_id in self._cards]
        if not faces and not cards:
            return image
        picture = Image.fromarray(image)
        for face in faces:
            self._outline(picture, face, self._words.get((face.track_id, window)))
        for placed in cards:
            picture.paste(placed.card, (placed.x, placed.y), placed.card)
        return np.asarray(picture)

    def _outline(self, picture: Image.Image, face: FacePosition, words: dict[str, Any] | None) -> None:
        """A face's box with its regions and a tag."""
        draw, colour, line = ImageDraw.Draw(picture), _colour(face.track_id), self._line
        x0, y0, x1, y1 = (round(edge) for edge in face.box)
        radius = 3 * line
        rounded_box(draw, (x0 - 1, y0 - 1, x1 + 1, y1 + 1), radius, outline=BACKGROUND, width=line + 2)
        rounded_box(draw, (x0, y0, x1, y1), radius, outline=colour, width=line)
        taken: list[Box] = []
        tag = f"{face.track_id}  {words['emotion']}" if words else f"{face.track_id}"
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
        drawn = {key: [self._card(self._words[key, window], units) for units in (MAX_UNITS, 0)] for key in shown}

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

    def _places(self, card: Image.Image, face: Box, before: _Placed | None) -> list[_Placed]:
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

    def _card(self, words: dict[str, Any], units: int) -> Image.Image:
        """What is said of one person in one window, with bars for at most `units` action units; with none, their codes alone."""
        letters, colour = self._letters, _colour(words["track_id"])
        pad, step = round(0.8 * letters), round(1.45 * letters)
        width = min(CARD_LETTERS * letters, self._width - 2 * letters)
        beside = (self._width - 3 * letters) // 2  # two cards stand side by side where that leaves them wide enough to read
        width = beside if CARD_LEAST * letters <= beside < width else width
        sheet = Image.new("RGBA", (width, self._height))
        draw = ImageDraw.Draw(sheet)
        x, y, inner = pad + self._line, pad, width - 2 * pad - self._line
        age = f"age {words['age']:.0f} ({words['age_low']:.0f} to {words['age_high']:.0f})"
        draw.text((x, y), f"person {words['track_id']}", colour, self._body)
        draw.text((width - pad - draw.textlength(age, self._small), y + 0.1 * letters), age, FAINT, self._small)
        y += step
        for text in wrapped(draw, words["description"], inner, self._body):
            draw.text((x, y), text, TEXT, self._body)
            y += round(1.3 * letters)
        codes = sorted((au for au in AUS if words[active_column(au)]), key=lambda au: -words[au])
        if units:
            y += letters // 2
            self._bar(draw, (x, y, inner), words["emotion"], words[f"emotion_{words['emotion']}"], TEXT)
            y += step
        elif codes:
            draw.text((x, y), "  ".join(codes[:MAX_UNITS]), FAINT, self._small)
            y += step
        for au in codes[:units]:
            self._bar(draw, (x, y, inner), f"{au}  {UNIT[au].name}", words[au], colour)
            y += step
        card = sheet.crop((0, 0, width, min(y + pad // 2, self._height)))
        ground = self._ground(card.size, colour)
        return Image.alpha_composite(ground, card)

    def _ground(self, size: tuple[int, int], colour: str) -> Image.Image:
        """An empty card: rounded, half transparent, with the person's colour on its left edge."""
        fine = 4  # drawn larger and shrunk, so that its corners are smooth
        mask = Image.new("L", (size[0] * fine, size[1] * fine))
        rounded_box(ImageDraw.Draw(mask), (0, 0, mask.width - 1, mask.height - 1), self._letters * fine // 2, fill="#FFFFFF")
        mask = mask.resize(size, Image.Resampling.LANCZOS)
        opaque = Image.new("L", size, round(255 * CARD_OPACITY))
        ground = Image.new("RGBA", size, CARD)
        edge = ImageDraw.Draw(ground)
        edge.rectangle((0, 0, self._line, size[1]), fill=colour)
        ImageDraw.Draw(opaque).rectangle((0, 0, self._line, size[1]), fill=255)
        ground.putalpha(Image.composite(opaque, Image.new("L", size), mask))
        return ground

    def _bar(self, draw: ImageDraw.ImageDraw, at: tuple[float, float, float], label: str, score: float, colour: str) -> None:
        """A score from 0 to 1: name, bar, figure. `at` is x, y and the whole width."""
        x, y, width = at
        thick = max(4, self._letters // 3)
        figure = f"{score:.2f}"
        end = x + width - draw.textlength(figure, self._small) - self._letters * 0.5
        start = x + 0.68 * width
        middle = y + 0.62 * self._letters
        while len(label) > 1 and draw.textlength(label, self._small) > start - x - self._letters * 0.3:
            label = label[:-2].rstrip() + "…"
        draw.text((x, y), label, FAINT if colour != TEXT else TEXT, self._small)
        rounded_box(draw, (start, middle - thick / 2, end, middle + thick / 2), thick / 2, fill=TRACK)
        reach = max(start + thick, start + (end - start) * min(max(score, 0.0), 1.0))
        rounded_box(draw, (start, middle - thick / 2, reach, middle + thick / 2), thick / 2, fill=colour)
        draw.text((x + width - draw.textlength(figure, self._small), y), figure, FAINT, self._small)
