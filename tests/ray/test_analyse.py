"""Test the analysis stage: equal content on 1 and 2 workers, and resuming.

Also test properties of a table, and other sets.
"""

from __future__ import annotations

import zlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from ray_tools import SILENT, content, copy_of, tiny

from raydistill.errors import CatalogError
from raydistill.pipeline.plan import Plan
from raydistill.stages.analyse import stage
from raydistill.stages.analyse.artifact import AnalysisReport, analysis_spec
from raydistill.stages.analyse.inputs import open_inputs
from raydistill.stages.analyse.prototypes.neighbours import nearest_of_class
from raydistill.stages.analyse.prototypes.spectra import read_spectrum
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.storage import Folder
from tests.words import check_simulated

pytestmark = pytest.mark.usefixtures("cluster")

INPUTS = ("survey", "curated", "trajectories", "distilled")
FEW = ("analyse.permutations=99", "analyse.neighbours=6", "analyse.max_galaxies=3")


def analysed(root: Path, *overrides: str) -> AnalysisReport:
    return stage.analyse(Plan(tiny(root, *FEW, *overrides)), SILENT)


def only(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    """Let the stage make these sections alone."""
    monkeypatch.setattr(stage, "SECTIONS", {key: stage.SECTIONS[key] for key in keys})


@pytest.fixture(scope="module")
def root(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(tiny_root, tmp_path_factory.mktemp("analyse"), *INPUTS)


@pytest.fixture(scope="module")
def report(root: Path) -> AnalysisReport:
    return analysed(root, "resources.workers=1")


def test_report_has_all_sections_and_tables_with_units(report: AnalysisReport) -> None:
    assert report.sections == tuple(stage.SECTIONS)
    neighbours = report.table("neighbours")
    assert {"redshift", "petro_r90", "magnitude", "picture_radius"} <= set(neighbours["property"])
    assert set(neighbours["unit"][neighbours["property"] == "petro_r90"]) == {"arcsec"}
    statements = report.statements()
    assert statements.p_value.dropna().between(0, 1).all()
    assert (statements.n > 0).all()
    check_simulated("analyse", tiny(report.folder.uri), report)
    page = report.folder.read("report.html").decode()
    assert all(f'id="{key}"' in page for key in report.sections if not report.section(key)["missing"])
    assert "http://" not in page.replace("http://www.w3.org", "")  # nothing is loaded from elsewhere


def test_neighbours_of_a_class_are_its_own_galaxies(report: AnalysisReport, root: Path) -> None:
    curated = CuratedSet.open(Plan(tiny(root)).curated.folder)
    train = curated.table("train", ["object_id", "redshift"]).to_pandas()
    for row in report.table("neighbours"):
        if row["property"] == "redshift":
            of_class = train.redshift[train.label == curated.class_names.index(row["class"])]
            assert row["class_mean"] == pytest.approx(of_class.mean())
            assert row["n"] <= 6
            assert row["n_class"] == len(of_class)


@pytest.mark.long
def test_two_workers_give_the_same_content(report: AnalysisReport, tiny_root: Path, tmp_path: Path) -> None:
    again = analysed(copy_of(tiny_root, tmp_path, *INPUTS), "resources.workers=2")
    assert again.manifest.content == report.manifest.content


@pytest.mark.long
def test_resumes_with_the_sections_that_are_missing(
    tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "prototypes", "neighbours", "bias")
    calm, root = (copy_of(tiny_root, tmp_path / name, *INPUTS) for name in ("calm", "stopped"))
    report, last = analysed(calm), "bias"

    def stop(inputs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(stage.SECTIONS, last, stop)
        with pytest.raises(KeyboardInterrupt):
            analysed(root)
    spec = analysis_spec(Plan(tiny(root, *FEW)))
    written = {name: spec.folder.sha256(name) for name in spec.folder.files("sections")}
    assert written
    assert f"sections/{last}.json" not in written
    monkeypatch.setitem(stage.SECTIONS, "prototypes", stop)  # it is there already
    assert analysed(root).manifest.content == report.manifest.content
    assert content(spec) == report.manifest.content


def test_properties_of_a_table_are_joined_by_id(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "neighbours")
    train = CuratedSet.open(Plan(tiny(root)).curated.folder).load("train")
    lines = [f"{object_id},{n},{2 * n}" for n, object_id in enumerate(train.object_ids)]
    (tmp_path / "t.csv").write_text("\n".join(["galaxy,u,r", *lines[::-1]]))
    table = f"analyse.properties={{table: {tmp_path}/t.csv, columns: {{u - r: mag}}, id: galaxy}}"
    result = analysed(root, table).table("neighbours")
    rows = result[result["property"] == "u - r"]
    numbers = train.labels_N.numpy()
    names = CuratedSet.open(Plan(tiny(root)).curated.folder).class_names
    for row in rows:
        assert row["class_mean"] == pytest.approx(-np.flatnonzero(numbers == names.index(row["class"])).mean())
        assert row["unit"] == "mag"
    assert len(rows)
    (tmp_path / "t.csv").write_text("galaxy,u,r\na,1,2\nb,2,3\n")
    with pytest.raises(CatalogError, match="fewer than two of the"):
        analysed(root, table)


def test_frames_end_with_the_images_before_the_last(root: Path) -> None:
    prototypes = DistilledSet.open(Plan(tiny(root)).distilled.folder)
    frames = prototypes.frames()
    assert list(frames) == sorted(frames)
    assert 0 in frames
    last = (prototypes.last.display().numpy() * 255).round()
    np.testing.assert_array_equal(frames[prototypes.last.iteration], last)


@pytest.mark.parametrize(
    ("wavelength", "flux", "sentence"),
    [
        ([[4000.0, 4001.0]], [[1.0, 2.0]], None),  # vectors in one row
        ([[4000.0, 4001.0]], [[1.0, 2.0, 3.0]], "one for each flux"),
        ([0.0, 4001.0], [1.0, 2.0], "not positive and increasing"),
        ([4000.0, np.inf], [1.0, 2.0], "not positive and increasing"),
    ],
)
def test_spectrum_is_read_or_named(tmp_path: Path, wavelength: list, flux: list, sentence: str | None) -> None:
    names = {"wavelength": wavelength, "flux": flux, "ivar": np.ones_like(flux)}
    columns = [
        fits.Column(name, f"{(np.shape(of)[1:] and np.shape(of)[1]) or ''}D", array=np.array(of))
        for name, of in names.items()
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with nullcontext() if sentence is None else pytest.raises(ValueError, match=sentence):
        read = read_spectrum(Folder(str(tmp_path)), "a.fits", 0.1)
        assert read.wavelength_W.tolist() == [4000.0, 4001.0]
        assert read.flux_W.tolist() == [1.0, 2.0]


def write_spectrum(path: Path, redshift: float, ratio: float, noise: float = 0.0, sdss: bool = True) -> None:
    """Write a spectrum whose F_nu rises at 3975 Å in the rest frame by a ratio."""
    loglam = np.arange(np.log10(3700), np.log10(9200), 1e-4)
    rest = 10**loglam / (1 + redshift)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    flux = np.where(rest > 3975, ratio, 1.0) / rest**2 * 1e9 * (1 + noise * rng.normal(size=len(rest)))
    if sdss:
        columns = [
            fits.Column(name, "E", array=data) for name, data in (("flux", flux), ("loglam", loglam), ("ivar", rest))
        ]
        table = fits.BinTableHDU.from_columns([fits.Column("Z", "E", array=[redshift])], name="SPECOBJ")
        tables = [fits.BinTableHDU.from_columns(columns, name="COADD"), table]
    else:
        columns = [
            fits.Column("WAVELENGTH", "D", unit="nm", array=10**loglam / 10),
            fits.Column("FLUX", "D", array=flux),
        ]
        tables = [fits.BinTableHDU.from_columns(columns)]
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)


def test_nearest_galaxies_with_older_stars_have_a_larger_break(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Galaxies near the prototypes of a class get a larger break than the others."""
    only(monkeypatch, "spectra")
    plan = Plan(tiny(root, *FEW))
    inputs = open_inputs(plan, analysis_spec(plan))
    label = int(np.bincount(inputs.galaxy_labels).argmax())
    nearest = set(nearest_of_class(inputs, "features", label).tolist())
    redshifts = inputs.curated.table("train", ["redshift"])["redshift"].to_pylist()
    for row, object_id in enumerate(inputs.train.object_ids):
        write_spectrum(
            tmp_path / f"{object_id}.fits", redshifts[row], 1.8 if row in nearest else 1.3, 0.02, sdss=row % 2 == 0
        )
    (tmp_path / f"{inputs.train.object_ids[0]}.fits").write_bytes(b"no FITS")
    report = analysed(root, f"analyse.spectra.root={tmp_path}")
    table = report.table("spectra")
    assert str(table["wavelength"].unit) == "Angstrom"
    statements = report.statements()
    name = inputs.class_names[label].replace("_", " ")
    (result,) = statements[(statements.section == "spectra") & statements.text.str.contains(f"of {name} ")].to_dict(
        "records"
    )
    assert 0.1 < result["low"] < result["value"] < result["high"] < 0.5
    assert result["value"] == pytest.approx(0.5 * (1 - len(nearest) / (inputs.galaxy_labels == label).sum()), abs=0.15)
