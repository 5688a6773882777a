"""The region-level dataset that a model is trained on.

In: labelled faces (Parquet, or pictures with a CSV). Out: a folder of Parquet, one row a face, with many boxes of it, and each box's action
units, emotion, age and sentence. Start with `build.build`; `source` reads faces, `labels` reads label columns, `boxes` draws boxes,
`card` writes the dataset's README and contact sheet.
"""

from pipeline.dataset.build import SCHEMA, build

__all__ = ["SCHEMA", "build"]
