"""Train the network that sees what covers a face (`pipeline.faces.covering`).

    python -m pipeline.training.fit_covering train-*.parquet --out covering.onnx

Each labelled face is shown once as it is and once with a drawn thing before it (`pipeline.training.occluders`), both also blurred, shrunk
and compressed, so that the network learns what covers and not what is unclear. On two cores: some ten minutes. A committed network is
replaced by hand (`pipeline/faces/assets/covering.onnx`), as that changes every table; then `pipeline.training.fit_readability` has to be
run again.

The files need the columns `image` and `landmarks5`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from pipeline.faces.alignment import CROP_SIZE, align, crop
from pipeline.faces.covering import INPUT_SIDE, normalised
from pipeline.faces.readability import MAP_SIDE
from pipeline.training.occluders import cover

FACES = 5000
"""Faces of each file that are used, at most; more takes longer, and gained little."""

ROUNDS, BATCH, RATE = 24, 256, 4e-3
"""Passes over the faces, faces of a step, and the highest learning rate of the one cycle."""

JITTER = 0.035
"""Standard deviation of the landmarks' error in eye distances, about that of the detector."""

_CHANNELS = (12, 16, 24, 32)
_SQUEEZED, _HIDDEN = 12, 64

FACE_CENTRE, FACE_AXES = (CROP_SIZE / 2, 61.0), (34.0, 45.0)
"""Centre and half axes, in pixels of the aligned crop, of the ellipse that counts as the face; parts beside it weigh less in training."""


class CoveringNetwork(nn.Module):
    """(N, 1, 56, 56) crops -> (N, 196) log-odds that each part of the face is covered.

    Convolutions see edges and surfaces; two layers over the whole face know what belongs where.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes = (1, *_CHANNELS)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
            for before, after, stride in zip(sizes[:-1], sizes[1:], (2, 2, 1, 2), strict=True)
        )
        self.squeeze = nn.Conv2d(_CHANNELS[-1], _SQUEEZED, 1)
        self.hidden = nn.Linear(_SQUEEZED * (MAP_SIDE // 2) ** 2, _HIDDEN)
        self.whole = nn.Linear(_HIDDEN, MAP_SIDE**2)
        self.local = nn.Conv2d(_CHANNELS[2], 1, 1)

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        fine = self.blocks[2](self.blocks[1](self.blocks[0](crops)))  # [N, 24, 14, 14]
        seen = F.relu(self.squeeze(self.blocks[3](fine))).flatten(1)  # [N, 12 * 7 * 7]
        return self.local(fine).flatten(1) + self.whole(F.relu(self.hidden(seen)))


def labelled_crops(files: Sequence[Path], count: int, random: np.random.Generator) -> list[np.ndarray]:
    """Aligned crops of some faces of each file, their landmarks a little off."""
    crops = []
    for file in files:
        table = pq.read_table(file, columns=["image", "landmarks5"])
        for row in random.permutation(table.num_rows)[:count].tolist():
            image = cv2.imdecode(np.frombuffer(table["image"][row].as_py(), np.uint8), cv2.IMREAD_COLOR)
            assert image is not None, f"{file}: row {row} holds no image"
            landmarks = np.array(table["landmarks5"][row].as_py()).reshape(5, 2)
            eyes = float(np.linalg.norm(landmarks[1] - landmarks[0]))
            try:
                alignment = align(landmarks + random.normal(0, JITTER * eyes, (5, 2)))
            except ValueError:
                continue
            crops.append(crop(np.ascontiguousarray(image[..., ::-1]), alignment))
    return crops


def training_pairs(crops: Sequence[np.ndarray], random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Each face as it is and covered.

    Returns:
        (2 N, 56, 56) uint8 grey pictures, and (2 N, 14, 14) float32: how much of each part is covered.
    """
    pictures, maps = [], []
    for face in crops:
        for covered in (False, True):
            image, mask = face, np.zeros(face.shape[:2], np.float32)
            if covered:
                image, mask = cover(face, random, other=crops[int(random.integers(len(crops)))])
            grey = cv2.cvtColor(_unclear(image, random), cv2.COLOR_RGB2GRAY)
            pictures.append(cv2.resize(grey, (INPUT_SIDE, INPUT_SIDE), interpolation=cv2.INTER_AREA))
            maps.append(cv2.resize(mask, (MAP_SIDE, MAP_SIDE), interpolation=cv2.INTER_AREA))
    return np.array(pictures), np.array(maps, np.float32)


