"""A set made from held-out galaxies is rejected, whatever lies between the two."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.artifacts.manifest import Manifest, commit
from raydistill.errors import ArtifactIncompatible
from raydistill.stages.augment.inputs import check_disjoint, check_independent, check_unseen
from raydistill.stages.curate import artifact as curated
from raydistill.stages.curate.artifact import CuratedSet, partition
from raydistill.stages.curate.summary import ClassSummary, Summary
from raydistill.storage import Folder

SPLITS = ("train", "validation", "test")


def write(root: Path, *ids: str, files: dict[str, str] | None = None) -> CuratedSet:
    """Write a curated set; `ids` are those of the three splits, a letter per galaxy."""
    folder = Folder(str(root / f"curated-{'-'.join(ids)}"))
    for split, object_id in zip(SPLITS, ids, strict=True):
        rows = [
            {"object_id": name, "class_name": "a", "source": {"path": name, "sha256": (files or {}).get(name)}}
            for name in object_id
        ]
        if rows:
            with folder.writing(partition(split, 0)) as path:
                pq.write_table(pa.Table.from_pylist(rows, curated.SCHEMA), path)
    counts = ClassSummary("a", len("".join(ids)), len("".join(ids)), *map(len, ids), 0.5)
    folder.write("summary.json", Summary("s", True, 8, 1.0, (0.1,) * 3, (0.2,) * 3, (counts,), {}).to_json())
    commit(folder, kind=curated.KIND, identity=str(folder), config={}, parents={}, seed=0, uris={})
    return CuratedSet.open(folder)


def made_of(root: Path, name: str, **parents: tuple[Manifest, str]) -> tuple[Manifest, str]:
    """Write an artifact with these parents; return its manifest and folder."""
    folder = Folder(str(root / name))
    folder.write("data", b"x")
    kind = name.partition("-")[0]
    manifests, uris = ({role: pair[n] for role, pair in parents.items()} for n in (0, 1))
    manifest = commit(folder, kind=kind, identity=name, config={}, parents=manifests, seed=0, uris=uris)  # type: ignore[arg-type]
    return manifest, folder.uri


def sampled_from(root: Path, galaxies: CuratedSet, **further: CuratedSet) -> tuple[Manifest, str]:
    """Return a synthetic set whose generator trained on these and further galaxies."""
    sets = {"curated": galaxies, **further}
    parents = {role: (set_.manifest, set_.folder.uri) for role, set_ in sets.items()}
    trained = made_of(root, "generator-1", **parents)
    return made_of(root, "synthetic-1", generator=trained)


def test_set_of_training_galaxies_passes(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    check_independent(*sampled_from(tmp_path, write(tmp_path, "ab", "d", "f")), main)


def test_direct_child_of_the_same_curated_set_passes(tmp_path: Path) -> None:
    """Its generator left out held-out galaxies of further sets."""
    main, extra = write(tmp_path, "abc", "de", "fg"), write(tmp_path, "defg", "", "")
    parents = {role: (s.manifest, s.folder.uri) for role, s in {"curated": main, "curated_2": extra}.items()}
    check_independent(*made_of(tmp_path, "synthetic-1", **parents), main)


@pytest.mark.parametrize(("training", "first"), [("abd", "d"), ("gfa", "f"), ("e", "e")])
def test_held_out_galaxy_is_found_behind_a_generator(tmp_path: Path, training: str, first: str) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    with pytest.raises(ArtifactIncompatible, match=rf"used to make it \(first: {first}\).*same curate\.split"):
        check_independent(*sampled_from(tmp_path, write(tmp_path, training, "", "")), main)


def test_further_sets_of_a_generator_count(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    made = sampled_from(tmp_path, write(tmp_path, "ab", "d", "f"), curated_2=write(tmp_path, "xg", "", ""))
    with pytest.raises(ArtifactIncompatible, match=r"1 galaxies of the validation or test split .* \(first: g\)"):
        check_independent(*made, main)


def test_held_out_file_is_found_under_another_id(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg", files={"f": "77", "a": "88"})
    check_independent(*sampled_from(tmp_path / "1", write(tmp_path, "xy", "", "", files={"x": "88"})), main)
    with pytest.raises(ArtifactIncompatible, match=r"\(first: f\)"):
        check_independent(*sampled_from(tmp_path / "2", write(tmp_path, "xyz", "", "", files={"y": "77"})), main)


def test_only_the_given_splits_are_held_out(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    check_disjoint(write(tmp_path, "ad", "", ""), "x", main, ("test",))


def test_set_without_or_with_a_removed_ancestor_is_rejected(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    with pytest.raises(ArtifactIncompatible, match="does not name the curated set"):
        check_independent(*made_of(tmp_path, "synthetic-0"), main)
    made = sampled_from(tmp_path, write(tmp_path, "ab", "d", "f"))
    (tmp_path / "generator-1" / "manifest.json").unlink()
    with pytest.raises(ArtifactIncompatible, match=r"cannot be compared, because .*generator-1 is gone"):
        check_independent(*made, main)


def test_labelled_galaxies_must_not_be_held_out(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    check_disjoint(write(tmp_path, "ac", "d", "f"), "x", main)
    with pytest.raises(ArtifactIncompatible, match=r"\(first: e\)"):
        check_disjoint(write(tmp_path, "ae", "d", "f"), "x", main)


def test_pictures_and_conditions_of_held_out_galaxies_are_rejected(tmp_path: Path) -> None:
    main = write(tmp_path, "abc", "de", "fg")
    check_unseen({"a", "c", "elsewhere"}, "x", main)
    with pytest.raises(ArtifactIncompatible, match=r"of 2 validation or test galaxies \(first: d\)"):
        check_unseen({"a", "g", "d"}, "x", main)
