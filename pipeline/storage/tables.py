"""Reading CSV tables as spreadsheets, statistics programs and people write them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import FocalfaceError

DELIMITERS = ",;\t"

_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""First line by which a file tells Excel its delimiter."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Table:
    """A CSV table.

    Attributes:
        columns: names in the header, without surrounding blanks, as the file writes them.
        text: the file's text from the header on.
        delimiter: comma, semicolon or tab.
        first_line: number of the header's line in the file.
    """

    columns: tuple[str, ...]
    text: str
    delimiter: str
    first_line: int = 1

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Each row that is not blank: the number of its last line, and its values by column.

        Values are without surrounding blanks; a row that is too short has empty ones. In a table with semicolons, a decimal comma in a
        number becomes a point.

        Raises:
            FocalfaceError: a row has more values than the header, or a quotation mark is not closed.
        """
        reader = _reader(self.text, self.delimiter)
        next(reader, None)
        try:
            for values in reader:
                values = [value.strip() for value in values]
                line = reader.line_num + self.first_line - 1
                if not any(values):
                    continue
                if any(values[len(self.columns) :]):
                    raise FocalfaceError(f"line {line} has {len(values)} values for {len(self.columns)} columns")
                if self.delimiter == ";":
                    values = [value.replace(",", ".") if _DECIMAL_COMMA.fullmatch(value) else value for value in values]
                values += [""] * (len(self.columns) - len(values))
                yield line, dict(zip(self.columns, values, strict=False))
        except csv.Error as error:
            raise FocalfaceError(f"line {reader.line_num + self.first_line - 1}: {error}") from error


def read_table(path: Path | str) -> Table:
    """Open a CSV table.

    The delimiter is the one of comma, semicolon and tab that the header uses most. Text is UTF-8 with or without a byte order mark, UTF-16
    with one, or else Windows-1252.

    Args:
        path: of the file.

    Raises:
        OSError: the file cannot be read.
        FocalfaceError: it is no text, or two columns share a name.
    """
    text = _decode(Path(path).read_bytes())
    first_line = 1
    delimiter = None
    if said := _SEPARATOR_LINE.match(text):
        delimiter, text, first_line = said[1], text[said.end() :], 2
    blank = re.match(r"(?:[ \t]*\r?\n)*", text)
    assert blank is not None
    text, first_line = text[blank.end() :], first_line + text.count("\n", 0, blank.end())
    header = text.partition("\n")[0]
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    delimiter = delimiter or max(DELIMITERS, key=outside_quotes.count)
    try:
        columns = tuple(name.strip() for name in next(_reader(text, delimiter), []))
    except csv.Error as error:
        raise FocalfaceError(f"line {first_line}: {error}") from error
    while columns and not columns[-1]:  # delimiters at the end of the line
        columns = columns[:-1]
    twice = sorted({name for name in columns if name and columns.count(name) > 1})
    if twice:
        raise FocalfaceError(f"two columns are called {twice[0]!r}")
    return Table(columns, text, delimiter, first_line)


def _reader(text: str, delimiter: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t", strict=True)


def _decode(data: bytes) -> str:
    encodings = ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise FocalfaceError("not text in UTF-8, UTF-16 with a byte order mark, or Windows-1252")
