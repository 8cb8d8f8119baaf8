"""Define `AnalysisReport`: how prototypes look and differ, with uncertainties.

- `report.html`: all sections, in one file that needs no network.
- `sections.json`: the keys of the sections, in order. `sections/KEY.json`: text, shown tables and
  statements of a section.
- `tables/NAME.ecsv` and `tables/NAME.parquet`: tables with units and descriptions.
- `figures/NAME.svg` and `figures/NAME.png`.
- `statements.parquet`: a row per statement of all sections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.records import read_json
from raydistill.artifacts.tables import read_table
from raydistill.config import Config, plain
from raydistill.errors import ArtifactMissing, nearest
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, file_digest
from raydistill.text import interval, sentence

if TYPE_CHECKING:
    import pandas as pd
    from astropy.table import Table


KIND = kinds.ANALYSIS
REPORT, ORDER, STATEMENTS = "report.html", "sections.json", "statements.parquet"
STATEMENTS_SCHEMA = pa.schema(
    [
        ("section", pa.string()),
        ("text", pa.string()),
        ("value", pa.float64()),
        ("low", pa.float64()),  # ends of the 95 % interval
        ("high", pa.float64()),
        ("n", pa.int64()),  # galaxies, networks or sets
        ("p_value", pa.float64()),  # adjusted for the statements of the section; null: not tested
        ("significant", pa.bool_()),
    ]
)


@dataclass(frozen=True, repr=False)
class AnalysisReport(Displayed):
    """An opened analysis.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    sections
        Keys of the sections, in the order of the report.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo/analysis-0123456789ab")  # doctest: +SKIP
    >>> report.statements().query("significant")  # doctest: +SKIP
    """

    sections: tuple[str, ...]

    kind = KIND
    _json = ((ORDER, tuple[str, ...]),)
    _pictures = "figures/*.png"
    _num_pictures = 4

    def _contents(self) -> str:
        return f"{len(self.sections)} sections in report.html: {', '.join(self.sections)}"

    def _rows(self) -> pd.DataFrame:
        statements = self.statements()
        return statements[statements["significant"]]

    @property
    def tables(self) -> list[str]:
        """Return the names of the tables."""
        return sorted(
            name[7:-8] for name in self.manifest.files if name.startswith("tables/") and name.endswith(".parquet")
        )

    def table(self, name: str) -> Table:
        """Return a table with units and descriptions.

        Parameters
        ----------
        name
            One of `tables`.

        Returns
        -------
        astropy.table.Table

        Raises
        ------
        ArtifactMissing
            There is no such table.
        """
        from astropy.table import Table

        if name not in self.tables:
            raise ArtifactMissing(f"the analysis has no table '{name}'", self.folder.uri, nearest(name, self.tables))
        return Table.read(self.folder.read(f"tables/{name}.ecsv").decode(), format="ascii.ecsv")

    def statements(self) -> pd.DataFrame:
        """Return one row per statement, with the columns of `STATEMENTS_SCHEMA`."""
        return read_table(self.folder, STATEMENTS).to_pandas()

    def section(self, key: str) -> dict[str, Any]:
        """Return a section's text, shown tables and statements, as in its JSON file."""
        if key not in self.sections:
            raise ArtifactMissing(f"the analysis has no section '{key}'", self.folder.uri, nearest(key, self.sections))
        return read_json(self.folder, f"sections/{key}.json", dict[str, Any])


# The result of an analysis as text: its most significant statements.

SHOWN_STATEMENTS = 10


def analysis_report(config: Config, report: AnalysisReport) -> str:
    """Return the most significant statements of an analysis."""
    statements = report.statements()
    tested, significant = statements[statements.p_value.notna()], statements[statements.significant]
    lines = [f"{len(significant)} of {len(tested)} tested statements are significant."]
    for statement in significant.sort_values("p_value", kind="stable").head(SHOWN_STATEMENTS).to_dict("records"):
        value = interval(statement["value"], statement["low"], statement["high"])
        p_value = f"p = {statement['p_value']:.3f}" if statement["p_value"] >= 0.001 else "p < 0.001"
        lines.append(sentence(f"- {statement['text']}: {value}, n = {statement['n']}, {p_value}", indent="  "))
    if len(significant) > SHOWN_STATEMENTS:
        lines.append(f"- and {len(significant) - SHOWN_STATEMENTS} more")
    return "\n".join(lines)


# The artifacts of an analysis: what it reads, and the report.


def analysis_spec(plan: Plan) -> ArtifactSpec:
    """Return the analysis of the plan's distilled set, or of that of `distilled=PATH`.

    Experts and a generator are parents where they exist: they add sections. So is an encoder that
    `features` names; a table of features is not, because it does not describe prototypes.
    """
    parents = {kinds.CURATED: plan.curated, kinds.DISTILLED: plan.evaluated_set}
    optional = {kinds.TRAJECTORIES: plan.trajectories, kinds.GENERATOR: plan.generator}
    parents |= {kind: spec for kind, spec in optional.items() if spec.exists}
    if plan.picture_encoder is not None:
        parents[kinds.ENCODER] = plan.picture_encoder
    parts: dict[str, Any] = {"analyse": plain(plan.config.analyse)}
    if (properties := plan.config.analyse.properties) is not None:
        parts["properties_sha256"] = file_digest(properties.table, "table", "analyse.properties.table")
        parts["analyse"]["properties"].pop("table")  # its digest names it, wherever it is
    if (spectra := plan.config.analyse.spectra) is not None:
        parts["spectra_sha256"] = file_digest(spectra.root, "folder of spectra", "analyse.spectra.root")
        parts["analyse"]["spectra"].pop("root")
    return plan.spec(kinds.ANALYSIS, parts, parents, plan.config.analyse.seed)
