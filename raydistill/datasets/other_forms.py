"""Name the way to read data that are no folder of pictures."""

from __future__ import annotations

import shlex
from collections.abc import Collection

_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
ARCHIVES = (*_TARS, ".zip", ".rar", ".7z")
_KINDS = {
    "image-parquet": (".parquet", ".pq"),
    "arrays": (".npz", ".h5", ".hdf5"),
}
_SAVED = {"dataset_info.json", "dataset_dict.json", "state.json"}  # files of `datasets.save_to_disk`


def other_form(root: str, files: Collection[str]) -> tuple[str, str] | None:
    """Return what a folder without pictures is, and how to read it.

    It may be a file. None if that is unknown.
    """
    names = sorted(files)
    if saved := saved_to_disk(root, names):
        return saved
    is_file = names == [root.rstrip("/").rpartition("/")[2]]
    if tars := [name for name in names if name.lower().endswith(_TARS)]:
        first = root if is_file else f"{root}/{tars[0]}"
        what = "this is a tar archive" if is_file else f"there are no pictures in it, but tar archives ({_some(tars)})"
        fix = f"unpack it with 'tar -xf {shlex.quote(first)} -C FOLDER', and give the folder"
        return what, fix if is_file or len(tars) == 1 else f"unpack each, as {fix.removeprefix('unpack it with ')}"
    if zips := [name for name in names if name.lower().endswith(".zip")]:
        what = f"there are no pictures in it, but zips ({_some(zips)})"
        return what, "give one of them as survey.root, or unpack them and give the folder"
    for kind, suffixes in _KINDS.items():
        if own := [name for name in names if name.lower().endswith(suffixes)]:
            what = f"this is no folder of pictures but '{own[0]}'"
            return what, f"set survey.kind={kind}"
    return None


def saved_to_disk(root: str, files: Collection[str]) -> tuple[str, str] | None:
    """Return what a folder of `datasets.save_to_disk` is, and how to read it.

    None for another folder.
    """
    last = {name.rpartition("/")[2] for name in files}
    if not last & _SAVED or not any(name.endswith(".arrow") for name in last):
        return None
    target = f"{root.rstrip('/')}-parquet"
    loaded = f"load_from_disk({root!r})"
    parts = f"{loaded}.items()" if "dataset_dict.json" in last else f"[('train', {loaded})]"
    write = f"[part.to_parquet(to + '/' + name + '.parquet') for name, part in {parts}]"
    command = f"import os; from datasets import load_from_disk; to = {target!r}; os.makedirs(to); {write}"
    quoted = shlex.quote(command) if set(command) & set('"$`\\!') else f'"{command}"'
    fix = f"run python -c {quoted}, and give survey={{kind: image-parquet, root: {target}}}"
    return "this is a data set that datasets.save_to_disk wrote", fix


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
