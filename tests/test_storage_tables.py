"""CSV tables as spreadsheets and people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import FocalfaceError
from pipeline.storage.tables import read_table

ROWS = [["file", "person", "age"], ["p01/talk.mp4", "Zoë, Müller", "23.5"], ["p02/talk.mp4", "Éva", "41"]]
EXPECTED = [dict(zip(ROWS[0], row, strict=True)) for row in ROWS[1:]]


def text_of(delimiter: str, end: str = "\n") -> str:
    quoted = [[f'"{value}"' if delimiter in value else value for value in row] for row in ROWS]
    return "".join(delimiter.join(row) + end for row in quoted)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_any_delimiter_in_any_encoding(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(text_of(delimiter, end).encode(encoding))
    table = read_table(file)
    assert table.columns == tuple(ROWS[0])
    assert list(table.rows()) == [(2, EXPECTED[0]), (3, EXPECTED[1])]


def test_what_excel_adds_is_understood(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text("sep=;\r\nfile;age;note;\r\na.mp4;23,5;1,2,3;\r\n;;;\r\n b.mp4 ; -1,5e3;\r\n", newline="")
    table = read_table(file)
    assert table.columns == ("file", "age", "note")
    assert list(table.rows()) == [
        (3, {"file": "a.mp4", "age": "23.5", "note": "1,2,3"}),
        (5, {"file": "b.mp4", "age": "-1.5e3", "note": ""}),
    ]


def test_a_comma_table_keeps_its_commas_and_lines_in_quotes(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text('\n\nfile,"note;a;b;c"\na.mp4,"1,5"\nb.mp4,"two\nlines"\n')
    assert list(read_table(file).rows()) == [
        (4, {"file": "a.mp4", "note;a;b;c": "1,5"}),
        (6, {"file": "b.mp4", "note;a;b;c": "two\nlines"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,file\na,b\n", "two columns are called 'file'"),
        (b"file,age\na.mp4,3\nb.mp4,Smith, John\n", "line 3 has 3 values for 2 columns"),
        (b'file,age\na.mp4,"3\nb.mp4,4\n', "line 3"),
        ("file,age\n".encode("utf-16-le"), "not text in UTF-8"),
        (b"file,\x81\n", "not text in UTF-8"),
    ],
)
def test_what_cannot_be_read_with_certainty_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(content)
    with pytest.raises(FocalfaceError, match=message):
        list(read_table(file).rows())
    file.write_bytes(b"")
    assert read_table(file).columns == ()
