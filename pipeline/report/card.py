"""The card of an annotated video: what is said of one person in one window, and bars for an emotion and action units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pipeline.execution.drawing import CARD, FAINT, PALETTE, TEXT, TRACK, rounded_box, wrapped
from pipeline.vocabulary import UNIT

CARD_LETTERS, CARD_LEAST = 20, 15
"""Width of a card in heights of its letters, and the least for two side by side; less makes cards taller."""

CARD_OPACITY = 0.8
"""Opacity of a card's ground, 0 to 1; less shows more of what is behind and reads worse."""

MAX_UNITS = 4
"""Action units in a card, the most probable first; more makes cards taller."""

UNREAD = "not readable"
"""Stands in place of the emotion while a face cannot be read."""


def track_colour(track_id: int) -> str:
    """The colour of a track's box and card."""
    return PALETTE[(track_id - 1) % len(PALETTE)]


@dataclass(frozen=True)
class CardValues:
    """What the bars of a card show.

    Attributes:
        emotion, emotion_score: the most probable one; None while the face cannot be read.
        units: code, probability (None while unknown) and whether it is active, of each action unit that the card has a bar for.
    """

    emotion: str | None
    emotion_score: float | None
    units: tuple[tuple[str, float | None, bool], ...]


@dataclass(frozen=True)
class Card:
    """A card without the values of its bars.

    Attributes:
        track_id: whose card it is.
        ground: the card with its words, RGBA.
        values_y: where the bars begin, in pixels from its top.
        bars: how many action units have a bar; with none, their codes stand in one line.
    """

    track_id: int
    ground: Image.Image
    values_y: int
    bars: int

    @property
    def width(self) -> int:
        return self.ground.width

    @property
    def height(self) -> int:
        return self.ground.height


class CardPainter:
    """Draws cards for the frames of one video."""

    def __init__(self, size: tuple[int, int], letters: int, line: int, people: Mapping[int, tuple[int, str]] | None = None) -> None:
        """Prepare for a video.

        Args:
            size: width and height of its frames, pixels.
            letters: height of the letters, pixels.
            line: width of lines, pixels.
            people: track_id to the person's first track and name, where people are linked; all tracks of a person have one colour.
        """
        self._people = people or {}
        self._width, self._height = size
        self._letters, self._line = letters, line
        self._pad, self._step = round(0.8 * letters), round(1.45 * letters)
        self.body, self.small = (ImageFont.load_default(size=round(letters * share)) for share in (1.0, 0.9))
        width = min(CARD_LETTERS * letters, self._width - 2 * letters)
        beside = (self._width - 3 * letters) // 2  # two cards stand side by side where that leaves them wide enough to read
        self._card_width = beside if CARD_LEAST * letters <= beside < width else width
        self._ground = lru_cache(maxsize=16)(self._empty)

    def colour(self, track_id: int) -> str:
        """The colour of a track's box and card; that of the person's first track where people are linked."""
        return track_colour(self._people[track_id][0] if track_id in self._people else track_id)

    def name(self, track_id: int, prefix: str = "") -> str:
        """The person's name where people are linked, else the track's number after a prefix."""
        return self._people[track_id][1] if track_id in self._people else f"{prefix}{track_id}"

    def cards(self, words: dict[str, Any], values: CardValues | None) -> list[Card]:
        """A person's card in one window, with bars and with one line of codes in their place.

        Args:
            words: a row of `pipeline.report.windows.window_rows`.
            values: whose action units get bars.
        """
        return [self._card(words, values, bars) for bars in (MAX_UNITS, 0)]

    def with_values(self, card: Card, values: CardValues | None) -> Image.Image:
        """The card with its bars."""
        if values is None:
            return card.ground
        picture = card.ground.copy()
        draw = ImageDraw.Draw(picture)
        x, y, inner = self._pad + self._line, card.values_y, self._card_width - 2 * self._pad - self._line
        if not card.bars:
            codes = [au for au, _, active in values.units if active]
            draw.text((x, y), "  ".join(codes[:MAX_UNITS]), FAINT, self.small)
            return picture
        self._bar(draw, (x, y, inner), values.emotion or UNREAD, values.emotion_score, TEXT, TEXT)
        for place, (au, score, active) in enumerate(values.units[: card.bars], 1):
            colour = self.colour(card.track_id) if active else FAINT
            self._bar(draw, (x, y + place * self._step, inner), f"{au}  {UNIT[au].name}", score, FAINT, colour)
        return picture

    def _card(self, words: dict[str, Any], values: CardValues | None, bars: int) -> Card:
        letters, pad, width = self._letters, self._pad, self._card_width
        colour = self.colour(words["track_id"])
        sheet = Image.new("RGBA", (width, self._height))
        draw = ImageDraw.Draw(sheet)
        x, y, inner = pad + self._line, pad, width - 2 * pad - self._line
        age = f"age {words['age']:.0f}"
        if words["age_low"] is not None and words["age_high"] is not None:
            age += f" ({words['age_low']:.0f} to {words['age_high']:.0f})"
        draw.text((x, y), self.name(words["track_id"], "person "), colour, self.body)
        draw.text((width - pad - draw.textlength(age, self.small), y + 0.1 * letters), age, FAINT, self.small)
        y += self._step
        for text in wrapped(draw, words["description"], inner, self.body):
            draw.text((x, y), text, TEXT, self.body)
            y += round(1.3 * letters)
        units = len(values.units) if values else 0
        y += letters // 2 if bars else 0
        lines = 1 + min(units, bars) if bars else min(units, 1)
        ground = self._ground((width, min(y + lines * self._step + pad // 2, self._height)), colour)
        return Card(words["track_id"], Image.alpha_composite(ground, sheet.crop((0, 0, *ground.size))), y, bars)

    def _empty(self, size: tuple[int, int], colour: str) -> Image.Image:
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

    def _bar(
        self, draw: ImageDraw.ImageDraw, at: tuple[float, float, float], label: str, score: float | None, words: str, colour: str
    ) -> None:
        """A score from 0 to 1: name, bar, figure. `at` is x, y and the whole width; no score leaves the bar empty."""
        x, y, width = at
        thick = max(4, self._letters // 3)
        figure = "-" if score is None else f"{score:.2f}"
        end = x + width - draw.textlength("0.00", self.small) - self._letters * 0.5
        start = x + 0.68 * width
        middle = y + 0.62 * self._letters
        while len(label) > 1 and draw.textlength(label, self.small) > start - x - self._letters * 0.3:
            label = label[:-2].rstrip() + "…"
        draw.text((x, y), label, words, self.small)
        rounded_box(draw, (start, middle - thick / 2, end, middle + thick / 2), thick / 2, fill=TRACK)
        if score is not None:
            reach = max(start + thick, start + (end - start) * min(max(score, 0.0), 1.0))
            rounded_box(draw, (start, middle - thick / 2, reach, middle + thick / 2), thick / 2, fill=colour)
        draw.text((x + width - draw.textlength(figure, self.small), y), figure, FAINT, self.small)
