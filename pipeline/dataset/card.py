"""What a person looks at in a dataset: its card, and a contact sheet of faces with their boxes and sentences."""

from __future__ import annotations

import io
import json
import random
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from PIL import Image, ImageDraw, ImageFont

from pipeline.dataset.boxes import KINDS
from pipeline.dataset.labels import MAX_AGE
from pipeline.dataset.schema import INFO
from pipeline.errors import FocalfaceError
from pipeline.faces.alignment import CROP_SIZE
from pipeline.vocabulary import AUS, EMOTIONS, REGIONS, UNIT

SHEET = "sheet.png"
"""File name of the contact sheet in a dataset folder."""

COLUMNS = 3
"""Faces beside one another on the sheet."""

BOXES_SHOWN = 4
"""Boxes drawn on a face; more hide it."""

ZOOM = 3
"""Screen pixels for each pixel of an aligned face."""

_PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442")  # Okabe and Ito 2008: told apart with any colour vision
_GROUND, _CARD, _INK, _FAINT = "#14171C", "#1E232B", "#F2F4F7", "#9AA4B2"
_GAP, _PAD, _TEXT_WIDTH, _LETTERS, _LINE = 18, 16, 400, 50, 20


def load_info(folder: Path) -> dict[str, Any]:
    """The content of a dataset folder's `dataset.json`.

    Raises:
        FocalfaceError: the folder is not a dataset.
    """
    try:
        return dict(json.loads((folder / INFO).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise FocalfaceError(f"{folder} is not a dataset: give a folder that `focalface dataset build` made") from error


def contact_sheet(folder: Path, count: int = 24, seed: int = 0) -> Image.Image:
    """Draw some faces of a dataset, each with boxes of several kinds and their sentences.

    Args:
        folder: a dataset folder.
        count: faces to show, or all if there are fewer.
        seed: decides which faces, and which of their boxes.

    Raises:
        FocalfaceError: the folder is not a dataset.
    """
    load_info(folder)
    chance = random.Random(seed)
    files = [pq.ParquetFile(path) for path in sorted(folder.glob("*/part-*.parquet"))]
    places = [(file, row) for file in range(len(files)) for row in range(files[file].metadata.num_rows)]
    if not places:
        raise FocalfaceError(f"{folder} holds no faces: build it again with `focalface dataset build`")
    chosen = sorted(chance.sample(places, min(count, len(places))))
    cards = [_face_card(_row(files[file], row), chance) for file, row in chosen]
    chance.shuffle(cards)
    width, height = cards[0].size
    columns, rows = min(COLUMNS, len(cards)), -(-len(cards) // COLUMNS)
    sheet = Image.new("RGB", (columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP), _GROUND)
    for i, card in enumerate(cards):
        sheet.paste(card, (_GAP + i % COLUMNS * (width + _GAP), _GAP + i // COLUMNS * (height + _GAP)))
    return sheet


def _row(file: pq.ParquetFile, row: int) -> dict[str, Any]:
    """One row of a Parquet file; only its row group is read."""
    group = 0
    while row >= (here := file.metadata.row_group(group).num_rows):
        row, group = row - here, group + 1
    (values,) = file.read_row_group(group).slice(row, 1).to_pylist()
    return dict(values)


def _shown(regions: list[dict[str, Any]], chance: random.Random) -> list[dict[str, Any]]:
    """A few boxes of one face, each of a different kind and of a different region."""
    kinds = ["whole", "empty"][: chance.randint(0, 2)]
    kinds += chance.sample([kind for kind in KINDS if kind not in ("whole", "empty")], BOXES_SHOWN - len(kinds))
    shown: list[dict[str, Any]] = []
    for kind in sorted(kinds, key=KINDS.index):
        taken = {region["region"] for region in shown if region["region"] != "box"}
        fitting = [region for region in regions if region["kind"] == kind and region["region"] not in taken]
        # Boxes with an active unit are preferred: most boxes are at rest.
        fitting.sort(key=lambda region: chance.random() - 0.7 * bool(region["aus"]))
        shown += fitting[:1]
    return shown


def _face_card(row: Mapping[str, Any], chance: random.Random) -> Image.Image:
    """One face with some of its boxes on the left, their sentences on the right."""
    head, body, small = (ImageFont.load_default(size=size) for size in (17, 15, 13))
    side = CROP_SIZE * ZOOM
    card = Image.new("RGB", (side + _TEXT_WIDTH + 3 * _PAD, side + 2 * _PAD), _CARD)
    face = Image.open(io.BytesIO(row["image"])).convert("RGB")
    margin = (face.width - CROP_SIZE) // 2
    face = face.crop((margin, margin, margin + CROP_SIZE, margin + CROP_SIZE)).resize((side, side), Image.Resampling.LANCZOS)
    outline, draw = ImageDraw.Draw(face), ImageDraw.Draw(card)
    known = [row["emotion"] or "no emotion label", "no age label" if row["age"] is None else f"age {row['age']:.0f}"]
    x, y = side + 2 * _PAD, _PAD - 4
    draw.text((x, y), ", ".join(known), _INK, head)
    draw.text((x, y + 23), f"{row['source']}   {row['split']}", _FAINT, small)
    y += 52
    for region, colour in zip(_shown(row["regions"], chance), _PALETTE, strict=False):
        lines = textwrap.wrap(region["description"], _LETTERS) or ["(no sentence: nothing is known)"]
        if y + _LINE * (1 + len(lines)) > card.height:
            continue
        x0, y0, x1, y1 = (round(value * ZOOM) for value in region["box"])
        outline.rectangle((x0, y0, x1 - 1, y1 - 1), outline=_GROUND, width=5)
        outline.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), outline=colour, width=3)
        name = region["region"].replace("_", " ")
        title = name if region["kind"] in ("named", "joined") else f"{name}, {region['kind']}"
        draw.rectangle((x, y + 3, x + 11, y + 14), fill=colour)
        draw.text((x + 18, y), title, colour, body)
        units = " ".join(region["aus"]) or ("none active" if region["visible"] else "none known")
        draw.text((x + _TEXT_WIDTH - draw.textlength(units, small), y + 1), units, _FAINT, small)
        y += _LINE
        for line in lines:
            draw.text((x, y), line, _INK, body)
            y += _LINE
        y += 9
    card.paste(face, (_PAD, _PAD))
    return card


def card_text(info: Mapping[str, Any]) -> str:
    """The card of a dataset (README.md).

    Args:
        info: the content of `dataset.json`.
    """
    counts: dict[str, dict[str, dict[str, int]]] = info["counts"]

    def names(what: str, order: Iterable[str] = ()) -> list[str]:
        there = {name for split in counts.values() for name in split.get(what, {})}
        return [name for name in order if name in there] + sorted(there - set(order))

    def table(heading: str, what: str, order: Iterable[str] = ()) -> str:
        rows = [[name, *(f"{split.get(what, {}).get(name, 0):,}" for split in counts.values())] for name in names(what, order)]
        return _table([heading, *counts], rows)

    def shares(au: str, active: str, of: str) -> list[str]:
        return [f"{split.get(active, {}).get(au, 0):,} of {split.get(of, {}).get(au, 0):,}" for split in counts.values()]

    units = [
        [au, UNIT[au].name, *shares(au, "aus", "aus_known"), *shares(au, "region_aus", "region_visible")] for au in names("aus_known", AUS)
    ]
    sizes = [[name, *(f"{sum(split.get(what, {}).values()):,}" for split in counts.values())] for name, what in _SIZES.items()]
    sources = ", ".join(_source(part) for part in info["sources"])
    boxes = ", ".join(f"{name} {number}" for name, number in info["settings"]["boxes"].items())
    notes = [f"- {text}." for text in info["warnings"]]
    notes += [f"- {info['skipped']:,} rows gave no face; `dataset.json` says why."] if info["skipped"] else []
    parts = [
        "# A region-level dataset of faces",
        "Many boxes of each face, each with the action units that the box can show, the face's emotion and age, and a sentence that "
        f"says them. Built by focalface {info['focalface']} with seed {info['seed']} from {sources}; for each face: {boxes}.",
        f"![Faces with some of their boxes and sentences]({SHEET})",
        _table(["", *counts], sizes),
        "\n".join(notes),
        "## What is in it",
        table("faces by source", "faces"),
        table("faces by emotion", "emotions", EMOTIONS),
        table("faces by recorded age", "ages", [f"{decade}s" for decade in range(0, MAX_AGE + 1, 10)]),
        table("faces with further labels", "evidence"),
        table("boxes by kind", "kinds", KINDS),
        table("boxes by region", "regions", REGIONS),
        table("dialogues by turns", "dialogues"),
    ]
    if units:
        parts += [
            "Action units: active, out of the faces (or boxes) for which the labels know the unit.",
            _table(["unit", "name", *(f"{split} faces" for split in counts), *(f"{split} boxes that show it" for split in counts)], units),
        ]
    return "\n\n".join([*filter(None, parts), _ABOUT]) + "\n"


def _source(part: Mapping[str, Any]) -> str:
    """One source: its file, how many of its rows gave a face, and the file of its labels."""
    labels = f", labels from `{part['labels']}`" if "labels" in part else ""
    return f"`{part['file']}` ({part['faces']:,} of {part['rows']:,} rows{labels})"


def _table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_SIZES = {"faces": "faces", "boxes": "kinds", "dialogues": "dialogues"}

_ABOUT = """## How to read it
`train/` and `val/` hold Parquet files; one row is one face. `image` is a JPEG of the aligned face with ten pixels around it; boxes and
landmarks are in pixels of the aligned crop, without those ten. Every column has its meaning in the schema's field metadata.

- `aus_known` are the action units whose state the labels know for this face; `aus` are the active ones. A unit that is not in `aus_known`
  is unknown, not absent. `au_prob` and `au_intensities` follow the order of `aus_known`.
- `emotion` is one label, `emotion_votes` the shares of the annotators (anger, disgust, fear, happiness, neutral, sadness, surprise).
- `age` is recorded; `age_guess` is another model's estimate and weaker evidence. Ages over 100 are stored as 100.
- `sex` and `group` serve to measure error by group. They are never to be predicted.
- `regions` are the boxes: `kind` says how a box was drawn, `region` by which name it is asked for (`box`: by its place alone), `visible`
  which of the known units it can show, `aus` which of them are active, `description` says it in a sentence.
- `dialogues` are orders in which boxes of one face are asked about. A face's boxes and sentences follow from the seed and its
  `image_id` alone.

Kinds of boxes:

- whole: the face, from forehead to chin. named, joined: a region as the pipeline places it. Each edge has a small error.
- jittered: a region shifted, stretched and padded; it keeps its name while it still overlaps the region well. random: any rectangle.
- empty: background, hair, a sliver of skin: nothing to see. Other boxes can turn out without a visible unit, too.

## Where the labels come from
The labels are those of the sources, unchanged but for spelling, and for two pairs of units that exclude each other: where labels name a
dropped jaw (AU26) or lowered eyes (AU64) and give AU27 or AU43 an intensity of 2.5 or more, that unit stands, as the pictures show it; an
AU27 of less counts as unknown. The list at the top counts these faces. Which unit a box can show follows from the muscle areas of the
vocabulary, and the sentences from the labels: what the labels do not know, no sentence says. Look up in the documentation of each source
who or what made its labels. Machine labels of action units are not those of a certified FACS coder.

## Limits
- A unit of the face counts as active on both sides, also in a box that holds one side; one-sided action is not labelled.
- Emotion and age are those of the whole face, in each of its boxes.
- Areas are those of an upright, frontal face after alignment; on a face in profile a box may show less than its labels say.
- The sources' faces are not a fair sample of people; emotions and ages are uneven, as the tables show.

## Use
For research. The pictures belong to their collections; read their terms before you pass any on."""
