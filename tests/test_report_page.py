"""The pages in a real headless Chromium: what they show, what changes it, and that nothing leaves them."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from pipeline.report.page_data import load_video
from pipeline.storage.output_names import unique_names
from pipeline.storage.run_folder import RunFolder, empty, video_id
from pipeline.vocabulary import EMOTIONS
from tests.support.browser import DESKTOP, PHONE, OpenedPage, OpenPage
from tests.support.tables import add_video, command, new_run, rows_of

EVIL = "<script>document.title='pwned'<script>.mp4"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> RunFolder:
    """Two people in a real clip of an ugly name, one who is not on the disk any more, nobody, and a broken file."""
    folder = tmp_path_factory.mktemp("report")
    clip = folder / EVIL
    shutil.copy(samples / "WolfgangLanger_Pexels.mp4", clip)
    run = new_run(folder / "run")
    size = {"width": 640, "height": 360, "fps": 23.976}
    add_video(run, clip, rows_of(video_id(clip), 19, people=2, rate=23.976), duration_s=19.69, windows=38, **size)
    add_video(run, "gone.mp4", rows_of(video_id("gone.mp4"), 5))
    add_video(run, "nobody.mp4", (empty("faces"), empty("descriptions")))
    broken = {"status": "failed", "error": "broken.mp4: <b>empty</b> file", "error_kind": "empty", "duration_s": None}
    add_video(run, "broken.mp4", (empty("faces"), empty("descriptions")), **broken)
    assert command("report", run.path) == 0
    return run


def page_of(run: RunFolder, name: str = EVIL) -> Path:
    videos = {row["video_id"]: row["path"] for row in run.read("videos").to_pylist()}
    (key,) = (key for key, path in videos.items() if Path(path).name == name)
    return run.path / "report" / "videos" / f"{unique_names(videos)[key]}.html"


@pytest.fixture(scope="module")
def table(run: RunFolder) -> list[dict[str, Any]]:
    """Rows of the descriptions table as the page shows them: emotion and age are those of the whole face in the same window."""
    (key,) = (row["video_id"] for row in run.read("videos").to_pylist() if Path(row["path"]).name == EVIL)
    rows = load_video(run, {"video_id": key, "fps": 23.976}).rows.to_pylist()
    faces = {(row["track_id"], row["window_index"]): row for row in rows if row["region"] == "face"}
    shared = ["emotion", "age", "age_low", "age_high", *(f"emotion_{name}" for name in EMOTIONS)]
    return [row | {name: faces[row["track_id"], row["window_index"]][name] for name in shared} for row in rows]


def test_a_page_opens_with_its_tracks_panels_and_pictures(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    assert page.page.locator("h1").inner_text() == EVIL
    assert EVIL in page.page.title()
    assert page.page.locator(".trackchip img").count() == 2
    assert page.page.locator("section.track").count() == 2
    assert "2 tracks" in page.page.locator(".top .facts").inner_text()
    assert page.page.locator(".plot canvas").count() == 4
    assert page.page.locator(".moment .picture img").evaluate("(image) => image.naturalWidth") > 100
    assert page.page.locator(".film .thumb").count() > 10
    assert page.count() == f"{len(table)} of {len(table)} descriptions"
    assert len(page.requests) == 1 + sum(url.startswith("data:") for url in page.requests)


def test_emotions_are_counted_by_face_and_window(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    faces = [row["emotion"] for row in table if row["region"] == "face"]
    shown = {chip.get_attribute("data-value"): chip.locator("small").inner_text() for chip in page.page.locator(".emotions .chip").all()}
    assert shown == {name: str(faces.count(name)) for name in EMOTIONS} and sum(map(int, shown.values())) == len(faces) < len(table)


def test_every_card_names_its_frame_and_no_region_claims_an_emotion(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    for _ in range(3):
        page.page.get_by_label("Next window of this track").click()
    number = int(page.page.locator(".moment .region").first.get_attribute("data-row"))
    window = [row for row in table if all(row[name] == table[number][name] for name in ("track_id", "window_index"))]
    cards = page.page.locator(".moment .region")
    assert cards.count() == len(window)
    for card, row in zip(cards.all(), window, strict=True):
        assert card.locator(".when").inner_text() == f"frame {row['frame_index']} at 0:{row['time_s']:05.2f}"
        assert card.locator(".swatch").count() == 0
        assert card.locator(".unit").all_inner_texts() == row["aus"]
    face = page.page.locator(".facecard").inner_text()
    assert row["emotion"] in face and f"about {round(row['age'])} years" in face


def test_each_filter_shows_what_passes_and_changes_the_panels(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    before = [page.paint(i) for i in range(4)]

    def filtered(passes: Callable[[dict[str, Any]], bool]) -> None:
        page.settle()
        expected = sum(map(passes, table))
        assert 0 < expected < len(table)
        assert page.count() == f"{expected} of {len(table)} descriptions"

    def cleared() -> None:
        page.page.locator(".reset").click()
        page.settle()
        assert page.count() == f"{len(table)} of {len(table)} descriptions"
        assert [page.paint(i) for i in range(4)] == before

    page.page.get_by_role("button", name="Track 2", exact=True).click()
    filtered(lambda row: row["track_id"] == 2)
    assert page.page.locator("section.track h3").all_inner_texts() == ["Track 2"]
    cleared()
    page.page.locator(".emotions .chip[data-value=sadness]").click()
    filtered(lambda row: row["emotion"] == "sadness")
    assert set(page.column("what")) == {"sadness"}
    assert page.paint(0) != before[0]
    cleared()
    page.page.locator(".regions .chip[data-value=mouth]").click()
    filtered(lambda row: row["region"] == "mouth")
    assert set(page.column("where")) == {"mouth"}
    assert page.paint(1) != before[1] and page.paint(0) == before[0], "units of the mouth alone; the emotion is the face's"
    cleared()
    page.page.locator("summary").click()
    height = page.page.locator(".plot").nth(1).bounding_box()["height"]
    page.page.locator(".field.units .chip[data-value=AU12]").click()
    page.page.locator(".field.units .chip[data-value=AU25]").click()
    filtered(lambda row: bool({"AU12", "AU25"} & set(row["aus"])))
    assert page.page.locator(".plot").nth(1).bounding_box()["height"] < height / 2
    cleared()
    page.page.locator("#score").fill("0.6")
    filtered(lambda row: round(row[f"emotion_{row['emotion']}"] * 1000) >= 600)
    assert page.paint(0) != before[0] and page.paint(1) != before[1]
    cleared()


def test_a_brush_moves_every_panel_and_the_table(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    before = [page.paint(i) for i in range(4)]
    plot = page.page.locator(".plot .u-over").nth(0)
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()

    def at(share: float) -> tuple[float, float]:
        return box["x"] + share * box["width"], box["y"] + 30

    page.page.mouse.move(*at(0.25))
    page.page.mouse.down()
    page.page.mouse.move(*at(0.4), steps=4)
    page.page.mouse.move(*at(0.5), steps=4)
    page.page.mouse.up()
    page.settle()
    from_s, to_s = 19.69 * 0.25, 19.69 * 0.5
    page.page.wait_for_function("document.querySelector('.stretch').textContent.startsWith('0:04.9')")
    assert page.page.locator(".stretch").inner_text() == "0:04.9 to 0:09.8"
    assert all(page.paint(i) != before[i] for i in range(4))
    inside = [row for row in table if row["end_s"] > from_s and row["start_s"] < to_s]
    assert page.count() == f"{len(inside)} of {len(table)} descriptions"
    # A click at the left of every panel is now a click at the stretch's beginning.
    for place, person in ((0, 1), (1, 1), (2, 2), (3, 2)):
        page.page.locator(".plot .u-over").nth(place).click(position={"x": 4, "y": 12})
        assert page.page.locator(".moment h2").inner_text().startswith(f"Track {person} at 0:04.")
    page.page.get_by_label("only the time in view").uncheck()
    assert page.count() == f"{len(table)} of {len(table)} descriptions"
    page.page.locator(".overview").scroll_into_view_if_needed()
    overview = page.page.locator(".overview").bounding_box()
    middle = overview["x"] + overview["width"] * 0.375, overview["y"] + 20
    page.page.mouse.move(*middle)
    page.page.mouse.down()
    page.page.mouse.move(middle[0] + overview["width"] * 0.25, middle[1], steps=5)
    page.page.mouse.up()
    page.settle()
    assert page.page.locator(".stretch").inner_text() == "0:09.8 to 0:14.8"
    page.page.get_by_role("button", name="Show all").click()
    page.settle()
    assert [page.paint(i) for i in range(4)] == before


@pytest.mark.parametrize("viewport", [{"width": 820, "height": 1100}, DESKTOP], ids=["tablet", "desktop"])
def test_a_click_shows_the_moment_with_its_regions_and_sentences(
    run: RunFolder, look: OpenPage, table: list[dict[str, Any]], viewport: dict[str, int]
) -> None:
    page = look(page_of(run), viewport)
    row = next(row for row in table if row["start_s"] == 5 and row["track_id"] == 1 and row["region"] == "face")
    window = [other for other in table if (other["start_s"], other["track_id"]) == (5, 1)]
    plot = page.page.locator(".plot .u-over").nth(0)
    plot.click(position={"x": plot.bounding_box()["width"] * 5.5 / 19.69, "y": 20})
    assert page.page.locator(".moment .sentence").all_inner_texts() == [other["description"] for other in window]
    assert page.page.locator(".moment .outline").count() == len(window)
    picture, outline = (page.page.locator(name).bounding_box() for name in (".moment .picture", ".moment .outline[data-region=face]"))
    assert outline["x"] >= picture["x"] and outline["width"] < picture["width"]
    assert outline["width"] / outline["height"] == pytest.approx(190 / 260, rel=0.03)  # undistorted
    natural = page.page.locator(".moment img").evaluate("(image) => image.naturalWidth / image.naturalHeight")
    assert picture["width"] / picture["height"] == pytest.approx(natural, rel=0.02) and picture["height"] <= 401
    assert page.page.locator(".rows [aria-selected=true] .text").inner_text() == row["description"]
    lines = [line.bounding_box() for line in page.page.locator(".moment-line").all()]
    over = plot.bounding_box()
    assert len(lines) == 4
    for line in lines:
        assert line["x"] + 1 == pytest.approx(over["x"] + over["width"] * row["time_s"] / 19.69, abs=1.5)
    page.page.locator(".moment .region").nth(1).click()
    chosen = page.page.locator(".moment .region[aria-pressed=true] .sentence")
    assert chosen.inner_text() == window[1]["description"]
    assert page.page.locator(".moment .outline.chosen").get_attribute("data-region") == window[1]["region"]


def test_the_table_sorts_and_exports_what_it_shows(run: RunFolder, look: OpenPage, table: list[dict[str, Any]]) -> None:
    page = look(page_of(run))
    page.page.get_by_role("button", name="Track 1", exact=True).click()
    head = page.page.locator(".heads .age")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    mine = [row for row in table if row["track_id"] == 1]
    ages = sorted(str(round(row["age"])) for row in mine)
    assert page.column("age") == ages[: len(page.column("age"))]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert page.column("age") == ages[::-1][: len(page.column("age"))]
    with page.page.expect_download() as download:
        page.page.locator(".export").click()
    assert download.value.suggested_filename.endswith(".csv") and "pwned" in download.value.suggested_filename
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert [float(row["age"]) for row in rows] == sorted((row["age"] for row in mine), reverse=True)
    assert sorted(row["description"] for row in rows) == sorted(row["description"] for row in mine)
    there = {(row["start_s"], row["region"]): row for row in mine}
    for row in rows:
        same = there[float(row["start_s"]), row["region"]]
        assert float(row["time_s"]) == pytest.approx(same["time_s"], abs=1e-3)
        assert row["AU12"] == "" if same["AU12"] is None else float(row["AU12"]) == pytest.approx(same["AU12"], abs=6e-4)
        assert row["aus"].split() == same["aus"]


def test_a_spreadsheet_gets_no_formula(run: RunFolder, look: OpenPage) -> None:
    page = look(page_of(run))
    text = page.page.evaluate("""csv([["=1+1", "-2", -2, 'say "hi"', "a,b", null]])""")
    assert text == '\'=1+1,\'-2,-2,"say ""hi""","a,b",\r\n'


