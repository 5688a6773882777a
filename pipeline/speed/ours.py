"""This side: the project's own functions, as its own commands call them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.execution.analysis import analyse_video
from pipeline.execution.description import requests_for
from pipeline.faces.detectors import load_detector
from pipeline.faces.finding import find_faces
from pipeline.faces.tracking import FaceTracker
from pipeline.records import Answer, Request
from pipeline.settings import Settings
from pipeline.video.decoder_process import Decoder
from pipeline.video.opening import open_video


def detect_track(video: str, settings: Settings) -> Callable[[], list[np.ndarray]]:
    """Decode in a process of its own, detect and track: (N, 4) boxes of every sampled frame."""
    detector = load_detector(settings.detect.detector, min_face=settings.detect.min_face, threads=os.cpu_count() or 1)
    decoder = Decoder(settings.video.timeout_s, settings.video.memory_mb)

    def job() -> list[np.ndarray]:
        with decoder.open(video) as opened:
            fps = min(settings.video.fps or opened.info.fps, opened.info.fps)
            tracker = FaceTracker(fps)
            tracked = map(tracker.update, find_faces(opened.frames(settings.video.fps), detector, settings.detect.every))
            return [np.array([face.box for face in faces], np.float32).reshape(-1, 4) for faces in tracked]

    job()
    return job


def questions(video: str, settings: Settings) -> Callable[[], list[tuple[int, int, np.ndarray, Request]]]:
    """What a run would ask about a video: track, frame index, landmarks and request of every region that it describes."""

    def job() -> list[tuple[int, int, np.ndarray, Request]]:
        chunks = analyse_video(video, settings, load_detector(settings.detect.detector, min_face=settings.detect.min_face))
        return [
            (chosen.face.track_id, chosen.face.frame_index, chosen.face.landmarks5, request)
            for chunk in chunks
            for chosen, request in zip(chunk.selections, requests_for(chunk), strict=True)
        ]

    return job


def describe(model: str, requests: Sequence[Request]) -> Callable[..., list[Answer]]:
    """The describer; the job takes how many requests it gets at once, and whose sentences are wanted."""
    from pipeline.describe.backends import load_describer

    describer = load_describer(model, device="cpu", batch_size=len(requests))
    describer.describe(requests[:1])

    def job(together: int, sentences: str = "model") -> list[Answer]:
        describer.writes_sentences = sentences == "model"
        return [answer for i in range(0, len(requests), together) for answer in describer.describe(requests[i : i + together])]

    return job


def preprocess(model: str, crops: Sequence[np.ndarray], rounds: int) -> Callable[[], np.ndarray]:
    """Crops to patches, several times, as the describer does it."""
    import json

    import torch

    from pipeline.describe.checkpoints import locate
    from pipeline.describe.patches import patchify

    pixels: dict[str, Any] = json.loads((locate(model) / "preprocessor_config.json").read_text())
    mean, std = torch.tensor(pixels["image_mean"]), torch.tensor(pixels["image_std"])

    def job() -> np.ndarray:
        for _ in range(rounds):
            patches = patchify(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), mean=mean, std=std)
        return patches.numpy()

    job()
    return job


def decode(video: str, rounds: int) -> Callable[[], int]:
    """Every frame of a video, in this process, several times: how many."""
    return lambda: sum(1 for _ in range(rounds) for _ in open_video(video).frames())
