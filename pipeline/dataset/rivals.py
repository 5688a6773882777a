"""Labels of units that exclude each other, settled by intensity.

Label sets that keep the likelier of two rivals keep the wrong one in two cases: a mouth that is stretched open (AU27) also has its jaw down
(AU26), and closed lids (AU43) also point down (AU64). The intensity tells them apart, as it grows with how far the jaw or the lids have
moved.
"""

from __future__ import annotations

from pipeline.dataset.labels import UnitLabels
from pipeline.vocabulary import PREVAILING

MARKED = 2.5
"""Intensity (0 to 5) from which AU27 and AU43 stand against their rivals. Of some 240 pictures in which one of them had lost, looked at by
intensity, nearly all from here on show a stretched mouth or closed lids; below, many mouths are merely open."""


def settle_rivals(units: UnitLabels) -> tuple[UnitLabels, tuple[str, ...]]:
    """Settle AU27 against AU26 and closed lids against gaze, where the labels have the intensity that says which it is.

    A unit of at least `MARKED` takes the place of an active rival: the two exchange activity and probability. An active AU27 below `MARKED`
    contradicts itself where a model labelled it (it has a probability; a coder may well grade it lower); it and AU26 become unknown.

    Args:
        units: labels of one face; they are not changed.

    Returns:
        The settled labels, and what was done.

    >>> jaw = UnitLabels({"AU26": True, "AU27": False}, {"AU26": 1.0, "AU27": 0.45}, {"AU26": 1.5, "AU27": 4.0})
    >>> settled, done = settle_rivals(jaw)
    >>> settled.active, settled.probability, done
    ({'AU26': False, 'AU27': True}, {'AU26': 0.45, 'AU27': 1.0}, ('AU27 stands for AU26',))
    """
    active, probability, intensity = dict(units.active), dict(units.probability), dict(units.intensity)
    done = []
    for unit, rivals in PREVAILING.items():
        standing = [rival for rival in rivals if active.get(rival)]
        if standing and active.get(unit) is False and intensity.get(unit, 0.0) >= MARKED:
            active |= {unit: True, **dict.fromkeys(standing, False)}
            if unit in probability:
                likeliest = max(probability.get(rival, 1.0) for rival in standing)
                probability |= {**dict.fromkeys(standing, probability[unit]), unit: likeliest}
            done.append(f"{unit} stands for {' and '.join(standing)}")
    if active.get("AU27") and "AU27" in probability and intensity.get("AU27", MARKED) < MARKED:
        for unit in ("AU26", "AU27"):
            active.pop(unit, None)
            probability.pop(unit, None)
            intensity.pop(unit, None)
        done.append("AU27 is active without a stretched mouth: it and AU26 are unknown")
    return UnitLabels(active, probability, intensity), tuple(done)
