"""Boxes of a face: of every kind, inside the crop, each knowing what it can show."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from pipeline.dataset.boxes import GLIMPSE, GRID, KINDS, TURNS, Counts, draw_dialogues, draw_regions, overlap
from pipeline.faces.alignment import CROP_SIZE, TEMPLATE, align
from pipeline.regions.placement import MIN_SIDE, place_regions
from pipeline.vocabulary import CUSTOM_BOX, JOINED_REGIONS, REGION_AUS, SINGLE_REGIONS, WHOLE_FACE, Box, region_aus, visible_aus


def tight(seed: int = 0) -> dict[str, Box]:
    """Regions of a face whose landmarks lie near the template."""
    landmarks = TEMPLATE + np.random.default_rng(seed).normal(0, 3, (5, 2))
    return place_regions(landmarks, align(TEMPLATE), padding=0)


@pytest.mark.parametrize("seed", range(40))
def test_boxes_of_a_face(seed: int) -> None:
    regions = draw_regions(tight(seed), Counts(), random.Random(seed))
    assert Counter(region.kind for region in regions) == {
        "whole": 2,
        "named": len(SINGLE_REGIONS),
        "joined": len(JOINED_REGIONS),
        "jittered": 4,
        "random": 4,
        "empty": 2,
    }
    for region in regions:
        x0, y0, x1, y1 = region.box
        assert x0 >= 0 and x0 + MIN_SIDE <= x1 <= CROP_SIZE and y0 >= 0 and y0 + MIN_SIDE <= y1 <= CROP_SIZE, region
        assert all((value * GRID).is_integer() for value in region.box)
        assert region.can_show == region_aus(region.region, region.box)
        if region.kind == "empty":
            assert region.region == CUSTOM_BOX and not visible_aus(region.box, GLIMPSE)
        assert not (region.empty and region.glimpsed)
    assert {region.region for region in regions if region.kind == "named"} == set(SINGLE_REGIONS)
    assert all(region.region == WHOLE_FACE and region.can_show == REGION_AUS[WHOLE_FACE] for region in regions if region.kind == "whole")


def test_named_boxes_lie_where_the_pipeline_places_them() -> None:
    """The model is trained on the boxes that it will be asked about."""
    landmarks = TEMPLATE.astype(np.float64)
    placed = place_regions(landmarks, align(landmarks))
    drawn = [draw_regions(tight_at(landmarks), Counts(), random.Random(seed)) for seed in range(20)]
    for name in (*SINGLE_REGIONS, *JOINED_REGIONS, WHOLE_FACE):
        boxes = [region.box for regions in drawn for region in regions if region.region == name and region.kind != "jittered"]
        assert np.mean([overlap(box, placed[name]) for box in boxes]) > 0.75, name


def tight_at(landmarks: np.ndarray) -> dict[str, Box]:
    return place_regions(landmarks, align(landmarks), padding=0)


def test_a_jittered_box_keeps_its_name_only_near_its_region() -> None:
    regions = [region for seed in range(60) for region in draw_regions(tight(), Counts(jittered=10), random.Random(seed))]
    jittered = [region for region in regions if region.kind == "jittered"]
    kept = [region for region in jittered if region.region != CUSTOM_BOX]
    assert 0.2 < len(kept) / len(jittered) < 0.8
    own = tight()
    for region in kept:
        parts = [own[name] for name in JOINED_REGIONS.get(region.region, (region.region,))]
        x, y = (region.box[0] + region.box[2]) / 2, (region.box[1] + region.box[3]) / 2
        assert min(box[0] for box in parts) <= x <= max(box[2] for box in parts)
        assert min(box[1] for box in parts) - 6 <= y <= max(box[3] for box in parts) + 6


def test_counts_decide() -> None:
    counts = Counts(whole=0, named=3, joined=1, jittered=0, random=5, empty=0, dialogues=0)
    regions = draw_regions(tight(), counts, random.Random(0))
    assert Counter(region.kind for region in regions) == {"named": 3, "joined": 1, "random": 5}
    assert len({region.region for region in regions if region.kind == "named"}) == 3


def test_dialogues_look_at_boxes_in_turn() -> None:
    chance = random.Random(0)
    regions = draw_regions(tight(), Counts(), chance)
    usable = [i for i, region in enumerate(regions) if region.kind != "random"]
    dialogues = draw_dialogues(usable, regions, 300, chance)
    assert {len(turns) for turns in dialogues} == set(range(TURNS[0], TURNS[1] + 1))
    assert all(len(set(turns)) == len(turns) and set(turns) <= set(usable) for turns in dialogues)
    assert {regions[i].kind for turns in dialogues for i in turns} == set(KINDS) - {"random"}
    opening = np.mean([regions[turns[0]].kind == "whole" for turns in dialogues])
    assert 0.5 < opening < 0.8
    assert draw_dialogues(usable[:1], regions, 3, chance) == []
    assert all(sorted(turns) == usable[:2] for turns in draw_dialogues(usable[:2], regions, 9, chance))
