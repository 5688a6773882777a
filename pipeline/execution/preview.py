"""An annotated picture: faces and regions outlined on the left, what each of them shows on the right."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.errors import VideoError
from pipeline.execution.drawing import (
    BACKGROUND,
    CARD,
    FAINT,
    PALETTE,
    TEXT,
    TRACK,
    Font,
    label_place,
    label_place_beside,
    leader,
    rounded_box,
    wrapped,
)
from pipeline.execution.images import DescribedFace, DescribedRegion
from pipeline.records import Answer
from pipeline.storage.remote import fetched
from pipeline.storage.run_folder import RunFolder
from pipeline.video.opening import open_video
from pipeline.vocabulary import AUS, CUSTOM_BOX, EMOTIONS, REGIONS, UNIT, WHOLE_FACE, Box

VIEW_HEIGHT = 720
"""Height of the scaled picture in pixels; more keeps more detail of a large picture and makes larger files."""

PANEL_WIDTH = 520
"""Width of a text card in pixels; narrower cards break sentences more often."""

CLOSE_UP = 2.0
"""A small face is shown enlarged, in a view of this many times its size; more shows more of the scene."""

PREVIEW_WITHIN_S = 120.0
"""The preview frame comes from the first seconds of a video; more may find a better frame and takes longer to decode."""

_MARGIN, _PAD, _GAP = 24, 16, 12


@dataclass(frozen=True)
class _Fonts:
    title: Font
    head: Font
    body: Font
    small: Font


def _fonts() -> _Fonts:
    return _Fonts(*(ImageFont.load_default(size=size) for size in (26, 20, 16, 14)))


def annotate(image: np.ndarray, faces: Sequence[DescribedFace], title: str = "") -> Image.Image:
    """Draw faces, their regions and their words.

    Args:
        image: (H, W, 3) uint8 RGB.
        faces: with boxes in pixels of the image.
        title: a line above the words; by default it counts the faces.

    Returns:
        An RGB picture: the image, close up where its faces are small; beside it a card for each region in the region's colour, and one
        for each face that was not readable.
    """
    fonts = _fonts()
    view = _view(image, faces)
    zoom = VIEW_HEIGHT / (view[3] - view[1])
    width = round((view[2] - view[0]) * zoom)
    picture = Image.fromarray(image).resize((width, VIEW_HEIGHT), Image.Resampling.LANCZOS, box=view)
    colours = itertools.cycle(PALETTE)
    coloured = [(number, face, [(region, next(colours)) for region in face.regions]) for number, face in enumerate(faces, 1)]
    _outline(picture, coloured, view, zoom, fonts)

    cards = [
        card
        for number, face, regions in coloured
        for card in (
            [_card(_name(number, region.region, len(faces) > 1), region, colour, fonts) for region, colour in regions]
            if face.unreadable is None
            else [_unreadable_card(_name(number, WHOLE_FACE, len(faces) > 1), face.unreadable, fonts)]
        )
    ]
    heading = title or ("No face found" if not faces else f"{len(faces)} face{'s' * (len(faces) > 1)}")
    top = _MARGIN + 26 + _GAP * 2
    columns = _columns(cards, max(VIEW_HEIGHT, max((card.height for card in cards), default=0)) - top + _MARGIN)
    panel_height = max((sum(card.height + _GAP for card in column) for column in columns), default=0) + top
    size = (
        _MARGIN * 2 + width + max(1, len(columns)) * (PANEL_WIDTH + _MARGIN),
        max(VIEW_HEIGHT + 2 * _MARGIN, panel_height + _MARGIN),
    )
    sheet = Image.new("RGB", size, BACKGROUND)
    sheet.paste(picture, (_MARGIN, _MARGIN))
    x = _MARGIN * 2 + width
    draw = ImageDraw.Draw(sheet)
    while draw.textlength(heading, fonts.title) > PANEL_WIDTH:  # a long file name loses its middle
        middle = len(heading) // 2
        heading = heading[: middle - 2] + "…" + heading[middle + 1 :]
    draw.text((x, _MARGIN), heading, TEXT, fonts.title)
    for column in columns:
        y = top
        for card in column:
            sheet.paste(card, (x, y))
            y += card.height + _GAP
        x += PANEL_WIDTH + _MARGIN
    return sheet


def _columns(cards: Sequence[Image.Image], height: int) -> list[list[Image.Image]]:
    """Cards in columns no taller than `height`."""
    columns: list[list[Image.Image]] = []
    used = height + 1
    for card in cards:
        if used + card.height > height:
            columns.append([])
            used = 0
        columns[-1].append(card)
        used += card.height + _GAP
    return columns


def _view(image: np.ndarray, faces: Sequence[DescribedFace]) -> Box:
    """The part of the image to show: all of it, or the neighbourhood of its faces where these are small."""
    height, width = image.shape[:2]
    if not faces:
        return 0, 0, width, height
    boxes = np.array([face.box for face in faces])
    x0, y0, x1, y1 = boxes[:, 0].min(), boxes[:, 1].min(), boxes[:, 2].max(), boxes[:, 3].max()
    side = max(x1 - x0, y1 - y0) * CLOSE_UP
    if side >= min(height, width):
        return 0, 0, width, height
    left = float(np.clip((x0 + x1 - side) / 2, 0, width - side))
    upper = float(np.clip((y0 + y1 - side) / 2, 0, height - side))
    return left, upper, left + side, upper + side


def _name(number: int, region: str, many: bool) -> str:
    """What a region is called, with its face's number where there are many."""
    words = region.replace("_", " ")
    return f"face {number}, {words}" if many and region != WHOLE_FACE else f"face {number}" if many else words


