"""analyse: measure prototypes beside real galaxies, and write a report.

    distilled set + curated set (+ experts, evaluation, generator)
        -> [sections, one after the other] -> sections/KEY.json, tables/, figures/
        -> statements.parquet, report.html

A section is a function of the opened artifacts. A killed analysis resumes with the sections that
are missing. Sections that measure many galaxies do so in Ray tasks.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from raydistill.artifacts.manifest import PARTIAL
from raydistill.artifacts.tables import write_rows
from raydistill.log import get_logger, progress
from raydistill.pipeline.plan import Plan
from raydistill.runtime.failures import translate_errors
from raydistill.runtime.stages import is_complete, stage_context, tracked_run
from raydistill.stages.analyse.artifact import (
    ORDER,
    REPORT,
    STATEMENTS,
    STATEMENTS_SCHEMA,
    AnalysisReport,
    analysis_spec,
)
from raydistill.stages.analyse.inputs import AnalysisInputs, open_inputs
from raydistill.stages.analyse.morphology.section import morphology_section
from raydistill.stages.analyse.networks.counterfactuals import counterfactuals_section
from raydistill.stages.analyse.networks.occlusion import occlusion_section
from raydistill.stages.analyse.networks.sparse_features import sparse_features_section
from raydistill.stages.analyse.prototypes.bias import bias_section
from raydistill.stages.analyse.prototypes.gallery import plans_with_experts, prototypes_section
from raydistill.stages.analyse.prototypes.neighbours import neighbours_section
from raydistill.stages.analyse.prototypes.spectra import spectra_section
from raydistill.stages.analyse.prototypes.stability import stability_section
from raydistill.stages.analyse.report.page import analysis_page
from raydistill.stages.analyse.sections import Section, SectionRecord, read_section, write_section
from raydistill.stages.curate.stage import curate
from raydistill.stages.experts.stage import experts
from raydistill.storage import checked, disk_errors
from raydistill.tracking.tracker import Run, Tracker

log = get_logger(__name__)

# In the order of the report. A key names the files of its section.
SECTIONS: dict[str, Callable[[AnalysisInputs], Section]] = {
    "prototypes": prototypes_section,
    "neighbours": neighbours_section,
    "morphology": morphology_section,
    "bias": bias_section,
    "spectra": spectra_section,
    "occlusion": occlusion_section,
    "sparse_features": sparse_features_section,
    "stability": stability_section,
    "counterfactuals": counterfactuals_section,
}


def analyse(plan: Plan, tracker: Tracker, parent_run: str | None = None) -> AnalysisReport:
    """Write the analysis of a distilled set, or open the existing one.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        The distilled set or the curated set does not exist, or they do not fit together.
    CatalogError, ConfigError
        The table of `analyse.properties` cannot be used.
    """
    spec = analysis_spec(plan)
    if not is_complete(spec):
        for other in plans_with_experts(plan):
            curate(other, tracker, parent_run)
            experts(other, tracker, parent_run)
        inputs = open_inputs(plan, spec)
        with stage_context(plan), tracked_run(plan, spec, tracker, parent_run, inputs.curated) as run:
            write_report(inputs, make_sections(inputs), run)
    return AnalysisReport.open(spec.folder)


def make_sections(inputs: AnalysisInputs) -> list[SectionRecord]:
    """Make the sections that are missing; return all of them."""
    folder = inputs.spec.folder
    done = [key for key in SECTIONS if checked.recorded(folder, _record(key)) is not None]
    with (
        disk_errors(folder.uri),
        translate_errors("analyse"),
        progress(len(SECTIONS), "analysing", "sections", start=len(done)) as shown,
    ):
        for key, make in SECTIONS.items():
            if key not in done:
                log.info("analyse: %s", key)
                section = make(inputs)
                if section.missing:
                    log.info("analyse: no section '%s': %s", key, section.missing)
                written = write_section(folder, section)
                checked.record(folder, _record(key), {name: folder.sha256(name) for name in written.files})
                shown.advance(1)
    return [read_section(folder, key) for key in SECTIONS]


def _record(key: str) -> str:
    """Return the name of the record of a finished section's files."""
    return f"{PARTIAL}/sections/{key}.json"


def write_report(inputs: AnalysisInputs, sections: list[SectionRecord], run: Run) -> None:
    """Write the page and the table of all statements, and record them."""
    folder = inputs.spec.folder
    statements = [
        {"section": section.key, **asdict(statement), "significant": statement.is_significant}
        for section in sections
        for statement in section.statements
    ]
    write_rows(folder, STATEMENTS, statements, STATEMENTS_SCHEMA)
    folder.write(ORDER, json.dumps([section.key for section in sections]).encode())
    folder.write(REPORT, analysis_page(folder, inputs.curated, inputs.distilled, sections).encode())
    run.artifact(folder.local(REPORT))
    tested = [statement for section in sections for statement in section.statements if statement.p_value is not None]
    significant = sum(statement.is_significant for statement in tested)
    run.metrics({"statements/tested": len(tested), "statements/significant": significant}, 0)
    log.info("analyse: %d of %d tested statements are significant", significant, len(tested))