def test_everything_is_done_by_keys(run: RunFolder, look: OpenPage) -> None:
    page = look(page_of(run))
    reached: list[str] = []
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.append(
            page.page.evaluate(
                """() => { const at = document.activeElement, style = getComputedStyle(at);
                return `${at.className || at.id}|${at.ariaLabel || at.textContent || at.id}|${style.outlineStyle}` }"""
            )
        )
        if reached[-1].startswith("scroller"):
            break
    names = " ".join(reached)
    for part in ("theme", "Track 1", "sadness", "mouth", "summary" if "summary" in names else "Action units", "score", "Zoom in"):
        assert part in names
    for part in ("handle from", "handle to", "panels", "region", "scroller"):
        assert any(name.startswith(part) for name in reached), part
    assert all(name.split("|")[1].strip() for name in reached)  # everything says what it is
    assert all(name.endswith("|solid") or name.endswith("|auto") for name in reached)  # and shows that it has the keyboard

    title = page.page.locator(".moment h2")
    page.page.locator(".panels").nth(1).focus()
    page.page.keyboard.press("ArrowRight")
    first = title.inner_text()
    page.page.keyboard.press("ArrowRight")
    assert first.startswith("Track 2") and title.inner_text() != first
    page.page.keyboard.press("+")
    page.settle()
    closer = page.page.locator(".stretch").inner_text()
    assert closer != "0:00.0 to 0:19.7"
    page.page.keyboard.press("Shift+ArrowLeft")
    page.settle()
    assert page.page.locator(".stretch").inner_text() != closer
    page.page.keyboard.press("0")
    page.settle()
    assert page.page.locator(".stretch").inner_text() == "0:00.0 to 0:19.7"
    page.page.locator(".handle.from").focus()
    for _ in range(3):
        page.page.keyboard.press("ArrowRight")
        page.settle()
    assert float(page.page.locator(".handle.from").get_attribute("aria-valuenow")) > 2

    page.page.locator(".scroller").focus()
    page.page.keyboard.press("End")
    last = page.page.locator(".scroller").get_attribute("aria-rowcount")
    assert page.page.locator(".rows [aria-selected=true]").get_attribute("aria-rowindex") == last
    page.page.keyboard.press("Home")
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.className").startswith("moment")
    before = title.inner_text()
    page.page.keyboard.press("ArrowRight")
    assert title.inner_text() != before
    page.page.keyboard.press("Escape")
    assert page.page.evaluate("document.activeElement.className") == "scroller"


