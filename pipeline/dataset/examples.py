"""From one labelled face to one row of the dataset: its aligned picture, its boxes, and the labels and sentence of each box."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import cv2
import numpy as np

from pipeline.dataset.boxes import Counts, DrawnRegion, draw_dialogues, draw_regions
from pipeline.dataset.schema import MARGIN
from pipeline.dataset.source import LabelledFace
from pipeline.describe.grammar import AGE_CHOICES
from pipeline.describe.sentences import compose
from pipeline.faces.alignment import crop
from pipeline.regions.placement import place_regions, to_crop_box
from pipeline.vocabulary import SINGLE_REGIONS, Box

JPEG_QUALITY = 92
"""JPEG quality of the aligned faces; higher makes the files larger and cannot restore what the sources lost."""

ENOUGH_KNOWN = 0.5
"""A region is said to be at rest only where the labels know at least this share of the units that it can show, and no active unit
is even glimpsed in it."""

OLDEST = float(len(AGE_CHOICES) - 1)
"""Greatest age that a describer can answer; older people count as this old."""


def example(face: LabelledFace, counts: Counts, seed: int) -> dict[str, Any]:
    """The row of `pipeline.dataset.schema.SCHEMA` for a face.

    Args:
        face: the labelled face.
        counts: boxes of each kind.
        seed: decides boxes and sentences, together with the face's `image_id`.
    """
    chance = random.Random(hashlib.sha256(f"{seed}/{face.image_id}".encode()).digest())
    alignment = face.alignment
    picture = crop(face.image, alignment, margin=MARGIN)
    if picture.ndim == 3 and (picture == picture[..., :1]).all():
        picture = picture[..., 0]
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    placed = place_regions(face.landmarks5, alignment, padding=0)
    given = {name: to_crop_box(box, alignment) for name, box in face.tight.items()}
    tight: dict[str, Box] = {name: given.get(name) or placed[name] for name in SINGLE_REGIONS}
    age = _stored_age(face.age)
    drawn = draw_regions(tight, counts, chance)
    regions = [_described(face, age, region, chance) for region in drawn]
    usable = [i for i, region in enumerate(regions) if region["description"]]
    units = face.units
    return {
        "image_id": face.image_id,
        "source": face.source,
        "split": face.split,
        "image": data.tobytes(),
        "emotion": face.emotion,
        "emotion_votes": face.emotion_votes,
        "age": age,
        "age_guess": _stored_age(face.age_guess),
        "aus": list(face.aus),
        "aus_known": list(face.known),
        "au_prob": [units.probability.get(au) for au in face.known] if units.probability else None,
        "au_intensities": [units.intensity.get(au) for au in face.known] if units.intensity else None,
        "blendshapes": face.blendshapes,
        "landmarks5": alignment.to_crop(face.landmarks5).ravel().tolist(),
        "sex": face.sex,
        "group": face.group,
        "regions": regions,
        "dialogues": draw_dialogues(usable, drawn, counts.dialogues, chance),
    }


def _stored_age(age: float | None) -> float | None:
    """An age as the file keeps it, so that its sentence can be worked out again from the row."""
    return None if age is None else float(np.float32(min(age, OLDEST)))


def _described(face: LabelledFace, age: float | None, region: DrawnRegion, chance: random.Random) -> dict[str, Any]:
    """A box with the labels that it can show, and a sentence that says them."""
    visible = [au for au in face.known if au in region.can_show]
    active = [au for au in visible if au in face.aus]
    at_rest = not set(face.aus) & set(region.glimpsed) and len(visible) >= max(1, ENOUGH_KNOWN * len(region.can_show))
    return {
        "kind": region.kind,
        "region": region.region,
        "box": region.box,
        "visible": visible,
        "aus": active,
        "description": compose(
            active if active or at_rest else None,
            face.emotion,
            None if age is None else round(age),
            chance,
            region=region.region,
            empty=region.empty,
            intensities=face.units.intensity,
        ),
    }
