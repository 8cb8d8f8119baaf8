"""Define `AuditReport`: how a set differs from real galaxies.

The set is synthetic, distilled or another curated one.

- `report.html`: pictures, metrics, nearest pairs and histograms, in one file.
- `quiz.html`: real or synthetic? The reader decides, and gets a score.
- `findings.parquet`: a row per metric.
- `nearest.parquet`: for each synthetic picture its nearest training and held-out galaxy.
- `pictures.parquet`, with `audit.pictures`: the score of each picture.
- `audit.json`: the sizes and names of what was compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import pyarrow as pa

from raydistill.artifacts import kinds
from raydistill.artifacts.display import Displayed
from raydistill.artifacts.manifest import Manifest, describe_kind, exists, kind_of
from raydistill.artifacts.records import Record, checked, read_json
from raydistill.artifacts.tables import read_table
from raydistill.config import Config
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, ConfigError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.specs import ArtifactSpec, existing_spec
from raydistill.stages.pretrain.config import EXPERTS
from raydistill.statistics.testing import Finding
from raydistill.storage import Folder
from raydistill.text import sentence, survey_adjective, text_table

if TYPE_CHECKING:
    import pandas as pd


KIND = kinds.AUDIT
SECOND = "second"  # role of the set of `audit.second`
SUMMARY, FINDINGS, NEAREST = "audit.json", "findings.parquet", "nearest.parquet"
REPORT, QUIZ = "report.html", "quiz.html"
PICTURES = "pictures.parquet"
SCORED = (kinds.SYNTHETIC, kinds.CURATED)  # kinds of sets whose pictures get scores

FINDINGS_SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("feature", pa.string()),  # feature space or quantity
        ("worse", pa.string()),  # direction that counts against the synthetic set: higher, lower or different
        ("value", pa.float64()),
        ("low", pa.float64()),  # ends of the 95 % interval
        ("high", pa.float64()),
        ("floor", pa.float64()),  # mean of real pictures against real pictures
        ("floor_low", pa.float64()),  # range of 95 % of these
        ("floor_high", pa.float64()),
        ("p_value", pa.float64()),  # adjusted for the number of metrics
        ("significant", pa.bool_()),
    ]
)
NEAREST_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),  # of the synthetic picture
        ("training_id", pa.string()),
        ("training_distance", pa.float64()),  # root mean square difference of pixel values in [0, 1]
        ("held_out_id", pa.string()),
        ("held_out_distance", pa.float64()),
    ]
)

PICTURES_SCHEMA = pa.schema(
    [
        ("object_id", pa.string()),
        ("set", pa.string()),  # "audited", "held-out", or the folder of a further set
        ("synthetic", pa.bool_()),  # what the picture's own metadata say
        ("score", pa.float64()),  # probability that it is synthetic, if as many are synthetic as are not
    ]
)


class Words(NamedTuple):
    """Adjectives of the two kinds of pictures in an audit."""

    audited: str
    an_audited: str  # with its article
    reference: str


SYNTHETIC, OTHER = Words("synthetic", "a synthetic", survey_adjective(False)), Words("other", "another", "own")


@dataclass(frozen=True)
class AuditSummary(Record):
    """The contents of `audit.json`.

    Attributes
    ----------
    audited
        Kind of the audited set: "synthetic", "distilled" or "curated".
    content
        Content digest of the audited set.
    survey
        Name of the survey.
    simulated
        Whether the survey was simulated.
    image_size
        Side of the pictures in pixels.
    num_pictures
        Pictures of each of the three samples that are compared.
    num_synthetic, num_held_out, num_training
        Pictures from which the samples were drawn.
    num_searched
        Training pictures that were searched for copies, with those of `generate.extra_sets`.
    spaces
        Feature spaces that were compared.
    matched_classes
        Whether all samples were drawn with the same class proportions.
    permutations
        Permutations of the tests.
    seed
        Seed of samples and permutations.
    other_survey
        Name of the survey of another curated set, else "".
    second
        Identity of the set of `audit.second`, else "".
    """

    audited: str
    content: str
    survey: str
    simulated: bool
    image_size: int
    num_pictures: int
    num_synthetic: int
    num_held_out: int
    num_training: int
    num_searched: int
    spaces: tuple[str, ...]
    matched_classes: bool
    permutations: int
    seed: int
    other_survey: str = ""
    second: str = ""

    @property
    def words(self) -> Words:
        """Adjectives of the audited pictures and of those that they are compared with."""
        return OTHER if self.other_survey else SYNTHETIC._replace(reference=survey_adjective(self.simulated))


@dataclass(frozen=True, repr=False)
class AuditReport(Displayed):
    """An opened audit.

    Attributes
    ----------
    folder
        Where the artifact is stored.
    manifest
        Its manifest.
    summary
        Sizes and names of what was compared.
    findings
        One per metric.

    Examples
    --------
    >>> import raydistill as rd
    >>> report = rd.open("runs/demo/audit-0123456789ab")  # doctest: +SKIP
    >>> report.significant  # doctest: +SKIP
    """

    summary: AuditSummary
    findings: tuple[Finding, ...]

    kind = KIND

    @classmethod
    def _read(cls, folder: Folder, manifest: Manifest) -> Self:
        findings = checked(folder, FINDINGS, tuple[Finding, ...], read_table(folder, FINDINGS).to_pylist())
        return cls(folder, manifest, read_json(folder, SUMMARY, AuditSummary), findings)

    def _contents(self) -> str:
        of = self.summary
        return f"{of.num_pictures} {of.words.audited} pictures, {len(self.significant)} of {self.num_tested} metrics significant"

    @property
    def significant(self) -> tuple[Finding, ...]:
        """Return the findings that chance does not explain."""
        return tuple(finding for finding in self.findings if finding.significant)

    @property
    def num_tested(self) -> int:
        """Return the number of findings that are testable."""
        return sum(finding.testable for finding in self.findings)

    def table(self) -> pd.DataFrame:
        """Return one row per metric.

        Returns
        -------
        pandas.DataFrame
            The columns of `raydistill.statistics.testing.Finding`.
        """
        return read_table(self.folder, FINDINGS).to_pandas()

    _rows = table

    def nearest(self) -> pd.DataFrame:
        """Return the nearest training and held-out galaxy of each synthetic picture.

        Returns
        -------
        pandas.DataFrame
            `object_id`, `training_id`, `training_distance`, `held_out_id`, `held_out_distance`.
            A distance is the root mean square difference of pixel values in [0, 1], for the best of
            eight flips and turns.
        """
        return read_table(self.folder, NEAREST).to_pandas()

    def pictures(self) -> pd.DataFrame:
        """Return the score of each picture; no row without `audit.pictures`.

        Returns
        -------
        pandas.DataFrame
            `object_id`, `set` ("audited", "held-out" or the path of a further set), `synthetic`
            (what the picture's own metadata say) and `score`: the probability that it is synthetic,
            if as many pictures are as are not.
        """
        if PICTURES not in self.manifest.files:
            return PICTURES_SCHEMA.empty_table().to_pandas()
        return read_table(self.folder, PICTURES).to_pandas()


# The result of an audit as text: metrics that differ, and the verdict.

LIGHT = ("flux", "colour_red_green", "colour_green_blue")  # quantities that an audit always shows


def audit_report(config: Config, report: AuditReport) -> str:
    """Return flux, colours, metrics that differ from real galaxies, and the verdict."""
    summary, ours = report.summary, report.summary.words.reference
    head = ("metric", "value", "95 % interval", f"{ours}\nagainst\n{ours}", "differs")
    light = [finding for finding in report.findings if finding.metric == "wasserstein" and finding.feature in LIGHT]
    others = [finding for finding in report.significant if finding not in light]
    rows = [
        (f"{finding.metric}\nof {finding.feature}", f"{finding.value:.3g}",
         f"{finding.low:.3g} to\n{finding.high:.3g}", f"{finding.floor_low:.3g} to\n{finding.floor_high:.3g}",
         f"p = {finding.p_value:.3f}" if finding.significant else "no")
        for finding in (*light, *others)
    ]  # fmt: skip
    audited = f"pictures of {summary.other_survey}" if summary.other_survey else f"{summary.audited} pictures"
    title = f"{summary.num_pictures} {audited} against as many of {summary.survey}"
    words = (
        f"{ours} against {ours}: where 95 % of the values lie if both samples are {ours} galaxies; "
        "p: how often chance alone gives such a difference."
    )
    return f"{text_table(title, [head, *rows])}\n{sentence(words)}\n\n{sentence(audit_verdict(report))}"


def audit_verdict(report: AuditReport) -> str:
    """Return, as a sentence, whether the pictures differ from the survey's galaxies."""
    words, differing = report.summary.words, report.significant
    if not differing:
        return (
            f"The {words.audited} pictures cannot be distinguished from {words.reference} galaxies: none of the "
            f"{report.num_tested} metrics differs by more than chance."
        )
    light = any(finding.feature in LIGHT for finding in differing)
    return (
        f"The {words.audited} pictures can be distinguished from {words.reference} galaxies: {len(differing)} of "
        f"{report.num_tested} metrics differ by more than chance, {'some' if light else 'none'} of them in flux or colour."
    )


# The artifacts of an audit: the audited set and the report.


def audited_spec(plan: Plan) -> ArtifactSpec:
    """Return the set to audit: the run's synthetic set, or that of `audit.set`.

    Raises
    ------
    ArtifactMissing, ArtifactIncompatible
        The folder has no finished synthetic, distilled or other curated set.
    """
    path = plan.config.audit.set
    if path is None:
        return plan.synthetic
    allowed = (kinds.SYNTHETIC, kinds.DISTILLED, kinds.CURATED)
    return _named_set(plan, path, allowed, "give the folder of a synthetic, a distilled or another curated set")


def _named_set(plan: Plan, path: str, allowed: tuple[str, ...], fix: str) -> ArtifactSpec:
    """Return the set of a folder; not the run's own curated set."""
    folder = Folder(path)
    if not exists(folder):
        raise ArtifactMissing("no finished set is here", folder.uri, fix)
    kind = kind_of(folder)
    if kind not in allowed:
        raise ArtifactIncompatible(f"this is a {describe_kind(kind)[0]}, which cannot be audited", folder.uri, fix)
    spec = existing_spec(kind, path, fix)
    if kind == kinds.CURATED and spec.identity == plan.curated.identity:
        raise ArtifactIncompatible("this is the curated set that others are compared with", folder.uri, fix)
    return spec


def audit_spec(plan: Plan) -> ArtifactSpec:
    """Return the audit of the run's synthetic set, or of that of `audit.set`."""
    audited = audited_spec(plan)
    role = "other" if audited.kind == kinds.CURATED else audited.kind
    parents = {kinds.CURATED: plan.curated, role: audited}
    if uses_experts(plan):
        parents[kinds.TRAJECTORIES] = plan.trajectories
    if uses_encoder(plan):
        parents[kinds.ENCODER] = plan.describer
    if plan.config.audit.second is not None:
        parents[SECOND] = existing_spec(kinds.SYNTHETIC, plan.config.audit.second, "correct audit.second=PATH")
    pictures = plan.config.audit.pictures
    for number, path in enumerate(pictures or ()):
        fix = "correct audit.pictures: it names synthetic sets, or curated sets of other surveys"
        parents[f"pictures_{number}"] = _named_set(plan, path, SCORED, fix)
    # The paths of the sets do not matter, but their identities do.
    parts = {"audit": replace(plan.config.audit, set=None, second=None, pictures=None if pictures is None else ())}
    return plan.spec(kinds.AUDIT, parts, parents, plan.config.audit.seed)


def uses_encoder(plan: Plan) -> bool:
    """Return whether the audit compares features of an encoder.

    ConfigError if it is to, and `features` names none, or a table, which has no synthetic picture.
    """
    spaces, named = plan.config.audit.spaces, plan.config.features != EXPERTS
    if spaces is not None and "encoder" in spaces and not named:
        raise ConfigError("no encoder is named", "features", "set it to pretrain, or to the folder of an encoder")
    if not named or (spaces is not None and "encoder" not in spaces):
        return False
    if plan.picture_encoder is None and spaces is not None:
        what = "a table of features describes no synthetic picture"
        raise ConfigError(what, "audit.spaces", "leave out encoder, or set features to an encoder with a network")
    return plan.picture_encoder is not None


def uses_experts(plan: Plan) -> bool:
    """Return whether the audit compares features of the run's experts."""
    spaces = plan.config.audit.spaces
    return plan.trajectories.exists if spaces is None else "experts" in spaces
