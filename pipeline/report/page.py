"""One self-contained HTML file per video, and what it has in common with the index: everything inside, nothing fetched.

Pages are put together from `assets/`: a frame, a style sheet, our scripts and uPlot (an unmodified release, its licence beside it).
All that comes from files, models and errors travels as data: escaped where it stands in HTML, in base64 where scripts read it. A
content security policy names the one script by its hash and allows no request at all.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.errors import writing
from pipeline.report.page_data import load_video, pack
from pipeline.report.pictures import Faces, Pictures, read_pictures
from pipeline.storage.atomic import replacing
from pipeline.storage.run_folder import RunFolder

ASSETS = Path(__file__).parent / "assets"
PAGE_SCRIPTS = ("uPlot.iife.min.js", "common.js", "data.js", "timeline.js", "moment.js", "page.js")
INDEX_SCRIPTS = ("common.js", "index.js")
STYLES = ("uPlot.min.css", "report.css")


@cache
def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def assemble(title: str, facts: Sequence[tuple[str, str]], scripts: Sequence[str], data: Mapping[str, str]) -> str:
    """A whole page.

    Args:
        title: of the page; any text.
        facts: (label, text) lines that stand on it also where scripts do not run; any text.
        scripts: names of `ASSETS`, in order.
        data: name to base64 or JSON of base64 texts, for the scripts.
    """
    script = "\n".join(_asset(name) for name in scripts)
    style = "\n".join(_asset(name) for name in STYLES)
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    lines = "".join(f"<div><dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd></div>" for label, text in facts)
    blocks = "".join(f'<script type="application/json" id="{name}">{text}</script>\n' for name, text in data.items())
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="focalface" content="{__version__}">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<main id="app"><div class="plain"><h1>{html.escape(title)}</h1><dl>{lines}</dl>'
        "<noscript><p>The timeline, the pictures and the table need JavaScript; nothing is fetched.</p></noscript></div></main>\n"
        f"{blocks}<script>{script}</script>\n</body>\n</html>\n"
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


def facts_of(video: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of a page that tell of its video."""
    found = [("File", str(video["path"])), ("Status", str(video["status"]).replace("_", " "))]
    if video["error"]:
        found.append(("Note", str(video["error"])))
    if video["duration_s"] is not None:
        found.append(("Length", f"{video['duration_s']:.1f} s"))
    counts = [f"{video[name]} {word}" for name, word in (("tracks", "people"), ("windows", "windows"), ("descriptions", "descriptions"))]
    return [*found, ("Found", ", ".join(counts))]


def write_page(
    run: RunFolder,
    video: Mapping[str, Any],
    out: Path,
    fingerprint: str = "",
    faces: Faces = "show",
    say: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a video's page.

    Args:
        run: the run folder.
        video: its row of the videos table.
        out: the file.
        fingerprint: the video file's, in the run (`RunFolder.committed`).
        faces: `show`, `blur` or `none`.
        say: told (pictures read, pictures to read).

    Raises:
        SettingsError: when the video's tables are damaged, or the file cannot be written.
    """
    data = load_video(run, dict(video))
    pictures = read_pictures(data, fingerprint, faces, say)
    info = run.info
    header = {
        "run": {name: info.get(name) for name in ("model", "detector", "settings", "versions")},
        "faces": faces,
        "note": pictures.note,
    }
    blocks = {"payload": pack(data, header, pictures.best), "pictures": _picture_block(pictures)}
    title = f"{Path(str(video['path'])).name} · focalface"
    write_page_file(out, assemble(title, facts_of(video), PAGE_SCRIPTS, blocks))


def _picture_block(pictures: Pictures) -> str:
    # Numbers and base64 only, so that nothing in it could end the block.
    return json.dumps([one.as_dict() for one in pictures.pictures], separators=(",", ":"))
