"""Test the stage similar: its sheet, its page, and what it rejects."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from ray_tools import SILENT, copy_of, tiny

from raydistill.config import Config
from raydistill.errors import ArtifactMissing, ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage
from raydistill.stages.predict.stage import predict
from raydistill.stages.similar.artifact import PICTURE, SHEET, SimilarSheet, similar_spec
from raydistill.stages.similar.stage import similar
from tests.e2e.browser import CHROMIUM, open_browser

pytestmark = pytest.mark.usefixtures("cluster")
GIVEN = ("similar.more=sim-000000,sim-000003", "similar.less=sim-000001", "similar.count=9")


@pytest.fixture(scope="module")
def predicted(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    root = copy_of(tiny_root, tmp_path_factory.mktemp("similar"), "survey", "curated", "trajectories")
    config = tiny(root, *GIVEN)
    predict(Plan(config), SILENT)
    return config


@pytest.fixture(scope="module")
def sheet(predicted: Config) -> SimilarSheet:
    return similar(Plan(predicted), SILENT)


def test_nearest_are_those_of_the_predicted_features(predicted: Config, sheet: SimilarSheet) -> None:
    ids, features = predict(Plan(predicted), SILENT).features()
    standard = features.astype(np.float64) - features.astype(np.float64).mean(axis=0)
    standard /= np.where(standard.std(axis=0) == 0, np.inf, standard.std(axis=0))
    standard /= np.linalg.norm(standard, axis=1, keepdims=True)
    row = {name: n for n, name in enumerate(ids)}
    query = standard[[row["sim-000000"], row["sim-000003"]]].mean(axis=0) - 0.5 * standard[row["sim-000001"]]
    similarity = standard @ query / np.linalg.norm(query)
    given = {"sim-000000", "sim-000003", "sim-000001"}
    expected = [ids[n] for n in np.argsort(-similarity) if ids[n] not in given][:9]
    table = sheet.table()
    assert table.object_id.tolist() == expected
    assert table["rank"].tolist() == list(range(1, 10))
    np.testing.assert_allclose(table.similarity, [similarity[row[name]] for name in expected], atol=1e-5)
    assert "9 of 90 galaxies of tiny that are like sim-000000, sim-000003, unlike sim-000001" in repr(sheet)


def test_a_search_again_opens_the_sheet(predicted: Config, sheet: SimilarSheet) -> None:
    assert similar(Plan(predicted), SILENT).manifest.content == sheet.manifest.content


def test_a_run_predicts_the_survey_first(predicted: Config) -> None:
    kinds = [spec.kind for spec in lineage(similar_spec(Plan(predicted)))]
    assert kinds == ["survey", "curated", "trajectories", "predictions", "similar"]


@pytest.mark.skipif(CHROMIUM is None, reason="no browser")
def test_marks_on_the_page_make_the_next_command(sheet: SimilarSheet, tmp_path: Path) -> None:
    first, second = sheet.table().object_id[:2]
    uri = Path(sheet.folder.uri, SHEET).as_uri()

    async def mark() -> list[str]:
        async with open_browser(tmp_path / "profile", tmp_path / "downloads") as page:
            await page.goto(uri)
            shown = []
            for name, what in ((first, "more"), (second, "less"), (first, "more")):
                await page.evaluate(f"document.querySelector(`[data-id='{name}'][data-mark={what}]`).click()")
                shown.append(await page.evaluate("document.getElementById('command').textContent"))
            return shown

    with_first, with_both, unmarked = asyncio.run(mark())
    command = "raydistill similar CONFIG 'similar.more=sim-000000,sim-000003%s' 'similar.less=sim-000001%s'"
    assert with_first == command % (f",{first}", "")
    assert with_both == command % (f",{first}", f",{second}")
    assert unmarked == command % ("", f",{second}")
    assert Path(sheet.folder.uri, PICTURE).stat().st_size > 1000


def test_unknown_galaxies_and_missing_inputs_are_named(tiny_root: Path, predicted: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no galaxy 'nope' whose picture could be used"):
        similar(Plan(tiny(predicted.output, "similar.more=nope")), SILENT)
    with pytest.raises(ConfigError, match="names no galaxy"):
        similar_spec(Plan(tiny(predicted.output)))
    with pytest.raises(ConfigError, match="nothing to compare"):
        similar_spec(Plan(tiny(predicted.output, *GIVEN, "predict.features=false")))
    root = copy_of(tiny_root, tmp_path, "survey", "curated", "trajectories")
    with pytest.raises(ArtifactMissing, match="raydistill predict CONFIG"):
        similar(Plan(tiny(root, *GIVEN)), SILENT)
