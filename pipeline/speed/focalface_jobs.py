"""Jobs of this project's side: its own stages, called as its commands call them.

Each function prepares (loads models, runs once to warm up) and returns the job that is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from pipeline.execution.analysis import analyse_video, track_faces
from pipeline.execution.description import requests_for
from pipeline.execution.executors import load_run_detector
from pipeline.records import Answer, Request
from pipeline.settings import Settings
from pipeline.video.decoder_process import Decoder
from pipeline.video.opening import open_video

Asked = tuple[int, int, np.ndarray, Request]
"""A region that a run describes: track id, frame index, landmarks (5, 2), request."""


def detect_track(video: str, settings: Settings) -> Callable[[], list[np.ndarray]]:
    """Decode in a decoder process, detect and track; returns the boxes (N, 4) of each sampled frame."""
    detector = load_run_detector(settings, threads=os.cpu_count() or 1)
    decoder = Decoder(settings.video.timeout_s, settings.video.memory_mb)

    def job() -> list[np.ndarray]:
        with decoder.open(video) as opened:
            return [
                np.array([face.box for face in faces], np.float32).reshape(-1, 4) for _, faces in track_faces(opened, settings, detector)
            ]

    job()
    return job


def questions(video: str, settings: Settings) -> Callable[[], list[Asked]]:
    """Analyse a video; returns every region that a run describes."""

    def job() -> list[Asked]:
        return [
            (selection.face.track_id, selection.face.frame_index, selection.face.landmarks5, request)
            for chunk in analyse_video(video, settings, load_run_detector(settings))
            for selection, request in zip(chunk.selections, requests_for(chunk), strict=True)
        ]

    return job


def describe(model: str, requests: Sequence[Request]) -> Callable[..., list[Answer]]:
    """Describe regions. A pass takes the batch size, and whose sentences are wanted: `model` or `plain`."""
    from pipeline.describe.backends import load_describer

    describer = load_describer(model, device="cpu", batch_size=len(requests))
    describer.describe(requests[:1])

    def job(batch_size: int, sentences: str = "model") -> list[Answer]:
        describer.writes_sentences = sentences == "model"
        return [answer for i in range(0, len(requests), batch_size) for answer in describer.describe(requests[i : i + batch_size])]

    return job


def face_requests(video: str, settings: Settings) -> Callable[[], list[Request]]:
    """Analyse every frame of a video; returns the question about each whole face."""
    every_frame = settings.model_copy(
        update={
            "video": settings.video.model_copy(update={"fps": None}),
            "describe": settings.describe.model_copy(update={"frames": "all"}),
        }
    )

    def job() -> list[Request]:
        return [request for chunk in analyse_video(video, every_frame, load_run_detector(settings)) for request in chunk.face_requests]

    return job


def read(model: str, requests: Sequence[Request]) -> Callable[[], list[Answer]]:
    """Read the fields of whole faces, without sentences."""
    from pipeline.describe.backends import load_describer

    describer = load_describer(model, device="cpu")
    describer.read(requests[:1])
    return lambda: describer.read(requests)


def preprocess(model: str, crops: Sequence[np.ndarray], rounds: int) -> Callable[[], np.ndarray]:
    """Turn crops into patches `rounds` times, as the describer does; returns the patches of one round: pixels, not normalised, as the
    weights of the network do that."""
    import onnxruntime

    from pipeline.describe.backends.onnx import shape_of
    from pipeline.describe.checkpoints import locate
    from pipeline.describe.onnx_network import patch_graph

    graph = patch_graph(shape_of(locate(model)), onnxruntime.SessionOptions())

    def job() -> np.ndarray:
        for _ in range(rounds):
            (patches,) = graph.run(["patches"], {"faces": np.stack(crops)})
        return np.asarray(patches)

    job()
    return job


def decode(video: str, rounds: int) -> Callable[[], int]:
    """Decode every frame of a video `rounds` times in this process; returns the number of frames."""
    return lambda: sum(1 for _ in range(rounds) for _ in open_video(video).frames())