def test_light_and_dark_follow_the_system_and_the_button(run: RunFolder, look: OpenPage) -> None:
    def ground(page: OpenedPage) -> float:
        return float(np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("L"))[:200].mean())

    dark, light = (look(page_of(run), color_scheme=scheme) for scheme in ("dark", "light"))
    assert ground(dark) < 60 and ground(light) > 200
    canvas = dark.paint(1)
    dark.page.locator(".theme").click()
    dark.settle()
    assert dark.page.locator(".theme").inner_text() == "☀ Light theme"
    assert ground(dark) > 200 and dark.paint(1) != canvas


@pytest.mark.parametrize("viewport", [PHONE, {"width": 820, "height": 1100}, DESKTOP], ids=["phone", "tablet", "desktop"])
def test_nothing_is_wider_than_the_screen(run: RunFolder, look: OpenPage, viewport: dict[str, int]) -> None:
    for file in (page_of(run), run.path / "report" / "index.html", page_of(run, "nobody.mp4")):
        page = look(file, viewport)
        assert page.page.evaluate("document.scrollingElement.scrollWidth") <= viewport["width"]


def test_a_finger_taps_and_drags_on_a_phone(run: RunFolder, look: OpenPage) -> None:
    page = look(page_of(run), PHONE, has_touch=True, is_mobile=True)
    plot = page.page.locator(".plot .u-over").nth(0)
    plot.tap(position={"x": plot.bounding_box()["width"] * 5.5 / 19.69, "y": 20})
    assert page.page.locator(".moment h2").inner_text() == "Track 1 at 0:05.38"
    page.page.locator(".rows [role=row]").nth(0).tap()
    assert page.page.locator(".moment h2").inner_text() != "Track 1 at 0:05.38"


