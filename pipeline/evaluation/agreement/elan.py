"""Codes from ELAN (.eaf), read with pympi-ling.

A tier whose name holds an action unit or an emotion (`AU12`, `P1_AU12`, `happiness`) marks that label; an annotation's text may give the
intensity. In every other tier the text of an annotation names the labels (`12C`, `1+2+4`, `happy`). A tier's participant is the person.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline.errors import FocalfaceError, one_line
from pipeline.evaluation.agreement.codes import CODED, Code, Coding, codes_of, parse_label

_WORDS = re.compile(r"[\s_@:./|()-]+")


def read_elan(file: Path) -> tuple[list[Coding], list[str]]:
    """The codings of an ELAN file, one for each participant, and what a reader must know about them.

    Raises:
        FocalfaceError: it is no ELAN file.
    """
    from pympi.Elan import Eaf

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about versions of the format
            document = Eaf(str(file), suppress_version_warning=True)
    except Exception as error:  # pympi raises plain exceptions, and whatever a strange file causes
        raise FocalfaceError(f"not an ELAN file that can be read: {one_line(error)}") from error
    media = document.media_descriptors[0] if document.media_descriptors else {}
    shift_s = float(media.get("TIME_ORIGIN") or 0) / 1000
    codes: dict[str | None, list[Code]] = {}
    labels: dict[str | None, set[str]] = {}
    skipped: Counter[str] = Counter()
    for name in document.get_tier_names():
        person, label = _owner(name, document.tiers[name][2])
        own = labels.setdefault(person, set())
        if label:
            own.add(label[0])
        for annotation in document.get_annotation_data_for_tier(name):
            start, end, text = annotation[:3]
            if start is None or end is None:
                skipped[name] += 1
                continue
            found = codes_of(label, text, start / 1000 + shift_s, end / 1000 + shift_s)
            codes.setdefault(person, []).extend(found)
            own.update(code.label for code in found)
    notes = [f"{count} annotations of the tier {name} have no times of their own; they are left out" for name, count in skipped.items()]
    video = _video(media)
    return [
        Coding(
            file=file,
            video=video,
            person=person,
            track=None,
            media_clock=True,
            codes=tuple(sorted(codes.get(person, []), key=lambda code: code.onset_s)),
            labels=frozenset(own) - {CODED},
            spans=coded_spans(codes.get(person, [])),
        )
        for person, own in labels.items()
        if own
    ], notes


def coded_spans(codes: list[Code]) -> tuple[tuple[float, float], ...] | None:
    """The stretches that `CODED` marks; None without any."""
    return tuple((code.onset_s, code.offset_s) for code in codes if code.label == CODED) or None


def _owner(name: str, attributes: Any) -> tuple[str | None, tuple[str, float | None] | None]:
    """The person and the label of a tier. Words of the name beside the label are the person, where no participant is given."""
    person = str(attributes.get("PARTICIPANT") or "").strip() or None
    if whole := parse_label(name):
        return person, whole
    words = [word for word in _WORDS.split(name) if word]
    for word in words:
        label = parse_label(word) if not word.isdigit() and not re.fullmatch(r"[A-Za-z]\d", word) else None
        if label:
            return person or " ".join(other for other in words if other != word) or None, label
    return person, None


def _video(media: Any) -> str | None:
    """The name of the media file."""
    url = unquote(str(media.get("MEDIA_URL") or media.get("RELATIVE_MEDIA_URL") or ""))
    return url.replace("\\", "/").rpartition("/")[2] or None
