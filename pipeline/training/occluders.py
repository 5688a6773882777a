"""Things before a face, drawn: hands, microphones, cups, cloth. They make covered faces from clear ones, and say where they cover."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.faces.alignment import CROP_SIZE, EYE_DISTANCE, TEMPLATE

KINDS = ("hand", "microphone", "cup", "cloth", "patch")
"""What `cover` draws. A `patch` shows a part of another picture."""


def cover(
    crop: np.ndarray, random: np.random.Generator, kind: str | None = None, other: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one thing before a face.

    Args:
        crop: (112, 112, 3) uint8, an aligned face.
        random: decides everything that is not given.
        kind: one of `KINDS`; drawn at random without it, hands as often as all others together.
        other: (H, W, 3) uint8, the picture that a patch shows.

    Returns:
        The covered crop, and (112, 112) float32: how much of each pixel is covered, 0 to 1.
    """
    if kind is None:
        kind = "hand" if random.random() < 0.5 else str(random.choice(KINDS[1:]))
    side = CROP_SIZE
    if kind == "hand":
        mask, picture = _hand(crop, side, random)
    elif kind == "patch" and other is not None:
        mask = _blob(side, random)
        picture = cv2.resize(_part(other, random), (side, side), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    else:
        mask, picture = {"microphone": _microphone, "cup": _cup}.get(kind, _cloth)(side, random)
    soft = cv2.GaussianBlur(mask, (0, 0), random.uniform(0.3, 1.2))
    shift = random.uniform(-4, 4, 2)
    shadow = cv2.warpAffine(mask, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), (CROP_SIZE, CROP_SIZE))
    shadow = cv2.GaussianBlur(shadow, (0, 0), random.uniform(1, 5)) * random.uniform(0, 0.35)
    below = crop.astype(np.float32) * (1 - shadow[..., None])
    out = below * (1 - soft[..., None]) + picture * soft[..., None]
    return np.clip(out, 0, 255).astype(np.uint8), mask


