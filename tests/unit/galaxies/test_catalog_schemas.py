"""Tests of the catalog schemas: all give the same table.

Damaged tables give one clear sentence.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from astropy.table import MaskedColumn, Table

from raydistill.errors import CatalogError, ConfigError
from raydistill.galaxies.catalog import read_catalog, read_filename_mapping, votes_array
from raydistill.galaxies.trees import GZ2

IDS = [587732578312454276, 587729154670395609, 588017702388760720]

GALAXY_DATASETS = [  # in the order of GZ2.answers; it has no task 8
    "smooth-or-featured-gz2_smooth",
    "smooth-or-featured-gz2_featured-or-disk",
    "smooth-or-featured-gz2_artifact",
    "disk-edge-on-gz2_yes",
    "disk-edge-on-gz2_no",
    "bar-gz2_yes",
    "bar-gz2_no",
    "has-spiral-arms-gz2_yes",
    "has-spiral-arms-gz2_no",
    "bulge-size-gz2_no",
    "bulge-size-gz2_just-noticeable",
    "bulge-size-gz2_obvious",
    "bulge-size-gz2_dominant",
    "something-odd-gz2_yes",
    "something-odd-gz2_no",
    "how-rounded-gz2_round",
    "how-rounded-gz2_in-between",
    "how-rounded-gz2_cigar",
    "-",
    "-",
    "-",
    "-",
    "-",
    "-",
    "-",
    "bulge-shape-gz2_round",
    "bulge-shape-gz2_boxy",
    "bulge-shape-gz2_no-bulge",
    "spiral-winding-gz2_tight",
    "spiral-winding-gz2_medium",
    "spiral-winding-gz2_loose",
    "spiral-arm-count-gz2_1",
    "spiral-arm-count-gz2_2",
    "spiral-arm-count-gz2_3",
    "spiral-arm-count-gz2_4",
    "spiral-arm-count-gz2_more-than-4",
    "spiral-arm-count-gz2_cant-tell",
]


def conditional_votes() -> np.ndarray:
    """Return the votes of three galaxies.

    All volunteers call the second galaxy smooth, so its disk tasks are NaN.
    """
    rng = np.random.default_rng(0)
    votes = np.concatenate([rng.dirichlet(np.ones(len(t.answers)), size=3) for t in GZ2.tasks], axis=1)
    votes[1, :3] = [1, 0, 0]
    for task in GZ2.tasks:
        if task.number in (2, 3, 4, 5, 9, 10, 11):
            votes[1, GZ2.columns_of(task)] = np.nan
    return votes


def columns_of(votes: np.ndarray, suffix: str) -> dict[str, np.ndarray]:
    return {stem + suffix: np.nan_to_num(votes[:, i]) for stem, i in GZ2.index.items()}


def write_csv(path: Path, columns: dict) -> str:
    pacsv.write_csv(pa.table(columns), path)
    return str(path)


def release(votes: np.ndarray, suffixes=("_fraction", "_weighted_fraction", "_debiased")) -> dict:
    table: dict = {"dr7objid": IDS, "ra": [1.5, 2.5, 3.5], "dec": [-1.0, 0.0, 1.0], "gz2_class": ["Sb", "Er", "Sc"]}
    table |= {"total_votes": [131, 40, 200], "PETROR90_R": [8.5, -9999.0, 4.0]}
    for shift, suffix in enumerate(suffixes):
        table |= columns_of(np.roll(votes, shift, axis=0), suffix)
    return table


def assert_votes(catalog: pa.Table, expected: np.ndarray) -> None:
    np.testing.assert_allclose(votes_array(catalog), expected.astype(np.float32), atol=1e-6)


def test_willett_table_keeps_the_kinds_of_fractions_apart(tmp_path):
    votes = conditional_votes()
    uri = write_csv(tmp_path / "table5.csv", release(votes))
    for shift, kind in enumerate(("raw", "weighted", "debiased")):
        catalog = read_catalog(uri, fractions=kind)
        assert_votes(catalog, np.roll(votes, shift, axis=0))
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"willett"
    assert catalog["object_id"].to_pylist() == [str(i) for i in IDS]
    assert catalog["ra"].to_pylist() == [1.5, 2.5, 3.5]
    assert catalog["petro_r90"].to_pylist() == [8.5, None, 4.0]  # -9999 is how SDSS writes "not measured"
    assert catalog["redshift"].null_count == 3
    assert catalog["total_votes"].to_pylist() == [131, 40, 200]


def test_csv_gz_parquet_and_fits_hold_the_same_table(tmp_path):
    table = pa.table(release(conditional_votes()))
    expected = read_catalog(write_csv(tmp_path / "a.csv", release(conditional_votes())))
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.CompressedOutputStream(str(tmp_path / "a.csv.gz"), "gzip") as stream:
        pacsv.write_csv(table, stream)
    Table({name: np.asarray(table[name].to_pylist()) for name in table.column_names}).write(tmp_path / "a.fits")
    (tmp_path / "folder").mkdir()
    pq.write_table(table.slice(0, 2), tmp_path / "folder" / "0.parquet")
    pq.write_table(table.slice(2), tmp_path / "folder" / "1.parquet")
    for name in ("a.csv.gz", "a.parquet", "a.fits", "folder"):
        read = read_catalog(str(tmp_path / name))
        np.testing.assert_allclose(votes_array(read), votes_array(expected), atol=1e-7)
        assert read.drop_columns("votes").equals(expected.drop_columns("votes")), name


def test_hart16_raw_falls_back_to_weighted_for_whole_questions(tmp_path):
    votes = conditional_votes()
    table = release(votes)
    del table["t03_bar_a07_no_bar_fraction"]
    catalog = read_catalog(write_csv(tmp_path / "hart.csv", table), fractions="raw")
    expected = votes.copy()
    expected[:, 5:7] = np.roll(votes, 1, axis=0)[:, 5:7]  # both answers of the bar task
    assert_votes(catalog, expected)
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"hart16"
    assert catalog.schema.metadata[b"raydistill.weighted_instead_of_raw"] == b"3"
    with pytest.raises(CatalogError, match="t03_bar_a07_no_bar_fraction"):
        read_catalog(str(tmp_path / "hart.csv"), "willett", fractions="raw")


def test_hart16_without_raw_fractions_rejects_raw(tmp_path):
    uri = write_csv(tmp_path / "hart.csv", release(conditional_votes(), ("_weighted_fraction",)))
    with pytest.raises(CatalogError, match=r"set survey\.fractions to weighted"):
        read_catalog(uri, fractions="raw")
    with pytest.raises(CatalogError, match=r"_debiased'.*did you mean.*_weighted_fraction"):
        read_catalog(uri, fractions="debiased")


def test_kaggle_fractions_become_conditional(tmp_path):
    votes = conditional_votes()
    reached = np.ones((3, 11))  # fraction of the volunteers who are asked each task
    for task in GZ2.tasks:
        if task.asked_after:
            reached[:, task.number - 1] = 0.3 + 0.05 * task.number
    names = [f"Class{t.number}.{i + 1}" for t in GZ2.tasks for i in range(len(t.answers))]
    cumulative = np.nan_to_num(votes * np.repeat(reached, [len(t.answers) for t in GZ2.tasks], axis=1))
    uri = write_csv(tmp_path / "solutions.csv", {"GalaxyID": [1, 2, 3], **dict(zip(names, cumulative.T, strict=True))})
    catalog = read_catalog(uri)
    assert_votes(catalog, votes)
    assert catalog["total_votes"].null_count == 3
    with pytest.raises(CatalogError, match="no debiased"):
        read_catalog(uri, fractions="debiased")


@pytest.mark.parametrize("content", ["fractions", "counts"])
def test_galaxy_datasets_gives_all_answers_except_task_8(tmp_path, content):
    votes = conditional_votes()
    votes[:, GZ2.columns_of(GZ2.tasks[7])] = np.nan
    table: dict = {"id_str": [str(i) for i in IDS], "image": [b"x"] * 3, "label": [0, 1, 2]}
    for i, name in enumerate(GALAXY_DATASETS):
        if name != "-" and content == "fractions":
            table[f"{name}_fraction"] = votes[:, i]
            table[name] = [-1] * 3  # must not be read
        elif name != "-":
            table[name] = np.nan_to_num(votes[:, i]) * 40
    table |= {"smooth-or-featured-gz2_total-votes": [40, 41, 42], "bar-gz2_total-votes": [10, 0, 3]}
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    catalog = read_catalog(str(tmp_path / "train.parquet"))
    assert catalog.schema.metadata[b"raydistill.dialect"] == b"galaxy-datasets"
    assert_votes(catalog, votes)
    assert catalog["total_votes"].null_count == 3, "two questions' totals are not those of all"


def test_plain_labels_with_named_columns(tmp_path):
    uri = write_csv(tmp_path / "mine.csv", {"Name": ["a", "b"], "kind": ["E", "S0"], "p": [0.5, 1.0], "RA": [1.0, 2.0]})
    catalog = read_catalog(uri, columns={"id": "Name", "label": "kind", "confidence": "p"})
    assert catalog.column_names[-2:] == ["label", "confidence"]
    assert catalog["label"].to_pylist() == ["E", "S0"]
    assert catalog["confidence"].to_pylist() == [0.5, 1.0]
    assert catalog["ra"].to_pylist() == [1.0, 2.0]
    assert read_catalog(uri, columns={"id": "Name", "label": "kind"})["confidence"].to_pylist() == [1.0, 1.0]
    with pytest.raises(CatalogError, match="did you mean 'kind'"):
        read_catalog(uri, columns={"id": "Name", "label": "kinds"})
    with pytest.raises(ConfigError, match="did you mean 'label'"):
        read_catalog(uri, columns={"id": "Name", "lable": "kind"})
    pq.write_table(pa.table({"id": ["a"], "label": [["E", "S0"]]}), tmp_path / "lists.parquet")
    with pytest.raises(CatalogError, match="column 'label' has the type list<element: string>, which is not a label"):
        read_catalog(str(tmp_path / "lists.parquet"))
    for value in ("1_0", "0 5"):
        pq.write_table(pa.table({"id": ["a", "b"], "label": ["E", "E"], "p": ["0.1", value]}), tmp_path / "p.parquet")
        with pytest.raises(CatalogError, match=f"column 'p' holds '{value}' in row 2, which is not a number"):
            read_catalog(str(tmp_path / "p.parquet"), columns={"confidence": "p"})


# ---- ids ----


def test_long_ids_keep_every_digit_in_every_format(tmp_path):
    ids = [2**62 + i for i in range(3)]  # float64 cannot tell them apart
    table = pa.table({"id": ids, "label": ["a", "b", "c"]})
    pacsv.write_csv(table, tmp_path / "t.csv")
    pq.write_table(table, tmp_path / "t.parquet")
    Table({"id": np.array(ids), "label": ["a", "b", "c"]}).write(tmp_path / "t.fits")
    Table({"id": [str(i) for i in ids], "label": ["a", "b", "c"]}).write(tmp_path / "text.fits")
    for name in ("t.csv", "t.parquet", "t.fits", "text.fits"):
        assert read_catalog(str(tmp_path / name))["object_id"].to_pylist() == [str(i) for i in ids]


def test_ids_damaged_by_floating_point_are_rejected(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n5.87732578312454e+17,a\n5.87729154670395e+17,b\n")
    pq.write_table(pa.table({"id": [float(i) for i in IDS], "label": ["a"] * 3}), tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(CatalogError, match="lost their last digits"):
            read_catalog(str(tmp_path / name))


def test_float32_ids_lose_digits_earlier(tmp_path):
    ids = pa.array(np.array([123456789, 17], np.float32))
    pq.write_table(pa.table({"id": ids, "label": ["a", "b"]}), tmp_path / "t.parquet")
    with pytest.raises(CatalogError, match="lost their last digits"):
        read_catalog(str(tmp_path / "t.parquet"))


def test_fits_column_without_a_name_is_an_error(tmp_path):
    path = tmp_path / "t.fits"
    Table({"id": [1, 2], "extra": [3, 4], "label": ["a", "b"]}).write(path)
    path.write_bytes(path.read_bytes().replace(b"TTYPE2", b"XTYPE2"))
    with pytest.raises(CatalogError, match=r"t\.fits: cannot be read as a fits table \(field names must be strings\)"):
        read_catalog(str(path))


def test_text_of_a_parquet_file_that_is_not_utf8_is_an_error(tmp_path):
    label = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xe4\xff"]).buffers())
    pq.write_table(pa.table({"id": ["1"], "label": label}), tmp_path / "t.parquet")
    with pytest.raises(CatalogError, match=r"t\.parquet: cannot be read as a parquet table \(.*UTF8.*\)"):
        read_catalog(str(tmp_path / "t.parquet"))


def test_masked_fits_integers_are_missing_values(tmp_path):
    def written(name, **columns):
        Table(columns).write(tmp_path / name)
        return str(tmp_path / name)

    masked = written("label.fits", id=MaskedColumn([1, 2, 3]), label=MaskedColumn([4, 5, 6], mask=[False, True, False]))
    assert read_catalog(masked)["label"].to_pylist() == ["4", None, "6"]
    with pytest.raises(CatalogError, match="column 'id' has no id in 2 rows"):
        read_catalog(
            written("id.fits", id=MaskedColumn([1, 2, 3], mask=[0, 1, 1]), label=MaskedColumn(["a", "b", "c"]))
        )


def test_short_ids_written_as_floats_and_ids_with_leading_zeros(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n1002.0,a\n17.0,b\n")
    assert read_catalog(str(tmp_path / "t.csv"))["object_id"].to_pylist() == ["1002", "17"]
    (tmp_path / "u.csv").write_text("id,label\n 0042,a\nPGC1e5,b\n")
    assert read_catalog(str(tmp_path / "u.csv"))["object_id"].to_pylist() == ["0042", "PGC1e5"]
    digits = ["0042", "18446744073709551616"]  # the second is beyond 64 bits, so a CSV reader would make it a float
    (tmp_path / "v.csv").write_text(f"id,label\n{digits[0]},a\n{digits[1]},b\n")
    assert read_catalog(str(tmp_path / "v.csv"))["object_id"].to_pylist() == digits


# ---- damaged tables ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n", "no rows"),
        ("", "the file is empty"),
        ("id,label\n1,a\n1,b\n", r"1 ids in 'id' occur in several rows \(first: 1\)"),
        ("id,label\n1,a\n,b\n", "has no id in 1 rows"),
        ("id,label,confidence\n1,a,0.5\n2,b,high\n", "'high' in row 2, which is not a number"),
        ("id,label,confidence\n1,a,0.5\n2,b,40\n", r"is outside \[0, 1\] in 1 rows \(row 2: 40\)"),
        ("id,label\n1,a,3\n", "a row has 3 fields, and the header names 2 columns"),
        ("foo,bar\n1,2\n", "no columns of a known catalog schema"),
    ],
)
def test_damaged_table_gives_one_sentence_with_its_path(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(CatalogError, match=message) as caught:
        read_catalog(str(path))
    assert str(path) in str(caught.value)


def test_fraction_above_one_is_clipped_if_rounding_and_rejected_otherwise(tmp_path):
    table = release(conditional_votes(), ("_weighted_fraction",))
    first = GZ2.answers[0] + "_weighted_fraction"
    table[first] = np.array([1.0005, 1.0, 0.2])
    assert votes_array(read_catalog(write_csv(tmp_path / "a.csv", table)))[0, 0] == 1.0
    table[first] = np.array([1.01, 1.0, 0.2])
    with pytest.raises(CatalogError, match=first):
        read_catalog(write_csv(tmp_path / "b.csv", table))


def test_other_errors_name_the_fix(tmp_path):
    with pytest.raises(CatalogError, match="no such file"):
        read_catalog(str(tmp_path / "absent.csv"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(CatalogError, match=r"give a \.csv"):
        read_catalog(str(tmp_path / "a.txt"))
    (tmp_path / "a.fits").write_bytes(b"no fits at all")
    with pytest.raises(CatalogError, match="cannot be read as a fits table"):
        read_catalog(str(tmp_path / "a.fits"))
    Table({"id": [f"g{n}" for n in range(2000)], "label": ["a"] * 2000}).write(tmp_path / "half.fits")
    whole = (tmp_path / "half.fits").read_bytes()
    (tmp_path / "half.fits").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CatalogError, match=r"half\.fits: cannot be read as a fits table \(the file is truncated\)"):
        read_catalog(str(tmp_path / "half.fits"))
    uri = write_csv(tmp_path / "c.csv", release(conditional_votes()))
    with pytest.raises(ConfigError, match="did you mean 'hart16'"):
        read_catalog(uri, "hart")
    with pytest.raises(ConfigError, match="did you mean 'debiased'"):
        read_catalog(uri, fractions="debias")  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match="dr7objid"):
        read_catalog(uri, columns={"id": "dr8objid"})


def test_filename_mapping_keeps_the_different_assets_of_an_object(tmp_path):
    path = tmp_path / "mapping.csv"
    lines = [f"{IDS[0]},original,57314", f"{IDS[1]},extra,2", f"{IDS[0]},stripe82,3", f"{IDS[1]},original,2"]
    path.write_text("\n".join(["objid,sample,asset_id", *lines]))
    assert read_filename_mapping(str(path)) == {str(IDS[0]): ("57314", "3"), str(IDS[1]): ("2",)}
    path.write_text(path.read_text().replace("asset_id", "assetid"))
    with pytest.raises(CatalogError, match=r"no column 'asset_id'.*did you mean 'assetid'"):
        read_filename_mapping(str(path))


# ---- real tables ----


def test_real_hart16_table_has_the_ids_and_fractions_of_its_file(data_root):
    uri = str(data_root / "gz2_hart16" / "gz2_hart16.csv")
    catalog = read_catalog(uri)
    lines = Path(uri).read_text().splitlines()[1:]
    assert catalog["object_id"].to_pylist() == [line.split(",")[0] for line in lines]
    assert all(len(i) == 18 for i in catalog["object_id"].to_pylist())
    votes = votes_array(catalog)
    for task in GZ2.tasks:
        total = votes[:, GZ2.columns_of(task)].sum(axis=1)
        assert np.nanmax(np.abs(total - 1)) < 3e-3  # conditional fractions, up to the rounding of the release
    not_asked = np.isnan(votes[:, GZ2.index["t11_arms_number_a31_1"]])
    assert not_asked.sum() == 495  # counted in the file: rows in which all answers of task 11 are 0
    assert catalog["total_votes"][0].as_py() == 131
    mapping = read_filename_mapping(str(data_root / "gz2_hart16" / "gz2_filename_mapping.csv"))
    assert set(mapping) == set(catalog["object_id"].to_pylist())
    assert np.nanmax(votes_array(read_catalog(uri, fractions="debiased"))) <= 1


def test_real_label_tables_have_known_counts(data_root):
    kaggle = read_catalog(str(data_root / "gz2_kaggle" / "labels_5_classes.csv"))
    assert (kaggle.num_rows, kaggle["label"].to_pylist().count("cigar")) == (3740, 55)
    columns = {"id": "PGCname", "label": "class9_derived"}
    efigi = read_catalog(str(data_root / "efigi" / "efigi_attributes.csv"), columns=columns)
    assert efigi["label"].to_pylist().count("-1") == 1226
