"""Test the hunt stage: manual rounds, scripted labeller, resuming, wrong inputs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from astropy.io.votable import parse_single_table
from pyarrow import csv
from ray_tools import SILENT, content, copy_of, killing, tiny

from raydistill.artifacts.manifest import PARTIAL
from raydistill.errors import ArtifactIncompatible, ArtifactMissing, CatalogError
from raydistill.pipeline.plan import Plan
from raydistill.pipeline.run import lineage, run, spec_of
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.curate.config import Part
from raydistill.stages.hunt import stage
from raydistill.stages.hunt.artifact import CANDIDATES, CATALOGUE, FINDS, LABELS, SCORES, SHEET, HuntReport, HuntRound
from raydistill.stages.hunt.inputs.survey import in_part, open_hunted, open_objects
from raydistill.stages.hunt.specs import hunt_spec
from raydistill.stages.predict.stage import predict
from raydistill.stages.sample.stage import sample
from tests.unit.stages.sample_tools import write_generator
from tests.words import check_simulated

pytestmark = pytest.mark.usefixtures("cluster")

FEW = ("sample.sampling={steps: 2}", "sample.num_images=40", "hunt.per_round=5", "hunt.background=10")
STEPS = "training: {steps: 3}"
ORACLE = (
    "hunt.oracle={positive: truth_class <= 2, rounds: 2, seeds: 2, num_examples: 2, attributes: [smooth, dust_lane], "
    f"strategies: [upper_bound, gen, real, random, attributes, network, fixmatch], network: {{{STEPS}}}, fixmatch: {{{STEPS}}}}}"
)


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with predictions, and samples of a random-weight generator."""
    root = copy_of(tiny_root, tmp_path_factory.mktemp("hunt"), "survey", "curated", "trajectories")
    write_generator(Plan(tiny(root)))
    sample(Plan(tiny(root, *FEW)), SILENT)
    predict(Plan(tiny(root)), SILENT)
    return root


def source(root: Path) -> str:
    """Return an override: a source whose positives and negatives are the same samples."""
    folder = Plan(tiny(root, *FEW)).synthetic.folder
    return f"hunt.synthetic={{gen: {{positive: {folder}, negative: {folder}}}}}"


def next_round(root: Path, *overrides: str) -> HuntRound:
    result = stage.hunt(Plan(tiny(root, *FEW, *overrides)), SILENT)
    assert isinstance(result, HuntRound)
    return result


def labelled(known: HuntRound, wanted: set[str], path: Path) -> Path:
    """Write the labels of a round as its sheet does: earlier ones, then candidates."""
    text = known.folder.read(LABELS).decode()
    for row in known.candidates().itertuples():
        label = "anomaly" if row.object_id in wanted else "normal"
        text += f"{row.filename},{label},{known.summary.number},{row.reason},\n"
    path.write_text(text)
    return path


def test_rounds_follow_each_other_and_show_nothing_twice(root: Path, tmp_path: Path) -> None:
    truth = csv.read_csv(f"{Plan(tiny(root)).survey.folder.uri}/truth.csv").to_pandas()
    wanted = set(truth.loc[truth["truth_class"] <= 2, "objid"])
    first = next_round(root)
    assert (first.summary.number, first.summary.learner) == (1, "")
    assert set(first.candidates()["reason"]) == {"diverse", "random"}
    shown, labels = set(first.candidates()["object_id"]), labelled(first, wanted, tmp_path / "one.csv")
    for number in (2, 3):
        later = next_round(root, f"hunt.labels={labels}")
        candidates = set(later.candidates()["object_id"])
        assert (later.summary.number, later.summary.num_labels) == (number, len(shown))
        assert later.folder.read(LABELS) == labels.read_bytes()
        assert len(candidates) == 5
        assert not candidates & shown
        scores = later.scores().set_index("object_id")
        assert set(scores.index[scores["label"].notna()]) == shown
        assert later.summary.num_found == len(shown & wanted) == scores["label"].fillna(False).sum()
        shown, labels = shown | candidates, labelled(later, wanted, tmp_path / f"{number}.csv")
    assert later.summary.learner == "regression"
    assert scores["score"].between(0, 1).all()
    best = scores["score"][scores["label"].isna()].idxmax()
    assert later.candidates()["object_id"][0] == best
    assert {SHEET, CANDIDATES, SCORES, CATALOGUE} <= set(later.manifest.files)
    rows = parse_single_table(io.BytesIO(later.folder.read(CATALOGUE))).to_table()
    assert set(rows["object_id"][rows["in_class"]]) == {name for name in rows["object_id"] if name in wanted}
    assert (len(rows), rows["in_class"].sum()) == (later.summary.num_labels, later.summary.num_found)
    assert (FINDS in later.manifest.files) is (later.summary.num_found > 0)
    assert later.summary.high_shown == sum(rows["reason"] == "high score") > 0


