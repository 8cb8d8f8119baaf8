"""Test the page of an analysis in a real browser.

The tests use the slider, the difference of classes, details by keyboard, and two widths.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from raydistill.figures.pages import picture, render
from raydistill.stages.analyse.report.page import GalleryRow, Neighbour, gallery, survey_links
from raydistill.stages.analyse.sections import SectionRecord, Statement
from tests.e2e.browser import CHROMIUM, Page, open_browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

SIDE, CLASSES = 8, ("round", "edge_on")


def disk(width: float, brightness: float) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    light = brightness * np.exp(-((x / width) ** 2) - (y / 0.3) ** 2)
    return np.repeat((255 * light)[..., None], 3, axis=2).astype(np.uint8)


def write_page(path: Path, first: int = 1) -> str:
    """Write a page with two classes and three frames; return its URL.

    first: equal images of the first class; the second one has one.
    """
    frames = {n: np.stack([*[disk(0.3, 0.2 * n)] * first, disk(0.9, 0.3 * n)]) for n in (0, 1, 3)}
    rows = []
    for name in CLASSES:
        tile = picture(disk(0.3, 1), f"mean of {name}")
        links = survey_links(10.0, 2.0)
        neighbour = Neighbour(tile, "587722981742084144", name, "0.012", ["smooth or features: smooth (0.90)"], links)
        rows.append(GalleryRow(name, 7, tile, tile, [neighbour]))
    statements = [Statement("A <b>bold</b> claim", 1.0, 0.5, 1.5, 10, 0.01), Statement("Chance", 0.1, -1, 1, 10, 0.9)]
    section = SectionRecord("prototypes", "Prototypes", ["Text."], [], [], statements, has_html=True)
    page = render(
        "analysis.html", survey="test", adjective="real", image_size=SIDE, amount="1 image per class",
        num_classes=2, num_galaxies=10, iteration=3,
        content="0" * 12, aligned=False, level=0.05, shown=5, unfolded=12, sections=[section],
        bodies={"prototypes": gallery(rows, [first, 1], frames)}, embed=str, describe=lambda value: f"n = {value.n}", cell=str,
    )  # fmt: skip
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def drive(tmp_path: Path, test, first: int = 1) -> None:
    async def run() -> None:
        async with open_browser(tmp_path / "profile", tmp_path / "downloads") as page:
            await page.goto(write_page(tmp_path / "report.html", first))
            await test(page)

    asyncio.run(run())


def test_slider_shows_the_images_of_an_iteration(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        tile = "getComputedStyle(document.querySelector('.tile')).backgroundImage"
        last = await page.evaluate(tile)
        await page.evaluate("document.getElementById('iteration').focus()")
        await page.press("Home")
        assert await page.evaluate("document.getElementById('iteration-shown').textContent") == "0"
        assert (
            await page.evaluate("document.getElementById('iteration').getAttribute('aria-valuetext')") == "iteration 0"
        )
        assert await page.evaluate(tile) != last
        await page.press("ArrowRight", "ArrowRight")
        assert await page.evaluate("document.getElementById('iteration-shown').textContent") == "3"
        assert await page.evaluate(tile) == last

    drive(tmp_path, test)


def test_difference_of_two_classes_has_the_sign_of_the_brighter_one(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        pixel = (
            "(() => { const c = document.getElementById('difference');"
            f" return Array.from(c.getContext('2d').getImageData({SIDE - 1}, {SIDE // 2}, 1, 1).data); }})()"
        )
        for _ in range(50):
            if await page.evaluate("document.getElementById('difference').width") == SIDE:
                break
            await asyncio.sleep(0.1)
        red, _, blue, _ = await page.evaluate(pixel)  # far from the centre only the second class has light
        assert blue > red
        await page.evaluate(
            "for (const [id, value] of [['first-class', 1], ['second-class', 0]]) {"
            " const list = document.getElementById(id); list.value = value; list.dispatchEvent(new Event('change')); }"
        )
        red, _, blue, _ = await page.evaluate(pixel)
        assert red > blue
        label = await page.evaluate("document.getElementById('difference').getAttribute('aria-label')")
        assert label.startswith("Prototypes of edge on minus those of round")

    drive(tmp_path, test)


def test_classes_may_have_different_numbers_of_prototypes(tmp_path: Path) -> None:
    shown = []

    async def test(page: Page) -> None:
        for _ in range(50):
            if await page.evaluate("document.getElementById('difference').width") == SIDE:
                break
            await asyncio.sleep(0.1)
        tiles = await page.evaluate("document.querySelectorAll('.tile').length")
        shown.append((tiles, await page.evaluate("document.getElementById('difference').toDataURL()")))

    for first in (1, 3):
        (tmp_path / str(first)).mkdir()
        drive(tmp_path / str(first), test, first)
    assert [tiles for tiles, _ in shown] == [2, 4]
    assert shown[0][1] == shown[1][1], "the mean prototype does not depend on how often it is repeated"


def test_details_of_a_galaxy_open_by_keyboard(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        shown = "getComputedStyle(document.querySelector('.details')).display"
        assert await page.evaluate(shown) == "none"
        await page.evaluate("document.querySelector('.card').focus()")
        assert await page.evaluate(shown) == "block"
        text = await page.evaluate("document.querySelector('.details').innerText")
        assert "587722981742084144" in text
        assert "smooth (0.90)" in text
        assert "skyserver.sdss.org" in await page.evaluate("document.querySelector('.details a').href")

    drive(tmp_path, test)


def test_page_fits_narrow_windows_and_names_everything(tmp_path: Path) -> None:
    async def test(page: Page) -> None:
        for width in (1200, 390):
            await page.screenshot(tmp_path / f"{width}.png", width, 800)
            assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert await page.evaluate("Array.from(document.images).every((one) => one.hasAttribute('alt'))")
        unnamed = "Array.from(document.querySelectorAll('[role=img], canvas, .card')).filter((one) => !one.getAttribute('aria-label'))"
        assert await page.evaluate(f"{unnamed}.length") == 0
        labelled = "Array.from(document.querySelectorAll('input, select')).every((one) => one.labels.length === 1)"
        assert await page.evaluate(labelled)
        assert "<b>bold</b>" in await page.evaluate("document.querySelector('.box').innerText")  # text is escaped
        assert await page.evaluate("document.querySelectorAll('.box.uncertain details li').length") == 1

    drive(tmp_path, test)
