"""One self-contained HTML file per video, and the frame that it shares with the index: everything inside, nothing loaded from elsewhere.

Pages are rendered from `templates/report.html.j2` with the style sheet and scripts of `assets/` (uPlot is an unmodified release, its
licence beside it). All text from files, models and errors travels as data: escaped by Jinja where it stands in HTML, in base64 where
scripts read it. A content security policy names the one script and the one style sheet by their hashes and allows no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from pipeline import __version__
from pipeline.errors import writing
from pipeline.report.inputs import listed_notes
from pipeline.report.page_data import load_video, pack, unreadable_text
from pipeline.report.pictures import Faces, read_pictures
from pipeline.storage.atomic import replacing
from pipeline.storage.chosen_run import choice_of
from pipeline.storage.run_folder import RunFolder

ASSETS = Path(__file__).parent / "assets"
PAGE_SCRIPTS = ("uPlot.iife.min.js", "common.js", "rows.js", "timeline.js", "moment.js", "page.js")
INDEX_SCRIPTS = ("common.js", "index.js")
STYLES = ("uPlot.min.css", "report.css")


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    """A script's or a style sheet's name in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _templates() -> Environment:
    templates = Environment(loader=PackageLoader("pipeline.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    templates.filters["csp_hash"] = _csp_hash
    return templates


def render(title: str, facts: Sequence[tuple[str, str]], scripts: Sequence[str], blocks: Mapping[str, str]) -> str:
    """A whole page.

    Args:
        title: of the page; any text.
        facts: (label, text) lines that are also shown where scripts do not run; any text.
        scripts: names of `ASSETS`, in order.
        blocks: data for the scripts by element id: base64, or JSON of numbers and base64 texts.
    """
    return (
        _templates()
        .get_template("report.html.j2")
        .render(
            version=__version__,
            title=title,
            facts=facts,
            script="\n".join(map(_asset, scripts)),
            style="\n".join(map(_asset, STYLES)),
            blocks=list(blocks.items()),
        )
    )


def write_page_file(file: Path, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        SettingsError: when it cannot be written.
    """
    with writing(file), replacing(file) as part:
        part.write_text(text, encoding="utf-8")


def is_report_page(file: Path) -> bool:
    """Whether a file is a page of a report."""
    try:
        with file.open(encoding="utf-8") as page:
            return '<meta name="focalface"' in page.read(400)
    except (OSError, UnicodeDecodeError):
        return False


def video_facts(video: Mapping[str, Any], unreadable: str = "") -> list[tuple[str, str]]:
    """The lines of a page about its video; `unreadable` says how many faces were not readable."""
    facts = [("File", str(video["path"])), ("Status", str(video["status"]).replace("_", " "))]
    if video["error"]:
        facts.append(("Problem", str(video["error"])))
    facts += [("Note", note["text"]) for note in listed_notes(video.get("note"))]
    if video["duration_s"] is not None:
        facts.append(("Length", f"{video['duration_s']:.1f} s"))
    counts = [f"{video[name]} {name}" for name in ("tracks", "windows", "descriptions")]
    return [*facts, ("Found", ", ".join(counts)), *([("Not readable", unreadable)] if unreadable else [])]


def write_page(
    run: RunFolder,
    video: Mapping[str, Any],
    out: Path,
    mark: str = "",
    faces: Faces = "show",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a video's page.

    Args:
        run: the run folder.
        video: its row of the videos table.
        out: the file.
        mark: the video file's `file_mark` in the run (`RunFolder.committed`).
        faces: `show`, `blur` or `none`.
        progress: called with (pictures read, pictures to read).

    Raises:
        SettingsError: when the video's tables are damaged, or the file cannot be written.
    """
    data = load_video(run, video)
    pictures = read_pictures(data, mark, faces, progress)
    info = run.info
    header: dict[str, Any] = {
        "run": {name: info.get(name) for name in ("model", "detector", "settings", "versions")},
        "faces": faces,
        "pictureNote": pictures.note,
    }
    picture_block = json.dumps([picture.as_dict() for picture in pictures.pictures], separators=(",", ":"))  # numbers and base64 only
    said = [f"Only {text} count here." for text in [choice_of(run).text] if text]
    header["said"] = said
    blocks = {"payload": pack(data, header, pictures.best), "pictures": picture_block}
    title = f"{Path(str(video['path'])).name} · focalface"
    facts = [*video_facts(video, unreadable_text(data.faces)), *(("Chosen", text) for text in said)]
    write_page_file(out, render(title, facts, PAGE_SCRIPTS, blocks))
