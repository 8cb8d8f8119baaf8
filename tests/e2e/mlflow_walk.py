"""Open the MLflow pages that a user sees in a real browser; check what they show.

`python -m tests.e2e.mlflow_walk TRACKING_URI EXPERIMENT FOLDER` saves a picture of each page.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from raydistill.tracking.uris import ui_command
from tests.e2e.browser import Page, open_browser
from tests.servers import free_port, serving

WIDTH, HEIGHT = 1440, 800  # of the saved pictures
TRAINING = "workflowType=machine_learning"
# The assistant covers a third of a page until a user closes it.
CLOSED = {"mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true", "mlflow.assistant.panelOpen_v1": "false"}


class Walk:
    """A browser on an MLflow server; saves pages in `pictures` unless it is None."""

    def __init__(self, page: Page, server: str, pictures: Path | None = None) -> None:
        self.page, self._server, self._pictures = page, server, pictures

    async def start(self) -> None:
        """Open the server, and close what covers its pages."""
        await self.page.call(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
        )
        await self.page.goto(f"{self._server}/health")
        for key, value in CLOSED.items():
            await self.page.evaluate(f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)})")

    async def visit(self, address: str, *wanted: str, name: str = "") -> str:
        """Open a page below `/#/`, wait until it shows these texts, and return its text."""
        await self.page.goto("about:blank")  # another fragment alone would not load the page again
        await self.page.call("Page.navigate", url=f"{self._server}/#/{address}")
        return await self.read(*wanted, name=name)

    async def read(self, *wanted: str, name: str = "") -> str:
        """Wait until the page shows these texts; save a picture of it under a name."""
        text = ""
        for _ in range(300):
            text = str(await self.page.evaluate("document.body?.innerText ?? ''"))
            if all(part in text for part in wanted):
                if self._pictures is not None and name:
                    await asyncio.sleep(2)  # charts are drawn after their texts
                    await self.page.screenshot(self._pictures / f"{name}.png", WIDTH, HEIGHT)
                return text
            await asyncio.sleep(0.1)
        raise AssertionError(f"{[part for part in wanted if part not in text]} do not appear on the page:\n{text}")

    async def click(self, selector: str, start: str = "") -> None:
        """Click the first element of a CSS selector whose text starts so."""
        result = f"[...document.querySelectorAll({json.dumps(selector)})].find(e => e.textContent.trim().startsWith({json.dumps(start)}))"
        await self.page.evaluate(f"{result}.click()")

    async def follow(self, text: str) -> None:
        """Open the page of a link of a description, which MLflow opens in a new tab."""
        link = f"[...document.querySelectorAll('a')].find(e => e.textContent === {json.dumps(text)})"
        address = await self.page.evaluate(f"{link}.href")
        await self.page.goto("about:blank")
        await self.page.call("Page.navigate", url=address)

    async def picture_width(self) -> int:
        """Wait until the page's largest picture is loaded; return its width in pixels."""
        for _ in range(300):
            sizes = "Math.max(0, ...[...document.images].map(image => image.naturalWidth))"
            if (width := int(await self.page.evaluate(sizes))) > 200:
                return width
            await asyncio.sleep(0.1)
        raise AssertionError("the page shows no picture")


@asynccontextmanager
async def walking(uri: str, folder: Path, pictures: Path | None = None) -> AsyncIterator[Walk]:
    """Serve a tracking URI as the printed command does, and open a browser on it."""
    port = free_port()
    with serving(shlex.split(ui_command(uri)), port, folder / "ui.log"):
        async with open_browser(folder / "profile", folder / "downloads") as page:
            walk = Walk(page, f"http://127.0.0.1:{port}", pictures)
            await walk.start()
            yield walk


