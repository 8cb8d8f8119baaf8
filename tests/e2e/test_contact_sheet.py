"""The contact sheet in a real browser: labelled by keyboard, left, resumed, saved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from raydistill.stages.hunt.artifact import RoundSummary
from raydistill.stages.hunt.inputs.labels import LabelFile, new_labels, read_labels
from raydistill.stages.hunt.learn.ranking import Reason
from raydistill.stages.hunt.round import Answers, SheetCandidate, contact_sheet, draw_sheet
from tests.e2e.browser import CHROMIUM, Page, open_browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

COUNT = 9
TARGET = "dust lane </script>"
YES, NO = f"✓ {TARGET}", f"✗ not {TARGET}"
NAMES = ["=a,b.jpg", *(f"galaxy-{n}.jpg" for n in range(1, COUNT))]


def write_sheet(path: Path, labels: LabelFile) -> str:
    """Write a sheet and return its URL."""
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    candidates = []
    for n, name in enumerate(NAMES):
        disk = 255 * np.exp(-((x / (0.2 + 0.05 * n)) ** 2 + (y / 0.2) ** 2))
        pixels = np.repeat(disk[..., None], 3, axis=2).astype(np.uint8)
        reason = list(Reason)[n % 4]
        candidates.append(SheetCandidate(name, pixels, float("nan") if n == 8 else 0.9 - 0.1 * n, reason))
    summary = RoundSummary(TARGET, "simulated", 2, COUNT, 1, 1, 4, labels.scale, "regression", ())
    page = contact_sheet(candidates, labels, summary, path.stem)
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def drive(tmp_path: Path, test) -> None:
    async def run() -> None:
        async with open_browser(tmp_path / "profile", tmp_path / "downloads") as page:
            await test(page)

    asyncio.run(run())


async def downloaded(folder: Path) -> bytes:
    for _ in range(100):
        if (folder / "labels.csv").exists():
            return (folder / "labels.csv").read_bytes()
        await asyncio.sleep(0.1)
    raise AssertionError("nothing was downloaded")


async def state(page: Page) -> tuple[list[str], int]:
    labels = "[...document.querySelectorAll('#sheet .label')].map((one) => one.textContent)"
    selected = "[...document.querySelectorAll('#sheet li')].findIndex((one) => one.ariaSelected === 'true')"
    return await page.evaluate(labels), await page.evaluate(selected)


def test_round_is_labelled_by_keyboard_left_resumed_and_saved(tmp_path):
    before = b'filename,label,note\r\nold.jpg,anomaly,"x, y"'
    url = write_sheet(tmp_path / "sheet.html", read_labels(before, "labels.csv"))

    async def test(page: Page) -> None:
        await page.goto(url)
        await page.press("y", "n", "ArrowRight", "y")  # labels 0, 1 and 3
        assert await state(page) == ([YES, NO, "", YES, "", "", "", "", ""], 4)
        await page.press("ArrowLeft", "n", "u")  # changes 3, and takes it back
        labels, selected = await state(page)
        assert (labels[3], selected) == (YES, 3)
        await page.press("Home", "ArrowDown")
        row = await page.evaluate("perRow()")
        assert row > 1
        assert (await state(page))[1] == row
        for _ in range(20):  # Chromium stores the labels a moment later
            await page.goto("about:blank")
            await page.goto(url)
            if await state(page) == (labels, row):
                break
            await asyncio.sleep(0.25)
        assert await state(page) == (labels, row)  # the labels were kept
        await page.press("End", "ArrowRight", "n", "u", "u")  # at the end: stays; then undoes 8 and 3
        assert (await state(page))[0] == [YES, NO, *[""] * 7]
        assert await page.evaluate("document.getElementById('count').textContent") == "2 of 9 labelled, 1 found"
        await page.press("s")
        saved = await downloaded(tmp_path / "downloads")
        assert saved == before + b'\r\n"\'=a,b.jpg",anomaly,\r\ngalaxy-1.jpg,normal,\r\n'
        decisions = read_labels(saved, "labels.csv").decisions()
        assert decisions == {"old.jpg": True, "=a,b.jpg": True, "galaxy-1.jpg": False}

    drive(tmp_path, test)


def test_grades_have_their_keys_and_letters_do_nothing(tmp_path):
    url = write_sheet(tmp_path / "grades.html", read_labels(b"filename,label\nold.jpg,2\n", "labels.csv"))

    async def test(page: Page) -> None:
        await page.goto(url)
        await page.press("4", "y", "3", "5", "1")
        assert (await state(page))[0][:5] == ["✓ 4", "✗ 3", "✓ 5", "✗ 1", ""]

    drive(tmp_path, test)


def test_classes_are_answered_by_number_and_none_is_wanted(tmp_path):
    names = ("round", "edge_on", "spiral")
    answers = Answers("Which class is it?", names, ("round", "edge on", "spiral"), ("1", "2", "3"), names)
    candidates = [
        SheetCandidate(name, np.zeros((8, 8, 3), np.uint8), 0.5, Reason.UNCERTAIN, "edge_on") for name in "ab"
    ]
    labels = read_labels(b"filename,label\nold.jpg,round\n", "labels.csv", names)
    path = tmp_path / "classes.html"
    summary = RoundSummary("", "simulated", 2, 9, 1, 1, 4, "classes", "regression", ())
    path.write_text(draw_sheet(candidates, labels, answers, "Round 2: 3 classes", summary, "x"))

    async def test(page: Page) -> None:
        await page.goto(path.as_uri())
        assert "1 to 3 answer" in await page.evaluate("document.querySelector('header').innerText")
        await page.press("3", "y", "2")
        assert (await state(page))[0] == ["spiral", "edge on"]
        assert await page.evaluate("document.getElementById('count').textContent") == "2 of 2 labelled"
        assert "uncertain (edge on 0.500)" in await page.evaluate("document.body.innerText")
        await page.press("s")
        saved = await downloaded(tmp_path / "downloads")
        assert saved == b"filename,label\nold.jpg,round\na,spiral\nb,edge_on\n"

    drive(tmp_path, test)


def test_sheet_is_usable_on_a_narrow_screen_and_by_a_screen_reader(tmp_path):
    url = write_sheet(tmp_path / "narrow.html", new_labels(("filename", "label", "round", "reason", "score")))

    async def test(page: Page) -> None:
        await page.goto(url)
        await page.screenshot(tmp_path / "narrow.png", 320, 640)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
        assert await page.evaluate("perRow()") == 2
        await page.evaluate("document.querySelector('[data-label=anomaly]').click()")
        tree = (await page.call("Accessibility.getFullAXTree"))["nodes"]
        options = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "option"]
        assert options[0] == f"1 of 9: =a,b.jpg, high score (0.900), labelled {TARGET}"
        assert options[8] == "9 of 9: galaxy-8.jpg, high score, no label yet"
        assert len(options) == COUNT
        buttons = [node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "button"]
        assert [name.rsplit(" ", 1)[0] for name in buttons] == [f"not {TARGET}", TARGET, "undo", "save"]
        status = next(node for node in tree if node.get("role", {}).get("value") == "status")
        assert status is not None
        await page.press("n")
        text = await page.evaluate("document.getElementById('csv').value")
        assert text.splitlines()[1:] == [
            '"\'=a,b.jpg",anomaly,2,high score,0.900',
            "galaxy-1.jpg,normal,2,uncertain,0.800",
        ]
        errors = await page.evaluate("performance.getEntriesByType('resource').length")
        assert errors == 0  # nothing is loaded from elsewhere

    drive(tmp_path, test)