def _skin(crop: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(3,) the colour of a hand: near that of the cheeks."""
    cheeks = np.concatenate([crop[66:76, 32:44].reshape(-1, 3), crop[66:76, 68:80].reshape(-1, 3)]).astype(np.float32)
    colour = np.median(cheeks, 0) * random.uniform(0.7, 1.25)
    return np.clip(colour + random.normal(0, 4), 5, 250)


def _noise(side: int, random: np.random.Generator, grain: float) -> np.ndarray:
    """(side, side) smooth noise of standard deviation 1."""
    small = random.standard_normal((max(2, round(side / grain)),) * 2).astype(np.float32)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def _shade(side: int, colour: np.ndarray, light: np.ndarray, random: np.random.Generator, strength: float = 6.0) -> np.ndarray:
    """(side, side, 3) a surface of one colour under a light of (side, side) around 1, with some texture."""
    texture = strength * (0.6 * _noise(side, random, 24) + 0.4 * _noise(side, random, 5))
    return (colour * light[..., None] + texture[..., None]).astype(np.float32)


def _hand(crop: np.ndarray, side: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fingers side by side, with or without the palm that they come from, each rounded by its own shade."""
    unit = EYE_DISTANCE
    target = np.array(TEMPLATE[random.integers(0, 5)] if random.random() < 0.8 else TEMPLATE.mean(0))
    tip = target + random.normal(0, 0.25 * unit, 2)
    angle = random.uniform(0, 2 * np.pi) if random.random() < 0.25 else np.radians(random.normal(90, 45))  # where the hand comes from
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    width = unit * random.uniform(0.25, 0.6)
    fingers = random.integers(1, 6)
    mask, light = np.zeros((side, side), np.float32), np.full((side, side), 0.75, np.float32)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    sun = random.uniform(-0.5, 0.5)
    spread = random.uniform(0.0, 0.18)
    palm_at = tip + along * unit * random.uniform(1.2, 2.4)
    order = random.permutation(fingers)
    for finger in order:
        off = finger - (fingers - 1) / 2
        start = tip + across * off * width * random.uniform(0.92, 1.12) + along * unit * (0.05 * off**2 + random.uniform(0, 0.25))
        own = along + across * off * spread
        end = start + own / np.linalg.norm(own) * unit * random.uniform(1.6, 4.0)
        distance, place = _from_segment(x, y, start, end)
        radius = width / 2 * random.uniform(0.85, 1.05) * (0.9 + 0.15 * place)
        inside = distance < radius
        towards = ((x - start[0]) * across[0] + (y - start[1]) * across[1]) / width
        round_off = np.sqrt(np.clip(1 - (distance / radius) ** 2, 0, 1))
        joint = 0.06 * np.cos(place * random.uniform(9, 16)) ** 8
        value = 0.62 + 0.42 * round_off + sun * 0.12 * np.sin(towards) - joint
        light = np.where(inside, value, light)
        mask = np.maximum(mask, inside)
    if random.random() < 0.6:
        axes = (max(4.0, fingers * width * 0.62), unit * random.uniform(0.8, 1.4))
        u = (x - palm_at[0]) * across[0] + (y - palm_at[1]) * across[1]
        v = (x - palm_at[0]) * along[0] + (y - palm_at[1]) * along[1]
        inside = ((u / axes[0]) ** 2 + (v / axes[1]) ** 2 < 1) & (mask == 0)
        light = np.where(inside, 0.95 + sun * 0.2 * u / axes[0], light)
        mask = np.maximum(mask, inside)
    light = cv2.GaussianBlur(light.astype(np.float32), (0, 0), random.uniform(0.8, 2.5))
    return mask, _shade(side, _skin(crop, random), light * random.uniform(0.9, 1.15), random, 3.0)


def _from_segment(x: np.ndarray, y: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel from a segment, and the place along it, 0 to 1."""
    way = end - start
    place = np.clip(((x - start[0]) * way[0] + (y - start[1]) * way[1]) / float(way @ way), 0, 1)
    return np.hypot(x - start[0] - place * way[0], y - start[1] - place * way[1]), place


def _microphone(side: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A ball of wire or foam on a stick, before the mouth or the chin."""
    unit = EYE_DISTANCE
    mouth = TEMPLATE[3:].mean(0)
    at = mouth + random.normal([0, 0.25 * unit], 0.35 * unit)
    radius = unit * random.uniform(0.3, 0.85)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    angle = np.radians(random.normal(90, 35))
    end = at + np.array([np.cos(angle), np.sin(angle)]) * unit * 4
    stick, _ = _from_segment(x, y, at, end)
    ball = np.hypot(x - at[0], (y - at[1]) / random.uniform(0.9, 1.3))
    mask = ((ball < radius) | (stick < radius * random.uniform(0.3, 0.7))).astype(np.float32)
    mesh = 1 + 0.25 * np.sin(x * random.uniform(0.5, 1.4)) * np.sin(y * random.uniform(0.5, 1.4))
    round_off = 0.5 + 0.6 * np.sqrt(np.clip(1 - (ball / radius) ** 2, 0, 1))
    colour = random.uniform(10, 70) + random.normal(0, 6, 3) if random.random() < 0.75 else random.uniform(20, 230, 3)
    return mask, _shade(side, np.clip(colour, 0, 255), (mesh * round_off).astype(np.float32), random)


def _cup(side: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A straight-edged thing of one colour: a cup, a telephone, a sheet of paper."""
    unit = EYE_DISTANCE
    at = np.array([random.uniform(0.15, 0.85), random.uniform(0.35, 1.0)]) * side
    size = (float(unit * random.uniform(0.6, 2.2)), float(unit * random.uniform(0.6, 2.6)))
    corners = cv2.boxPoints(((float(at[0]), float(at[1])), size, float(random.uniform(-40, 40))))
    mask = np.zeros((side, side), np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    x = np.mgrid[:side, :side][1] / side
    light = 1 + random.uniform(-0.5, 0.5) * (x - 0.5) + 0.04 * _noise(side, random, 16)
    return mask.astype(np.float32) / 255, _shade(side, random.uniform(5, 250, 3), light.astype(np.float32), random)


def _cloth(side: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A mask, a scarf or a sleeve: one colour with folds, mostly over the lower half of the face."""
    unit = EYE_DISTANCE
    if random.random() < 0.6:
        level = TEMPLATE[2, 1] + random.uniform(-0.3, 1.0) * unit
        y, x = np.mgrid[:side, :side].astype(np.float32)
        edge = level + random.uniform(-0.2, 0.2) * (x - side / 2) + 0.004 * random.uniform(-1, 1) * (x - side / 2) ** 2
        mask = (y > edge).astype(np.float32)
    else:
        mask = _blob(side, random)
    light = 1 + 0.15 * _noise(side, random, random.uniform(12, 50)) + 0.05 * _noise(side, random, 6)
    return mask, _shade(side, random.uniform(5, 250, 3), light, random)


def _blob(side: int, random: np.random.Generator) -> np.ndarray:
    """(side, side) a smooth random outline around a random place."""
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = sum(random.uniform(-0.3, 0.3) / k * np.cos(k * turns + random.uniform(0, 6)) for k in (1, 2, 3))
    radius = side * random.uniform(0.1, 0.32) * (1 + waves)
    centre = np.array([random.uniform(0.15, 0.85), random.uniform(0.2, 1.0)]) * side
    stretch = random.uniform(0.6, 1.6)
    outline = centre + np.stack([np.cos(turns) * radius * stretch, np.sin(turns) * radius / stretch], 1)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _part(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A random quarter of a picture."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    top, left = random.integers(0, height + 1), random.integers(0, width + 1)
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