def test_a_video_that_is_gone_is_shown_without_pictures(run: RunFolder, look: OpenPage) -> None:
    page = look(page_of(run, "gone.mp4"))
    assert "no longer where it was" in page.page.locator(".top .warning").inner_text()
    assert page.page.locator("img").count() == 0
    assert page.page.locator(".moment .outline").count() > 1  # the regions are still there to be compared


def test_a_video_without_faces_says_so(run: RunFolder, look: OpenPage) -> None:
    page = look(page_of(run, "nobody.mp4"))
    assert page.page.locator("h2").inner_text() == "No face was found in this video"
    assert "50 frames of it were searched" in page.page.locator(".nothing").inner_text()


def test_without_scripts_the_facts_still_stand(run: RunFolder, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_of(run).as_uri())
    assert "descriptions" in page.locator("dl").inner_text() and page.locator("noscript").count() == 1
    context.close()


def test_the_index_lists_searches_sorts_and_leads_on(run: RunFolder, look: OpenPage) -> None:
    page = look(run.path / "report" / "index.html")
    assert page.count() == "4 of 4 videos"
    assert page.page.locator(".strip").count() == 2
    assert page.page.locator(".remarks .error").inner_text() == "empty <b>empty</b> file"
    page.page.get_by_role("button", name="failed").click()
    assert page.count() == "1 of 4 videos" and "broken.mp4" in page.column("name")[0]
    page.page.get_by_role("button", name="failed").click()
    page.page.get_by_role("searchbox").fill("empty")
    assert page.count() == "1 of 4 videos"
    page.page.get_by_role("searchbox").fill("script mp4")
    assert page.count() == "1 of 4 videos"
    page.page.get_by_role("searchbox").fill("")
    page.page.locator(".heads .name button").click()
    names = [text.split("\n")[0] for text in page.column("name")]
    assert names == sorted(names, key=str.lower) and len(names) == 4
    page.page.get_by_role("link", name=EVIL).click()
    page.page.wait_for_selector(".overview")
    assert unquote(page.page.url) == unquote(page_of(run).as_uri())
    page.page.get_by_role("link", name="All videos").click()
    page.page.wait_for_selector(".archive")