def test_candidates_without_a_label_stay_candidates(root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,label\nsim-000001,yes\nsim-000002,no\n")
    first = next_round(root, f"hunt.labels={labels}").candidates()["object_id"].tolist()
    labels.write_text(f"{labels.read_text()}{first[-1]},no\n")  # the others are skipped
    second = next_round(root, f"hunt.labels={labels}")
    shown, skipped = set(second.candidates()["object_id"]), set(first[:-1])
    scores = second.scores().set_index("object_id")
    best = scores["score"][scores["label"].isna()].nlargest(3).index  # of five, by the quotas
    assert set(best) <= shown
    assert skipped & set(best)
    assert first[-1] not in shown


def test_a_stopped_round_ends_with_the_same_bytes(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue of candidates and its pictures are written last."""
    first = next_round(root)
    labels = labelled(first, set(first.candidates()["object_id"][:3]), tmp_path / "labels.csv")
    undisturbed = next_round(root, f"hunt.labels={labels}")
    assert FINDS in undisturbed.manifest.files
    other = copy_of(root, tmp_path / "other", "survey", "curated", "trajectories", "synthetic", "predictions")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("raydistill.stages.hunt.round.draw_finds", stop)
        with pytest.raises(KeyboardInterrupt):
            next_round(other, f"hunt.labels={labels}")
    assert next_round(other, f"hunt.labels={labels}").manifest.content == undisturbed.manifest.content


@pytest.mark.parametrize("learner", ["network", "fixmatch"])
def test_network_on_pixels_ranks_a_survey_too(root: Path, tmp_path: Path, learner: str) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,label\nsim-000001,yes\nsim-000002,no\n")
    result = next_round(root, f"hunt.labels={labels}", f"hunt.learner={{kind: {learner}, {STEPS}}}", source(root))
    assert (result.summary.learner, result.summary.scale, result.summary.sources) == (learner, "yes-no", ("gen",))
    assert result.scores()["score"].notna().all()
    assert b"synthetic galaxies (gen)" in result.folder.read(SHEET)


def report_of(root: Path, *overrides: str) -> HuntReport:
    result = stage.hunt(Plan(tiny(root, *FEW, ORACLE, source(root), *overrides)), SILENT)
    assert isinstance(result, HuntReport)
    return result


@pytest.fixture(scope="module")
def compared(root: Path) -> HuntReport:
    """Return the report of all strategies, by one worker."""
    return report_of(root, "resources.workers=1")


def test_strategies_are_compared(root: Path, compared: HuntReport) -> None:
    report = compared
    summary, trials = report.summary, report.trials()
    assert summary.num_objects == 90
    assert summary.simulated
    check_simulated("hunt", tiny(root), report)
    assert trials.groupby(["strategy", "seed"]).size().eq(10).all()
    assert not trials.duplicated(["strategy", "seed", "object_id"]).any()
    ends = report.curves().query("labels == 10").set_index("strategy")["mean"]
    result = trials.groupby(["strategy", "seed"])["found"].sum().groupby("strategy").mean()
    assert ends.to_dict() == result.to_dict()
    table = report.table().set_index(["strategy", "moment", "metric"])
    difference = table.loc[("upper_bound", "end", "found")]["difference"]
    assert difference == pytest.approx(result["upper_bound"] - result["real"])
    assert set(report.seen()["by"]) == {"experts", "attributes", "gen"}


def test_hunt_on_a_part_knows_and_shows_no_object_of_another_part(root: Path) -> None:
    few = (
        "positive: truth_class <= 2, rounds: 2, seeds: 2, num_examples: 2, strategies: [upper_bound, gen, real, random]"
    )
    sizes = []
    for index in range(2):
        part = Part(index, 2)
        oracle = f"hunt.oracle={{{few}, part: {{index: {index}, parts: 2}}}}"
        plan = Plan(tiny(root, *FEW, oracle, source(root)))
        report = stage.hunt(plan, SILENT)
        assert isinstance(report, HuntReport)
        shown = report.trials()["object_id"].tolist()
        shown += csv.read_csv(f"{report.folder.uri}/{CANDIDATES}")["object_id"].to_pylist()
        assert len(shown) == 4 * 2 * 10 + 5
        assert in_part(shown, part).all()
        curated = CuratedSet.open(plan.curated.folder)
        survey = open_hunted(plan, curated)
        expected = in_part(survey.ids, part)
        rows = expected.nonzero()[0].tolist()
        labels = csv.read_csv(f"{report.folder.uri}/{LABELS}")["filename"].to_pylist()
        assert set(labels) <= set(survey.filenames(rows))  # examples too
        members = open_objects(plan, curated, survey)  # trials know these objects alone
        assert members.rows.tolist() == rows
        assert in_part(sorted(members.targets), part).all()
        assert report.summary.num_objects == expected.sum()
        sizes.append(report.summary.num_objects)
    assert sum(sizes) == 90
    assert min(sizes) > 25


def test_examples_of_a_file_are_counted(root: Path, tmp_path: Path) -> None:
    plan = Plan(tiny(root, *FEW, "hunt.oracle={positive: truth_class <= 2}"))
    objects = open_objects(
        plan, CuratedSet.open(plan.curated.folder), open_hunted(plan, CuratedSet.open(plan.curated.folder))
    )
    others = sorted(set(objects.survey.ids) - objects.targets)
    labels = [(name, "yes") for name in sorted(objects.targets)[:3]] + [(others[0], "no")]
    (tmp_path / "known.csv").write_text("filename,label\n" + "".join(f"{name},{label}\n" for name, label in labels))
    few = f"hunt.oracle={{positive: truth_class <= 2, rounds: 1, seeds: 1, strategies: [random], examples: '{tmp_path}/known.csv'}}"
    assert stage.hunt(Plan(tiny(root, *FEW, few)), SILENT).summary.num_examples == 3


def test_part_with_too_few_targets_is_rejected(root: Path) -> None:
    oracle = "hunt.oracle={positive: truth_class <= 2, num_examples: 0, part: {index: 0, parts: 10000}}"
    with pytest.raises(
        ArtifactIncompatible, match=r"part of the survey \(hunt\.oracle\.part\) has 0 objects of the target"
    ):
        stage.hunt(Plan(tiny(root, *FEW, oracle)), SILENT)


@pytest.mark.long
def test_killed_worker_keeps_the_bits_of_a_comparison(root: Path, compared: HuntReport, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, "survey", "curated", "trajectories", "generator", "synthetic", "predictions")
    again = hunt_spec(Plan(tiny(other, *FEW, ORACLE, source(other))))
    assert again.identity == compared.manifest.identity
    partial = Path(again.folder.uri) / PARTIAL
    with killing("MapBatches", lambda: len(list(partial.glob("trial-*.json"))) >= 2):
        report_of(other, "resources.workers=2")
    assert content(again) == compared.manifest.content


@pytest.mark.long
def test_features_of_a_source_network_join_those_of_predict(root: Path, tmp_path: Path) -> None:
    network = (f"hunt.source_network={{{STEPS}}}", "hunt.source_background=20")
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,label\nsim-000001,yes\nsim-000002,no\n")
    plain, joined = (next_round(root, f"hunt.labels={labels}", source(root), *more) for more in ((), network))
    assert joined.summary.learner == "regression"
    assert not joined.scores()["score"].equals(plain.scores()["score"])
    few = "hunt.oracle={positive: truth_class <= 2, rounds: 1, seeds: 2, num_examples: 2, strategies: [upper_bound, gen, real]}"
    start = {}
    for name, more in {"plain": (), "joined": network}.items():
        report = stage.hunt(Plan(tiny(root, *FEW, few, source(root), *more)), SILENT)
        table = report.table().set_index(["strategy", "moment", "metric"])["mean"]
        start[name] = {
            strategy: table[strategy, "start", "average_precision"] for strategy in ("upper_bound", "gen", "real")
        }
    assert start["plain"]["real"] == start["joined"]["real"]  # it has no source
    for strategy in ("upper_bound", "gen"):
        assert start["plain"][strategy] != start["joined"][strategy]


@pytest.mark.long
def test_run_samples_the_sources_first(root: Path, tmp_path: Path) -> None:
    other = copy_of(root, tmp_path, "survey", "curated", "trajectories")
    lanes = "source: {kind: injection, model: {kind: dust_lane, depth: %s}}"
    sets = ", ".join(
        f"{role}: {{num_images: 10, {lanes % depth}}}"
        for role, depth in (("positive", "[1, 1]"), ("negative", "[0, 0]"))
    )
    oracle = "hunt.oracle={positive: truth_class <= 2, rounds: 1, seeds: 1, num_examples: 0}"
    plan = Plan(tiny(other, "hunt.per_round=5", f"hunt.synthetic={{lanes: {{{sets}}}}}", oracle))
    needed = [spec.kind for spec in lineage(spec_of(plan, "hunt"), needed=True)]
    assert needed == ["predictions", "synthetic", "synthetic", "hunt"]
    report = run(plan, "hunt")
    assert report.summary.strategies == ("upper_bound", "lanes", "real", "random")
    table = report.table().set_index(["strategy", "moment", "metric"])
    assert table.loc[("lanes", "start", "average_precision"), "seeds"] == 1  # it learns without an example
    assert table.loc[("real", "start", "average_precision"), "seeds"] == 0


def test_strict_setting_leaves_out_galaxies_of_the_target_class(root: Path) -> None:
    oracle = ORACLE.replace("positive:", "setting: strict, positive:").replace("truth_class <= 2", "truth_class == 0")
    report = stage.hunt(Plan(tiny(root, *FEW, oracle, source(root))), SILENT)
    assert isinstance(report, HuntReport)
    seen = report.seen().set_index("by")
    assert seen.loc["experts", "targets"] > 0
    assert seen.loc["attributes", "targets"] == 0
    assert seen.loc["gen", "targets"] == seen.loc["experts", "targets"]  # its generator was trained on the same


@pytest.mark.long
def test_missing_predictions_and_features_are_rejected(root: Path, tmp_path: Path) -> None:
    empty = copy_of(root, tmp_path, "survey", "curated", "trajectories")
    with pytest.raises(
        ArtifactMissing, match="the survey has no predictions yet; run 'raydistill predict CONFIG' first"
    ):
        next_round(empty)
    predict(Plan(tiny(empty, "predict.features=false")), SILENT)
    with pytest.raises(ArtifactIncompatible, match=r"set predict\.features=true"):
        next_round(empty, "predict.features=false")


def test_labels_of_another_survey_are_rejected(root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("filename,label\nsim-000001,yes\nother.jpg,no\n")
    with pytest.raises(CatalogError, match=r"the filename 'other\.jpg' names no object of the survey"):
        next_round(root, f"hunt.labels={labels}")
    labels.write_text("filename,label\nsim-000001,yes\n1.jpg,no\n")
    with pytest.raises(CatalogError, match=r"the label of '1\.jpg' contradicts that of another name"):
        next_round(root, f"hunt.labels={labels}")