def _outline(
    picture: Image.Image,
    coloured: Sequence[tuple[int, DescribedFace, list[tuple[DescribedRegion, str]]]],
    view: Box,
    zoom: float,
    fonts: _Fonts,
) -> None:
    """Outline faces and regions, each with its name where there is room."""
    draw = ImageDraw.Draw(picture)

    def placed(box: Box) -> tuple[int, int, int, int]:
        x0, y0, x1, y1 = ((value - origin) * zoom for value, origin in zip(box, (view[0], view[1]) * 2, strict=True))
        return round(x0), round(y0), round(x1), round(y1)

    many = len(coloured) > 1
    labels: list[tuple[Box, Box, str, str]] = []
    for number, face, regions in coloured:
        rounded_box(draw, placed(face.box), 6, outline="#FFFFFF", width=2)
        for region, colour in regions:
            x0, y0, x1, y1 = placed(region.box)
            rounded_box(draw, (x0 - 1, y0 - 1, x1 + 1, y1 + 1), 6, outline=BACKGROUND, width=5)
            rounded_box(draw, (x0, y0, x1, y1), 5, outline=colour, width=3)
            labels.append((placed(face.box), (x0, y0, x1, y1), _name(number, region.region, many), colour))
    taken: list[Box] = []
    faces = [placed(face.box) for _, face, _ in coloured]
    for face_box, box, name, colour in labels:  # after all outlines, so that no outline crosses a label
        size = draw.textlength(name, fonts.small) + 12, 22
        place = label_place(box, size, picture.size, taken, faces)
        if place is None:
            place = label_place_beside(box, face_box, size, picture.size, [*taken, *faces])
            if place is None:
                continue  # the card in the same colour names the region
            draw.line(leader(place, box), colour, 1)
        taken.append(place)
        rounded_box(draw, place, 5, fill=colour)
        draw.text((place[0] + 6, place[1] + 3), name, BACKGROUND, fonts.small)


