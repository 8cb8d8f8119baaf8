"""Tell the configurations of a Hugging Face data set apart.

A data set on the Hub may hold several versions of the same pictures, each in its own folder. Read as
one set, a picture would be in two splits. The header of README.md lists the configurations; without
it, folders with the same splits are configurations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml

from raydistill.errors import CatalogError, nearest
from raydistill.storage.yaml_limits import read_yaml

ALL = "all"  # value of `config_name`: the folders are parts of one data set
_HEADER = re.compile(r"---\s*\n(.*?\n)---\s*(\n|$)", re.DOTALL)
_DEFAULT, _DEFAULT_FOLDER = "default", "data"  # the Hub's names


def files_of_config(
    names: Sequence[str], config_name: str | None, readme: str, split_of: Callable[[str], str | None], where: str
) -> list[str]:
    """Return the files of a configuration.

    Parameters
    ----------
    names
        Files below the root.
    config_name
        The requested configuration; None: the only one.
    readme
        Text of the data set's README.md, or "".
    split_of
        Returns the split that the path of a file names, or None.
    where
        The data set, for error messages.

    Raises
    ------
    CatalogError
        If there are several configurations and none is requested, or if there is none of this name.
    """
    configs = _listed_configs(readme, names) or _folder_configs(names, split_of)
    if config_name in configs:
        return configs[config_name]
    if config_name == ALL:
        return list(names)
    known = ", ".join(sorted(configs))
    if config_name is not None:
        fix = nearest(config_name, sorted(configs)) if configs else "leave out survey.config_name"
        raise CatalogError(f"there is no configuration '{config_name}'", where, fix)
    if len(configs) > 1:
        fix = "choose one with survey.config_name=NAME, or all if they are parts of one data set"
        raise CatalogError(f"the data set has several configurations: {known}", where, fix)
    return list(names)


def _listed_configs(readme: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the files of configurations in README.md's header that have files here."""
    header = _HEADER.match(readme.lstrip("\ufeff"))
    try:
        content = read_yaml(header[1]) if header else None
    except yaml.YAMLError:
        return {}
    entries = content.get("configs") if isinstance(content, dict) else None
    configs = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and "config_name" in entry:
            name = str(entry["config_name"])
            patterns = _patterns(entry, name)
            files = [file for file in names if any(_matches(file, pattern) for pattern in patterns)]
            if files:
                configs[name] = files
    return configs


def _patterns(entry: dict[str, Any], name: str) -> list[str]:
    """Return the patterns of a configuration's files."""
    data_files = entry.get("data_files")
    if data_files is None:
        folder = str(entry.get("data_dir") or (_DEFAULT_FOLDER if name == _DEFAULT else name)).strip("/")
        return [f"{folder}/*"]
    found: list[str] = []
    for one in data_files if isinstance(data_files, list) else [data_files]:
        paths = one.get("path") if isinstance(one, dict) else one
        found += [str(path) for path in (paths if isinstance(paths, list) else [paths])]
    return found


def _matches(file: str, pattern: str) -> bool:
    """Return whether a path matches a Hub pattern; `**` stands for any folders."""
    pattern = pattern.removeprefix("./")
    return fnmatchcase(file, pattern) or fnmatchcase(file, pattern.replace("**/", ""))


def _folder_configs(names: Iterable[str], split_of: Callable[[str], str | None]) -> dict[str, list[str]]:
    """Return the files by top folder if two of these folders hold the same split."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, inside = name.partition("/")
        if not inside or split_of(f"{folder}/0") is not None:
            return {}  # files beside the folders, or folders of splits
        folders.setdefault(folder, []).append(name)
    numbered = {re.sub(r"\d+", "", folder) for folder in folders}
    splits = [{split_of(name) for name in own} - {None} for own in folders.values()]
    repeated = any(a & b for i, a in enumerate(splits) for b in splits[:i])
    return folders if len(numbered) > 1 and repeated else {}
