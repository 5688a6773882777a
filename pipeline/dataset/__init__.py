"""The region-level dataset: labelled faces in, boxes with action units, emotion, age and words out."""

from pipeline.dataset.build import SCHEMA, build

__all__ = ["SCHEMA", "build"]
