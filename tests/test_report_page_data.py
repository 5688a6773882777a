"""What the pages show of particular tables, in a real headless Chromium: many regions, scores of every frame, long and many videos."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.report.index import write_index
from pipeline.schemas import TABLES
from pipeline.storage.run_folder import video_id
from pipeline.trends.analysis import load as load_trends
from pipeline.vocabulary import EMOTIONS, REGIONS
from tests.support.browser import PHONE, OpenPage
from tests.support.runs import make_run
from tests.support.tables import add_video, command, new_run, rows_of


@pytest.mark.slow
def test_names_of_regions_do_not_cover_each_other(tmp_path: Path, samples: Path, look: OpenPage) -> None:
    """All fourteen regions of one face, drawn on a picture 320 pixels wide."""
    clip = tmp_path / "clip.mp4"
    shutil.copy(samples / "WolfgangLanger_Pexels.mp4", clip)
    run = make_run(tmp_path / "run", [clip], video_fps=1, select_regions="all", select_window=10.0)
    assert command("report", run.path) == 0
    page = look(run.path / "report" / "videos" / "clip.html", PHONE)
    labels = page.page.locator(".moment .outline span")
    assert labels.count() == len(REGIONS)
    boxes = [label.bounding_box() for label in labels.all() if "covered" not in (label.get_attribute("class") or "")]
    picture = page.page.locator(".moment .picture").bounding_box()
    assert len(boxes) >= 6
    for one, other in itertools.combinations(boxes, 2):
        apart = one["x"] + one["width"] <= other["x"] + 0.6 or other["x"] + other["width"] <= one["x"] + 0.6
        assert apart or one["y"] + one["height"] <= other["y"] + 0.6 or other["y"] + other["height"] <= one["y"] + 0.6
    for box in boxes:
        assert box["x"] >= picture["x"] - 1 and box["x"] + box["width"] <= picture["x"] + picture["width"] + 1


def test_scores_of_every_frame_make_the_timeline(tmp_path: Path, look: OpenPage) -> None:
    """A smile of a third of a second between two described frames shows on the timeline and under the pointer."""
    key = video_id("gone.mp4")
    faces, rows = rows_of(key, 6)
    face = faces.to_pylist()[0]
    shares = {f"emotion_{name}": 0.04 for name in EMOTIONS} | {"emotion_neutral": 0.76}
    frames = [
        {**face, "frame_index": i, "time_s": i / 10, "emotion": "neutral", "age": 30.0, **shares, "AU12": 0.9 if 23 <= i <= 25 else 0.02}
        for i in range(60)
    ]
    run = new_run(tmp_path / "run")
    run.update_info(thresholds={"AU12": 0.5})
    add_video(run, "gone.mp4", (pa.Table.from_pylist(frames, TABLES["faces"]), rows), fps=10.0, duration_s=6.0)
    assert command("report", run.path) == 0
    page = look(run.path / "report" / "videos" / "gone.html")
    assert page.page.locator(".readout").inner_text().startswith("60 frames scored")
    plot = page.page.locator(".plot .u-over").nth(1)
    box = plot.bounding_box()
    said = []
    for time_s in (1.55, 2.45, 3.05):
        plot.hover(position={"x": box["width"] * time_s / 6, "y": 20})
        said.append(page.page.locator(".readout").inner_text())
    assert "active: AU12" not in said[0] and "neutral 76 %" in said[0]
    assert "active: AU12" in said[1] and "active" not in said[2]


def test_the_leading_emotion_of_a_track_is_the_one_of_trends(tmp_path: Path, look: OpenPage) -> None:
    """Happy for 2.4 of 4 readable seconds; the two described windows are neutral, and two seconds cannot be read."""
    key = video_id("gone.mp4")
    faces, rows = rows_of(key, 2)
    face = faces.to_pylist()[0]
    unread = {name: None for name in face if name.startswith(("AU", "emotion", "age"))} | {"readable": 0.2, "unreadable": "covered"}

    def frame(i: int) -> dict[str, Any]:
        emotion = "neutral" if i < 16 else "happiness"
        shares = {f"emotion_{name}": 0.7 if name == emotion else 0.05 for name in EMOTIONS}
        return {**face, "frame_index": i, "time_s": i / 10, **(unread if i >= 40 else {"emotion": emotion, "age": 30.0, **shares})}

    run = new_run(tmp_path / "run")
    described = [{**row, "emotion": "neutral"} for row in rows.to_pylist()]
    tables = (pa.Table.from_pylist([frame(i) for i in range(60)], TABLES["faces"]), pa.Table.from_pylist(described, TABLES["descriptions"]))
    add_video(run, "gone.mp4", tables, fps=10.0, duration_s=6.0)
    assert command("report", run.path) == 0
    (track,) = load_trends([run.path])["tracks"].to_pylist()
    assert track["emotion"] == "happiness" and round(track["share_happiness"], 2) == 0.6
    page = look(run.path / "report" / "videos" / "gone.html")
    assert "mostly happiness (60 % of readable time)" in page.page.locator(".track header").inner_text()
    assert page.page.locator(".readout").inner_text().startswith("40 of 60 frames scored")
    index = look(run.path / "report" / "index.html")
    assert index.column("what") == ["happiness"]
    strip = index.page.locator(".strip").get_attribute("data-strip")
    assert strip == str(EMOTIONS.index("neutral")) * 16 + str(EMOTIONS.index("happiness")) * 24 + "." * 20


@pytest.mark.slow
def test_an_index_of_five_thousand_videos_is_searched_at_once(tmp_path: Path, look: OpenPage) -> None:
    run = new_run(tmp_path / "archive")
    videos: list[dict[str, Any]] = [
        {"video_id": f"{i:016x}", "path": f"/archive/day-{i % 50:02d}/clip-{i:04d}.mp4"}
        | {"status": ("ok", "no_faces", "failed")[i % 3]}
        | {"error": "empty file" if i % 3 == 2 else None, "duration_s": float(i), "tracks": i % 7, "descriptions": i}
        for i in range(5000)
    ]
    (tmp_path / "report").mkdir()
    assert write_index(run, videos, tmp_path / "report") == {}
    assert (tmp_path / "report" / "index.html").stat().st_size < 1e6
    page = look(tmp_path / "report" / "index.html")
    assert page.count() == "5,000 of 5,000 videos"
    assert page.page.locator(".rows [role=row]").count() < 60
    page.page.get_by_role("searchbox").fill("day-07 failed")
    assert page.count() == f"{sum(i % 50 == 7 and i % 3 == 2 for i in range(5000))} of 5,000 videos"
    page.page.get_by_role("searchbox").fill("")
    for _ in range(2):
        page.page.locator(".heads .length button").click()
    assert "clip-4999.mp4" in page.column("name")[0]
    page.page.locator(".scroller").focus()
    page.page.keyboard.press("End")
    assert "clip-0000.mp4" in page.column("name")[-1]


@pytest.mark.slow
def test_two_hours_of_two_people_are_at_hand(tmp_path: Path, look: OpenPage) -> None:
    run = new_run(tmp_path / "run")
    tables = rows_of(video_id("long.mp4"), 7200, people=2)
    add_video(run, "long.mp4", tables, duration_s=7200.0)
    assert command("report", run.path) == 0
    page = look(run.path / "report" / "videos" / "long.html")
    total = tables[1].num_rows
    assert page.count() == f"{total:,} of {total:,} descriptions"
    assert page.page.locator(".rows [role=row]").count() < 80
    page.page.locator(".emotions .chip[data-value=fear]").click()
    page.settle()
    rows = tables[1].select(["track_id", "window_index", "region", "emotion"]).to_pylist()
    afraid = {(row["track_id"], row["window_index"]) for row in rows if row["region"] == "face" and row["emotion"] == "fear"}
    fearful = sum((row["track_id"], row["window_index"]) in afraid for row in rows)
    assert page.count() == f"{fearful:,} of {total:,} descriptions"
    plot = page.page.locator(".plot .u-over").nth(0)
    plot.click(position={"x": plot.bounding_box()["width"] / 2, "y": 20})
    assert page.page.locator(".moment h2").inner_text().startswith(("Track 1 at 59:5", "Track 1 at 1:00:0"))
