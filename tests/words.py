"""Find words of pages, tables and notes that are false of simulated galaxies."""

from __future__ import annotations

import re
from typing import Any

from raydistill import table
from raydistill.config import Config


def words_of(page: str) -> set[str]:
    """Return the words that a page shows, speaks, or writes by its script."""
    text = re.sub(r"<style>.*?</style>|data:image[^\"]*", "", page, flags=re.S)
    heard = " ".join(re.findall(r'(?:alt|aria-label)="([^"]*)"', text))
    written = " ".join(re.findall(r"const WORDS = .*", text))
    shown = re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    return set(re.findall(r"[a-z]+", f"{re.sub(r'<[^>]*>', ' ', shown)} {heard} {written}".lower()))


def false_words(text: str) -> set[str]:
    """Return the words of a page or of a text that say that its galaxies are real."""
    return words_of(text.replace("not observed", "").replace("{real:", "{")) & {"real", "observed"}


def check_simulated(stage: str, config: Config, artifact: Any) -> None:
    """Assert that pages and printed text of an artifact say nothing false."""
    shown = {name: artifact.folder.read(name).decode() for name in artifact.manifest.files if name.endswith(".html")}
    show = table.stages()[stage].show
    text = "" if show is None else table.resolve(show)(config, artifact)
    shown |= {"printed": text, "repr": repr(artifact)}
    assert {name: result for name, text in shown.items() if (result := false_words(text))} == {}
