"""Labels of units that exclude each other: settled by intensity where the likelier one stands against the picture."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.dataset.build import build
from pipeline.dataset.labels import UnitLabels
from pipeline.dataset.rivals import settle_rivals
from tests.support.datasets import fake_faces, rows_of

JAW = {"AU26": True, "AU27": False, "AU12": True}
LIDS = {"AU43": False, "AU61": False, "AU64": True}


@pytest.mark.parametrize(
    ("given", "active", "probability", "done"),
    [
        pytest.param(
            UnitLabels(JAW, {"AU26": 0.99, "AU27": 0.45, "AU12": 0.8}, {"AU27": 3.1}),
            {"AU26": False, "AU27": True, "AU12": True},
            {"AU26": 0.45, "AU27": 0.99, "AU12": 0.8},
            ("AU27 stands for AU26",),
            id="a mouth stretched open is more than a dropped jaw",
        ),
        pytest.param(UnitLabels(JAW, {}, {"AU27": 2.4}), JAW, {}, (), id="a jaw that is merely dropped stays AU26"),
        pytest.param(UnitLabels(JAW, {}, {}), JAW, {}, (), id="without intensities nothing is settled"),
        pytest.param(
            UnitLabels(LIDS, {"AU43": 0.45, "AU61": 0.1, "AU64": 0.7}, {"AU43": 3.6}),
            {"AU43": True, "AU61": False, "AU64": False},
            {"AU43": 0.7, "AU61": 0.1, "AU64": 0.45},
            ("AU43 stands for AU64",),
            id="closed lids hide the gaze",
        ),
        pytest.param(
            UnitLabels({"AU43": False, "AU61": True, "AU64": True}, {}, {"AU43": 4.0}),
            {"AU43": True, "AU61": False, "AU64": False},
            {},
            ("AU43 stands for AU61 and AU64",),
            id="of both directions",
        ),
        pytest.param(UnitLabels({"AU43": False}, {}, {"AU43": 4.0}), {"AU43": False}, {}, (), id="no rival is active: the label stands"),
        pytest.param(UnitLabels({"AU64": True}, {}, {"AU43": 4.0}), {"AU64": True}, {}, (), id="an unknown unit stays unknown"),
        pytest.param(
            UnitLabels({"AU12": True, "AU26": False, "AU27": True}, {"AU12": 0.9, "AU26": 0.45, "AU27": 0.9}, {"AU27": 0.4}),
            {"AU12": True},
            {"AU12": 0.9},
            ("AU27 is active without a stretched mouth: it and AU26 are unknown",),
            id="a stretched mouth that is hardly open contradicts itself",
        ),
        pytest.param(UnitLabels({"AU27": True}, {}, {"AU27": 2.0}), {"AU27": True}, {}, (), id="a coder may grade it low"),
    ],
)
def test_rivals_are_settled_by_intensity(
    given: UnitLabels, active: dict[str, bool], probability: dict[str, float], done: tuple[str, ...]
) -> None:
    before = UnitLabels(dict(given.active), dict(given.probability), dict(given.intensity))
    settled, what = settle_rivals(given)
    assert (settled.active, settled.probability, what) == (active, probability, done)
    assert given == before and not any(unit in settled.intensity for unit in given.active.keys() - active.keys())


def test_a_dataset_says_what_it_settled(tmp_path: Path) -> None:
    columns = {"AU26_c": [1, 1, 0], "AU27_c": [0, 0, 0], "AU43_c": [0, 0, 0], "AU64_c": [0, 1, 1]}
    intensities = [[4.0, 0.0], [1.0, 3.5], [0.0, 1.0]]
    faces = fake_faces(
        tmp_path / "faces.parquet",
        3,
        au_prob=[[row[i] * 0.9 for row in columns.values()] for i in range(3)],
        au_intensity=[[None, intensity[0], intensity[1], None] for intensity in intensities],
    )
    table = pq.read_table(faces)
    names = {"au_names": json.dumps([name.removesuffix("_c") for name in columns])}
    pq.write_table(table.replace_schema_metadata(names), faces)
    info = build([faces], tmp_path / "out")
    assert [row["aus"] for row in rows_of(tmp_path / "out")] == [["AU27"], ["AU26", "AU43"], ["AU64"]]
    notes = [f"faces.parquet: {what} in 1 faces, by its intensity" for what in ("AU27 stands for AU26", "AU43 stands for AU64")]
    assert set(notes) <= set(info["warnings"])
    assert all(note in (tmp_path / "out" / "README.md").read_text() for note in notes)