def _unclear(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A crop as other cameras and files would show it."""
    if random.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 4))
    if random.random() < 0.25:
        side = int(random.uniform(16, 64))
        small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.3:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(random.uniform(8, 60))])[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None
        image = decoded
    return image


def train(pictures: np.ndarray, maps: np.ndarray, rounds: int = ROUNDS) -> CoveringNetwork:
    """Train the network; parts of the crop beside the face count less.

    Args:
        pictures, maps: from `training_pairs`.
        rounds: passes over them.
    """
    torch.manual_seed(0)
    network = CoveringNetwork()
    steps = max(1, len(pictures) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=rounds * steps + 1)
    y, x = (torch.from_numpy(np.mgrid[:MAP_SIDE, :MAP_SIDE]) + 0.5) * (CROP_SIZE / MAP_SIDE)
    on_face = ((x - FACE_CENTRE[0]) / FACE_AXES[0]) ** 2 + ((y - FACE_CENTRE[1]) / FACE_AXES[1]) ** 2 < 1
    weight = 0.3 + on_face.float().flatten()
    for _ in range(rounds):
        order = np.random.default_rng(int(torch.randint(2**31, ()))).permutation(len(pictures))
        for step in range(steps):
            some = order[step * BATCH : (step + 1) * BATCH]
            seen, wanted = normalised(pictures[some]), maps[some]
            if torch.rand(()) < 0.5:
                seen, wanted = seen[..., ::-1].copy(), wanted[..., ::-1].copy()
            said = network(torch.from_numpy(seen).unsqueeze(1))
            loss = (F.binary_cross_entropy_with_logits(said, torch.from_numpy(wanted).flatten(1), reduction="none") * weight).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def to_onnx(network: CoveringNetwork) -> onnx.ModelProto:
    """The network as ONNX, input `crops` (N, 1, 56, 56), output `maps` (N, 196) of probabilities; batch normalisation is folded in."""
    weights: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, source: str, name: str, *values: torch.Tensor | None, **attributes: Any) -> str:
        names = [f"{name}.{place}" for place in range(len(values))]
        weights.extend(
            numpy_helper.from_array(value.detach().numpy(), label) for value, label in zip(values, names, strict=True) if value is not None
        )
        nodes.append(helper.make_node(kind, [source, *names], [name], **attributes))
        return name

    last, fine = "crops", ""
    for place, (block, stride) in enumerate(zip(network.blocks, (2, 2, 1, 2), strict=True)):
        assert isinstance(block, nn.Sequential)
        convolution: Any = block[0]
        norm: Any = block[1]
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        kernel, bias = convolution.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
        last = add("Relu", add("Conv", last, f"conv{place}", kernel, bias, strides=[stride] * 2, pads=[1] * 4), f"block{place}")
        fine = last if place == 2 else fine
    last = add("Relu", add("Conv", last, "squeeze", network.squeeze.weight, network.squeeze.bias), "squeezed")
    last = add("Flatten", last, "flat")
    last = add("Relu", add("Gemm", last, "hidden", network.hidden.weight, network.hidden.bias, transB=1), "seen")
    last = add("Gemm", last, "whole", network.whole.weight, network.whole.bias, transB=1)
    local = add("Flatten", add("Conv", fine, "local", network.local.weight, network.local.bias), "places")
    nodes.append(helper.make_node("Add", [last, local], ["odds"]))
    nodes.append(helper.make_node("Sigmoid", ["odds"], ["maps"]))
    crops = helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["N", 1, INPUT_SIDE, INPUT_SIDE])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["N", MAP_SIDE**2])
    graph = helper.make_graph(nodes, "covering", [crops], [maps], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Train on labelled faces and write the network."""
    parser = argparse.ArgumentParser(description="Train the network that sees what covers a face.")
    parser.add_argument("files", nargs="+", type=Path, help="Parquet files of labelled faces")
    parser.add_argument("--out", type=Path, required=True, help="the ONNX file to write")
    parser.add_argument("--faces", type=int, default=FACES, help="faces of each file")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="passes over them")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    pictures, maps = training_pairs(labelled_crops(options.files, options.faces, random), random)
    print(f"{len(pictures)} pictures, {maps.mean():.3f} of their area covered")
    onnx.save(to_onnx(train(pictures, maps, options.rounds)), options.out)
    print(f"written: {options.out}, {options.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