def _card(name: str, region: DescribedRegion, colour: str, fonts: _Fonts) -> Image.Image:
    """What one region shows."""
    answer = region.answer
    width, inner = PANEL_WIDTH, PANEL_WIDTH - 2 * _PAD - 6
    sheet = Image.new("RGB", (width, 600), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    sentence = wrapped(draw, answer.description, inner, fonts.body)
    units = sorted(answer.aus, key=lambda au: -answer.au_scores.get(au, 0.0))
    height = _PAD + 30 + 24 * len(sentence) + (10 + 24 * len(units) if units else 0) + 10 + 26 + _PAD - 6
    rounded_box(draw, (0, 0, width - 1, height - 1), 10, fill=CARD)
    rounded_box(draw, (0, 0, 8, height - 1), 4, fill=colour)
    x, y = _PAD + 6, _PAD - 2
    draw.text((x, y), name, colour, fonts.head)
    age = f"age {answer.age:.0f}" + ("" if answer.age_low is None else f"  ({answer.age_low:.0f} to {answer.age_high:.0f})")
    draw.text((width - _PAD - draw.textlength(age, fonts.small), y + 4), age, FAINT, fonts.small)
    y += 32
    for line in sentence:
        draw.text((x, y), line, TEXT, fonts.body)
        y += 24
    y += 10 if units else 0
    for au in units:
        _bar(draw, (x, y), inner, f"{au} {UNIT[au].name}", answer.au_scores.get(au), colour, fonts.small)
        y += 24
    y += 10
    ranked = sorted(answer.emotion_scores.items(), key=lambda item: -item[1])[:3]
    draw.text((x, y), answer.emotion, TEXT, fonts.body)
    if ranked:
        draw.text((x + draw.textlength(answer.emotion + "  ", fonts.body), y + 2), f"{ranked[0][1]:.2f}", TEXT, fonts.small)
    rest = "    ".join(f"{emotion} {score:.2f}" for emotion, score in ranked[1:])
    draw.text((width - _PAD - draw.textlength(rest, fonts.small), y + 2), rest, FAINT, fonts.small)
    return sheet.crop((0, 0, width, height))


def _unreadable_card(name: str, why: str, fonts: _Fonts) -> Image.Image:
    """Why nothing is said about a face."""
    height = _PAD * 2 + 54
    sheet = Image.new("RGB", (PANEL_WIDTH, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    rounded_box(draw, (0, 0, PANEL_WIDTH - 1, height - 1), 10, fill=CARD)
    draw.text((_PAD + 6, _PAD - 2), name, "#FFFFFF", fonts.head)
    draw.text((_PAD + 6, _PAD + 30), f"Not readable ({why}): what the face shows is unknown.", TEXT, fonts.body)
    return sheet


def _bar(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    width: int,
    label: str,
    score: float | None,
    colour: str,
    font: Font,
) -> None:
    x, y = at
    start, end = x + 210, x + width - 44
    draw.text((x, y), label, FAINT, font)
    if score is None:
        return
    rounded_box(draw, (start, y + 4, end, y + 14), 5, fill=TRACK)
    rounded_box(draw, (start, y + 4, max(start + 10, start + (end - start) * score), y + 14), 5, fill=colour)
    draw.text((end + 10, y), f"{score:.2f}", FAINT, font)


def preview(folder: RunFolder) -> Path | None:
    """Draw one telling frame of a run to `preview.png` in its folder: sharp, frontal, with much described.

    Returns:
        The file; None where the run described nothing, or the frame is not to be had any more.
    """
    described: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in folder.read("descriptions").to_pylist():
        if row["time_s"] < PREVIEW_WITHIN_S:
            described.setdefault((row["video_id"], row["frame_index"]), []).append(row)
    faces: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in folder.read("faces").to_pylist():
        if (key := (row["video_id"], row["frame_index"])) in described:
            faces.setdefault(key, []).append(row)
    if not described:
        return None

    def worth(key: tuple[str, int]) -> float:
        shown = {row["track_id"] for row in described[key]}
        looks = [face for face in faces[key] if face["track_id"] in shown]
        turned = sum(abs(face["yaw"]) + abs(face["pitch"]) for face in looks) / len(looks)
        sharp = sum(face["sharpness"] for face in looks) / len(looks)
        units = sum(len(row["aus"]) > 0 for row in described[key])
        return min(len(described[key]), 4) + min(units, 3) - turned / 20 + sharp / (sharp + 500)

    best = max(described, key=lambda key: (worth(key), key))
    (path,) = (row["path"] for row in folder.read("videos").to_pylist() if row["video_id"] == best[0])
    try:
        with fetched(path) as file, open_video(file, decoder="pyav") as video:
            frame = next(video.pick([best[1]], {best[1]: described[best][0]["time_s"]}), None)
    except VideoError:
        frame = None
    if frame is None:
        return None
    rows = sorted(described[best], key=lambda row: (*REGIONS, CUSTOM_BOX).index(row["region"]))
    people = [
        DescribedFace(
            tuple(face["box"]),
            face["det_score"] or 0.0,
            np.reshape(face["landmarks5"], (5, 2)),
            tuple(_region(row) for row in rows if row["track_id"] == face["track_id"]),
        )
        for face in faces[best]
    ]
    picture = folder.path / "preview.png"
    annotate(frame.image, people, f"{Path(path).name} at {frame.time_s:.2f} s").save(picture, compress_level=4)
    return picture


def _region(row: dict[str, Any]) -> DescribedRegion:
    """A row of the descriptions table as the answer that it was made of."""
    answer = Answer(
        au_scores={au: row[au] for au in AUS if row[au] is not None},
        aus=tuple(row["aus"]),
        emotion_scores={name: row[f"emotion_{name}"] for name in EMOTIONS if row[f"emotion_{name}"] is not None},
        **{name: row[name] for name in ("emotion", "age", "age_low", "age_high", "description")},
    )
    return DescribedRegion(row["region"], tuple(row["box"]), answer)
