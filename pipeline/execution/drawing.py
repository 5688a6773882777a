"""What every annotated picture shares: colours, fonts, rounded boxes, wrapped text and where a label goes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import ImageDraw, ImageFont

from pipeline.vocabulary import Box

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#CC79A7", "#D55E00", "#0072B2")
"""Distinguishable with any colour vision (Okabe and Ito 2008, "Color Universal Design")."""

BACKGROUND, CARD, TEXT, FAINT, TRACK = "#14171C", "#1E232B", "#F2F4F7", "#9AA4B2", "#333B47"
"""Colours of the page, of a card, of text, of less important text, and of the empty part of a bar."""


def rounded_box(
    draw: ImageDraw.ImageDraw,
    box: Sequence[float],
    radius: float,
    *,
    fill: str | None = None,
    outline: str | None = None,
    width: int = 1,
) -> None:
    """Draw a rounded rectangle of any size, also of less than a pixel.

    Pillow raises on rectangles that are smaller than their corners and lines; here both shrink with the rectangle.

    Args:
        draw: to draw on.
        box: x0, y0, x1, y1 in pixels, in any order.
        radius: of the corners, in pixels.
        fill, outline: colours; None draws none.
        width: of the outline, in pixels.
    """
    x0, x1 = sorted((round(box[0]), round(box[2])))
    y0, y1 = sorted((round(box[1]), round(box[3])))
    side = min(x1 - x0, y1 - y0) + 1
    width, radius = min(width, side // 2), min(round(radius), (side - 2) // 2)
    if width < 1:  # a line or a dot
        draw.rectangle((x0, y0, x1, y1), fill=outline or fill)
    elif radius < 1:
        draw.rectangle((x0, y0, x1, y1), fill, outline, width)
    else:
        draw.rounded_rectangle((x0, y0, x1, y1), radius, fill, outline, width)


def wrapped(draw: ImageDraw.ImageDraw, text: str, width: float, font: Font) -> list[str]:
    """A text in lines of at most `width` pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def overlap(a: Box, b: Box) -> float:
    """Pixels that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def label_place(box: Box, size: tuple[float, float], frame: tuple[int, int], taken: Sequence[Box], avoid: Sequence[Box] = ()) -> Box | None:
    """A place for a box's label at its edge: above or below, left or right, or inside.

    Args:
        box: the labelled box, in pixels.
        size: width and height of the label.
        frame: width and height of the picture.
        taken: places that are not free, such as other labels.
        avoid: boxes that the label hides only where it must, such as faces.

    Returns:
        The free place inside the picture that hides least of `avoid`; None where all are taken.
    """
    (width, height), (x0, y0, x1, y1) = size, box
    corners = [(x0, y0 - height), (x0, y1), (x1 - width, y0 - height), (x1 - width, y1), (x0, y0)]
    places = [_inside(x, y, size, frame) for x, y in corners]
    free = [place for place in places if not any(overlap(place, other) for other in taken)]
    return min(free, key=lambda place: sum(overlap(place, other) for other in avoid), default=None)


def label_place_beside(box: Box, face: Box, size: tuple[float, float], frame: tuple[int, int], taken: Sequence[Box]) -> Box | None:
    """A place for a label in a column left or right of a face, as near as possible to the labelled box; for a line to lead there.

    Args:
        box: the labelled box, in pixels.
        face: the face that it lies on.
        size, frame, taken: see `label_place`.

    Returns:
        A free place inside the picture; None where both columns are full.
    """
    width, height = size
    gap = height // 2
    middle = (box[1] + box[3] - height) / 2
    steps = range(round(frame[1] / (height + 2)) + 1)
    heights = [middle + sign * step * (height + 2) for step in steps for sign in (1, -1)]
    columns = sorted((face[0] - width - gap, face[2] + gap), key=lambda x: abs(x + width / 2 - (box[0] + box[2]) / 2))
    for y in heights:
        for x in columns:
            place = _inside(x, y, size, frame)
            if place[:2] == (x, y) and not any(overlap(place, other) for other in taken):
                return place
    return None


def leader(place: Box, box: Box) -> tuple[float, float, float, float]:
    """The line from a label beside a face to the nearer side of the labelled box: x, y of both ends."""
    y, middle = (place[1] + place[3]) / 2, (box[1] + box[3]) / 2
    return (place[2], y, box[0], middle) if place[2] <= (box[0] + box[2]) / 2 else (place[0], y, box[2], middle)


def _inside(x: float, y: float, size: tuple[float, float], frame: tuple[int, int]) -> Box:
    x, y = max(min(x, frame[0] - size[0]), 0.0), max(min(y, frame[1] - size[1]), 0.0)
    return x, y, x + size[0], y + size[1]
