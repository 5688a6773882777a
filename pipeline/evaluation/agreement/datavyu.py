"""Codes from Datavyu: its files (.opf), and its tables as text (.csv).

An .opf is a zip with a text file `db`. A column begins with its name and its arguments, `AU12 (MATRIX,true,)-intensity|NOMINAL`; a cell
follows on a line of its own, `00:00:10:033,00:00:12:000,(C)`. A column whose name is a label marks that label, and its first argument that
is an intensity grades it; in any other column the arguments name the labels.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from pipeline.errors import FocalfaceError
from pipeline.evaluation.agreement.codes import CODED, Code, Coding, codes_of, parse_intensity, parse_label
from pipeline.evaluation.agreement.elan import coded_spans

_HEADER = re.compile(r"(?P<name>(?:\\.|[^\\])+?) \((?P<kind>[A-Z]+),(?:true|false),.*?\)(?:-.*)?")
_CELL = re.compile(r"(\d+):(\d\d):(\d\d):(\d{1,3}),(\d+):(\d\d):(\d\d):(\d{1,3}),(.*)")
_LARGEST_DB = 2**28
"""Bytes of an unpacked `db`; a longer one is no table of codes."""


def is_datavyu_text(text: str) -> bool:
    """Whether a text is a Datavyu table: a line with the format's number, then columns."""
    first, _, rest = text.lstrip("\ufeff").partition("\n")
    return bool(re.fullmatch(r"#\d+\s*", first)) and bool(_HEADER.fullmatch(rest.partition("\n")[0].strip()))


def read_opf(file: Path) -> Coding:
    """The coding of a Datavyu file.

    Raises:
        FocalfaceError: it is none.
    """
    try:
        with zipfile.ZipFile(file) as packed:
            if packed.getinfo("db").file_size > _LARGEST_DB:
                raise FocalfaceError("its table is larger than any table of codes")
            text = packed.read("db").decode("utf-8", "replace")
    except (zipfile.BadZipFile, KeyError) as error:
        raise FocalfaceError("not a Datavyu file: no zip with a db in it") from error
    if not is_datavyu_text(text):
        raise FocalfaceError("its db is no Datavyu table")
    return read_datavyu_text(file, text)


def read_datavyu_text(file: Path, text: str) -> Coding:
    """The coding of a Datavyu table.

    Raises:
        FocalfaceError: a line is neither a column nor a cell.
    """
    codes: list[Code] = []
    labels: set[str] = set()
    column: str | None = None
    for number, line in enumerate(text.lstrip("\ufeff").splitlines()[1:], 2):
        line = line.strip()
        if not line:
            continue
        if cell := _CELL.fullmatch(line):
            if column is None:
                raise FocalfaceError(f"line {number}: a cell before any column")
            onset, offset = (
                int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(millis) / 1000
                for hours, minutes, seconds, millis in (cell.groups()[:4], cell.groups()[4:8])
            )
            found = _cell_codes(column, _arguments(cell[9]), onset, offset)
            codes += found
            labels |= {code.label for code in found}
        elif header := _HEADER.fullmatch(line):
            column = _plain(header["name"]).strip()
            if label := parse_label(column):
                labels.add(label[0])
        else:
            raise FocalfaceError(f"line {number}: neither a column nor a cell of Datavyu: {line[:60]}")
    codes.sort(key=lambda code: code.onset_s)
    return Coding(file, None, None, None, True, tuple(codes), frozenset(labels - {CODED}), coded_spans(codes))


def _cell_codes(column: str, values: list[str], onset_s: float, offset_s: float) -> list[Code]:
    label = parse_label(column)
    if label:
        graded = [value for value in values if parse_intensity(value) is not None or parse_label(value)]
        return codes_of(label, graded[0] if graded else "", onset_s, offset_s)
    named = [code for value in values if value for code in codes_of(None, value, onset_s, offset_s)]
    return named or [Code(column, onset_s, offset_s)]


def _arguments(text: str) -> list[str]:
    """The arguments of a cell: within parentheses and separated by commas, a backslash before a sign that stands for itself."""
    inner = text[1:-1] if text.startswith("(") and text.endswith(")") else text
    return [_plain(part).strip() for part in re.findall(r"(?:\\.|[^\\,])*", inner) if part] if inner else []


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