async def walk_run(walk: Walk, client: Any, experiment_id: str) -> None:
    """Visit every page about a run of the pipeline and its stages."""
    runs = {run.data.tags["raydistill.stage"]: run for run in client.search_runs([experiment_id])}
    pages = {stage: f"experiments/{experiment_id}/runs/{run.info.run_id}" for stage, run in runs.items()}
    config, parent = runs["run"].data.tags["config"], runs["run"].info.run_id
    stages = [run.info.run_name for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == parent]
    await walk.visit(f"experiments/{experiment_id}", "Runs of raydistill")  # as from the server's start page
    await walk.follow("Show them with their accuracies")
    await walk.read(
        "matching runs",
        runs["run"].info.run_name,
        "distilled/balanced_accuracy",
        "class_mean/balanced_accuracy",
        name="runs",
    )
    await walk.click("a", runs["run"].info.run_name)
    await walk.read("It reaches ", "balanced accuracy ± 95 %", "distilled/fraction_of_experts", *stages)
    await walk.visit(f"{pages['run']}?{TRAINING}", "It reaches ", name="run")
    await walk.visit(f"{pages['distilled']}/model-metrics?{TRAINING}", "loss", "validation", name="metrics")
    await walk.visit(f"{pages['distilled']}/artifacts/atlas.png?{TRAINING}", "atlas.png", "prototypes", name="atlas")
    assert await walk.picture_width() > 200
    await walk.visit(f"{pages['curated']}?{TRAINING}", "rejected", "candidates", "examples.png")
    await walk.visit(f"{pages['curated']}/artifacts/examples.png?{TRAINING}", "examples.png", name="examples")
    assert await walk.picture_width() > 200
    await walk.visit(f"{pages['trajectories']}/artifacts/experts.png?{TRAINING}", "experts.png")
    assert await walk.picture_width() > 200
    table = f"{pages['evaluation']}/artifacts/accuracies.json?{TRAINING}"
    await walk.visit(table, "training_set", "balanced_accuracy_ci95", "random_images", "View as table", name="table")
    pair = json.dumps([runs[stage].info.run_id for stage in ("run", "evaluation")])
    await walk.visit(
        f"compare-runs?runs={pair}&experiments={json.dumps([experiment_id])}&{TRAINING}",
        "Comparing 2 Runs", runs["run"].info.run_name, runs["evaluation"].info.run_name, "distilled/balanced_accuracy",
        name="compare",
    )  # fmt: skip
    await walk_models(walk, client, experiment_id, config)


async def walk_models(walk: Walk, client: Any, experiment_id: str, config: str) -> None:
    """Visit the pages of the logged and the registered models."""
    models = {model.name: model for model in client.search_logged_models([experiment_id])}
    distilled = next(model for model in models.values() if model.model_type == "distilled-set")
    await walk.visit(f"experiments/{experiment_id}/models?{TRAINING}", *models, "Ready", name="models")
    await walk.visit(
        f"experiments/{experiment_id}/models/{distilled.model_id}?{TRAINING}",
        "validation/balanced_accuracy", "test/balanced_accuracy", f"distilled {config}", f"evaluation {config}",
        "Datasets used", "v1", "raydistill.open",
        name="model",
    )  # fmt: skip
    await walk.visit("models", *models, "best", "Try it now")
    await walk.click("button", "Try it now")  # an advertisement covers the first page of the registry
    await walk.visit(f"models/{distilled.name}", "Version 1", "best", "raydistill.uri", name="registered")
    await walk.visit(
        f"models/{distilled.name}/versions/1", "best", distilled.tags["raydistill.uri"], f"distilled {config}",
        name="version",
    )  # fmt: skip


async def walk_search(walk: Walk, client: Any, experiment_id: str) -> None:
    """Visit the page of a search and one of its trials."""
    runs = client.search_runs([experiment_id])
    (parent,) = [run for run in runs if run.data.tags["raydistill.stage"] == "search"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    await walk.visit(f"experiments/{experiment_id}/runs?{TRAINING}", parent.info.run_name, f"{len(runs)} matching runs")
    overview = f"experiments/{experiment_id}/runs/{parent.info.run_id}?{TRAINING}"
    await walk.visit(overview, "Child runs", *(child.info.run_name for child in children), name="search")
    await walk.click("a", children[0].info.run_name)
    await walk.read("Parent run", parent.info.run_name, "distill.student_steps", "validation/balanced_accuracy")


def main(uri: str, experiment: str, pictures: str) -> None:
    """Visit every page of an experiment, and save a picture of each page."""
    import mlflow

    client = mlflow.MlflowClient(uri)
    experiment_id = client.get_experiment_by_name(experiment).experiment_id
    Path(pictures).mkdir(parents=True, exist_ok=True)

    async def walk_all() -> None:
        async with walking(uri, Path(tempfile.mkdtemp()), Path(pictures)) as walk:
            await walk_run(walk, client, experiment_id)

    asyncio.run(walk_all())


if __name__ == "__main__":
    main(*sys.argv[1:])
