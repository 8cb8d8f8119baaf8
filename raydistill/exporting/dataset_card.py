"""Write a data set's card: README.md with the header that Hugging Face reads.

The header has licence, size, tags, the files of each split and the type of each column, so
`datasets.load_dataset(FOLDER)` needs nothing else. The text says what the set is, how it was made,
how to train on it, and what it is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from raydistill.artifacts.tensors import WHITENING
from raydistill.escaping import for_config, for_markdown, markdown_code, markdown_table
from raydistill.exporting.huggingface import HubSet, PictureSet
from raydistill.exporting.provenance import METHOD
from raydistill.galaxies.selection import SPLITS
from raydistill.galaxies.trees import GZ2, TREES
from raydistill.learning.normalise import AnyNormalisation, Whitening
from raydistill.stages.curate.artifact import CuratedSet
from raydistill.stages.distill.artifact import DistilledSet
from raydistill.stages.distill.counts import amount
from raydistill.stages.sample.artifact import SyntheticSet

# Identifiers of licences of data that the hub knows; any other licence is "other", with its name.
LICENCES = (
    "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0",
    "cc-by-nc-sa-4.0", "odc-by", "odbl", "pddl", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "mit", "apache-2.0", "bsd-3-clause", "gpl-3.0",
)  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_TAGS = {CuratedSet: (), DistilledSet: ("dataset-distillation", "synthetic"), SyntheticSet: ("synthetic",)}

_LIMITS = {
    CuratedSet: (
        "The pictures are cropped and resized, in the brightness scale of the survey's pictures. Photometry on them is "
        "not meaningful.",
        "The classes are those of the config: galaxies that fit none of them were left out.",
    ),
    DistilledSet: (
        "Prototypes are not galaxies: they are pictures that train a network, and they may show what no galaxy has. "
        "Do not add them to a catalogue, count them or measure them.",
        "They were matched to the networks and the augmentation of the config. Other networks may gain less from them.",
        "Green and magenta tints are not physical: they are directions to which the network responds most.",
        "An accuracy counts only on galaxies that were used neither for the experts nor for the selection of the "
        "images.",
    ),
    SyntheticSet: (
        "These pictures are not galaxies: every row has `synthetic` = true. Do not add them to a catalogue or count "
        "them.",
        "A generator repeats the biases of the survey on which it was trained, and adds its own.",
    ),
}  # fmt: skip


def dataset_card(pictures: PictureSet, hub: HubSet, sizes: Mapping[str, int]) -> str:
    """Return the text of README.md.

    Parameters
    ----------
    pictures, hub
        The set, and its description.
    sizes
        Bytes of the rows of each split in memory. Its files are `data/SPLIT-*`.
    """
    header = yaml.safe_dump(_header(pictures, hub, sizes), sort_keys=False, allow_unicode=True, width=1000)
    sections = [
        f"# {for_markdown(_title(pictures, hub))}",
        for_markdown(hub.info.description),
        f"## Classes\n{_classes(pictures)}",
        f"## Columns\n{_columns(pictures)}",
        f"## Training\n{_training(pictures)}",
        f"## How it was made\n{_made(pictures)}",
        "## Limits\n" + "\n".join(f"- {limit}" for limit in _LIMITS[type(pictures)]),
        f"## Licence and citation\n{_licence(hub)}",
    ]
    return f"---\n{header}---\n\n" + "\n\n".join(sections) + "\n"


def licence_entries(licence: str) -> dict[str, str]:
    """Return the entries of the header for a licence in words.

    >>> licence_entries("CC BY-NC-SA 4.0")
    {'license': 'cc-by-nc-sa-4.0'}
    >>> licence_entries("EFIGI; SDSS imagery")
    {'license': 'other', 'license_name': 'efigi-sdss-imagery'}
    """
    name = re.sub(r"[^a-z0-9.]+", "-", licence.lower()).strip("-.")
    if name in ("", "unknown"):
        return {"license": "unknown"}
    return {"license": name} if name in LICENCES else {"license": "other", "license_name": name[:64].rstrip("-.")}


def size_category(rows: int) -> str:
    """Return the hub's category for a number of rows.

    >>> size_category(999), size_category(1000), size_category(2_500_000)
    ('n<1K', '1K<n<10K', '1M<n<10M')
    """
    return next((name for limit, name in _SIZES if rows < limit), "1M<n<10M" if rows < 10_000_000 else "10M<n<100M")


def _header(pictures: PictureSet, hub: HubSet, sizes: Mapping[str, int]) -> dict[str, Any]:
    from datasets import SplitDict, SplitInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    info = hub.info.copy()
    info.splits = SplitDict({name: SplitInfo(name, size, hub.splits[name].rows) for name, size in sizes.items()})
    info.dataset_size = sum(sizes.values())
    rows = sum(split.rows for split in hub.splits.values())
    card = DatasetCardData()
    DatasetInfosDict(default=info).to_dataset_card_data(card)
    files = [{"split": name, "path": f"data/{name}-*"} for name in sizes]
    return {
        "pretty_name": _title(pictures, hub),
        **licence_entries(hub.provenance.licence),
        "task_categories": ["image-classification"],
        "size_categories": [size_category(rows)],
        "tags": ["astronomy", "galaxies", *(["simulated"] if hub.provenance.simulated else []), *_TAGS[type(pictures)]],
        "configs": [{"config_name": "default", "data_files": files}],
        **card.to_dict(),  # dataset_info: features and splits
    }


def _title(pictures: PictureSet, hub: HubSet) -> str:
    survey = hub.provenance.survey or "galaxies"
    if isinstance(pictures, DistilledSet):
        return f"{survey}, distilled to {amount(pictures.counts)}"
    return f"{survey}, synthetic galaxies" if isinstance(pictures, SyntheticSet) else survey


def _classes(pictures: PictureSet) -> str:
    if isinstance(pictures, CuratedSet):
        rows = [
            [label, entry.name, entry.train, entry.validation, entry.test]
            for label, entry in enumerate(pictures.summary.classes)
        ]
        return markdown_table([["label", "class", *SPLITS], *rows])
    counts = (
        pictures.counts if isinstance(pictures, DistilledSet) else [entry.kept for entry in pictures.summary.classes]
    )
    rows = [[label, *entry] for label, entry in enumerate(zip(pictures.class_names, counts, strict=True))]
    if isinstance(pictures, SyntheticSet) and pictures.summary.unlabelled.kept:
        rows.append([-1, "no class", pictures.summary.unlabelled.kept])
    return markdown_table([["label", "class", "images"], *rows])


def _columns(pictures: PictureSet) -> str:
    if isinstance(pictures, DistilledSet):
        labels = "soft labels" if pictures.selected.soft else "one-hot, since labels are hard"
        return "\n".join(
            [
                "- `pixel_values`: the network input, float32 [3, H, W], normalised. Train on these.",
                f"- `target`: the probability of each class, float32 [K] ({labels}).",
                "- `image`: the picture, clipped to [0, 1] and rounded to 8 bits. It is for looking at, not for "
                "training.",
                "- `label`: the class of the image.",
            ]
        )
    tree = TREES.get(pictures.summary.tree, GZ2)
    answers = ", ".join(f"`{answer}`" for answer in tree.answers)
    lines = [
        "- `image`: PNG, RGB; black 0 and white 255.",
        "- `label`: the class; `confidence`: its probability.",
        "- `object_id`, `ra` and `dec` (deg, ICRS), `petro_r90` (arcsec), `redshift`: null where unknown.",
        "- `votes`: the fraction of each answer among the volunteers who were asked, null without votes. The "
        f"order is that of the tree {tree.title}: {answers}.",
        "- `source`: path and sha256 of the original file.",
    ]
    if isinstance(pictures, SyntheticSet):
        lines.append(
            "- `made_by`, `seed`, `index`, `condition`, `guidance`, `origin`: how the picture was made. `parameters` "
            "holds JSON."
        )
    return "\n".join(lines)


def _training(pictures: PictureSet) -> str:
    normalisation = pictures.selected.normalisation if isinstance(pictures, DistilledSet) else pictures.normalisation
    if isinstance(pictures, DistilledSet):
        rates = ", ".join(f"{rate:.4g}" for rate in pictures.selected.student_lrs.tolist()[:8])
        code = (
            'prototypes = load_dataset(FOLDER, split="train").with_format("torch")[:]\n'
            'images, targets = prototypes["pixel_values"], prototypes["target"]  # normalised already\n'
        )
        text = (
            "Pictures of galaxies must get the same normalisation before the network sees them. Without it the accuracy "
            "falls to chance. "
            + (
                f"SGD of the student used the learned rate {rates}; `info.json` has all rates."
                if rates
                else "There is no learned rate."
            )
        )
    else:
        code = (
            'galaxies = load_dataset(FOLDER, split="train").with_format("torch")[:]\n'
            'images, labels = normalise(galaxies["image"]), galaxies["label"]\n'
        )
        text = "Networks of raydistill see the pictures with this normalisation."
    return f"{text}\n\n```python\n{_normalise_code(normalisation)}\n\n{code}```" + _whitening_note(normalisation)


def _normalise_code(normalisation: AnyNormalisation) -> str:
    signature = 'def normalise(pictures):\n    """Return the input of a network for uint8 pictures [N, 3, H, W]."""\n'
    if isinstance(normalisation, Whitening):
        return (
            "from datasets import load_dataset\nfrom safetensors.torch import load_file\n\n"
            f'FOLDER = "."  # a local copy of this folder\nwhitening = load_file(f"{{FOLDER}}/{WHITENING}")\n\n\n'
            f"{signature}"
            '    pixels = pictures.flatten(1).double() / 255 - whitening["mean"]\n'
            '    return (pixels @ whitening["forward"].double()).view(pictures.shape).float()\n'
        )
    mean, std = (f"torch.tensor({list(values)})[:, None, None]" for values in normalisation)
    return (
        "import torch\nfrom datasets import load_dataset\n\n"
        f'FOLDER = "."  # this folder, or the name of the repository\nmean = {mean}\nstd = {std}\n\n\n'
        f"{signature}    return (pictures.float() / 255 - mean) / std\n"
    )


def _whitening_note(normalisation: AnyNormalisation) -> str:
    if not isinstance(normalisation, Whitening):
        return ""
    return (
        f"\n\n**These images are whitened (ZCA).** `{WHITENING}` has the map and its inverse. Mean and standard deviation "
        "per channel do not replace it."
    )


def _made(pictures: PictureSet) -> str:
    manifest = pictures.manifest
    rows: list[list[object]] = [
        ["identity", manifest.identity],
        ["content sha256", manifest.content],
        ["seed", manifest.seed],
    ]
    rows += [[f"{role} (content sha256)", parent.content] for role, parent in manifest.parents.items()]
    rows += [[name, version] for name, version in manifest.packages.items()]
    if manifest.git_commit:
        rows.append(["commit of raydistill", manifest.git_commit])
    parts = {key: value for key, value in manifest.config.items() if key not in ("licence", "citation")}
    config = for_config(dict(sorted(without_folders(parts).items())))
    table = markdown_table([["what", "value"], *rows])
    return f"{table}\n\nThe part of the config that determines the set:\n\n{markdown_code(config, 'yaml')}"


def without_folders(value: Any) -> Any:
    """Return a config's values with file names instead of absolute paths and URIs.

    >>> without_folders({"images": {"root": "/home/me/gz2/images"}, "classes": "gz2-9"})
    {'images': {'root': 'images'}, 'classes': 'gz2-9'}
    """
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if isinstance(value, str) and (value.startswith(("/", "~")) or "://" in value):
        return value.rstrip("/").rpartition("/")[2]
    return value


def _licence(hub: HubSet) -> str:
    provenance = hub.provenance
    if provenance.licence:
        licence = f"The licence of the input is carried along: {for_markdown(provenance.licence)}."
    elif provenance.simulated:
        licence = "The galaxies are simulated, and the config names no licence."
    else:
        licence = "The config names no licence of the input: find it before you share this set."
    lines = [licence]
    if provenance.citation:
        lines.append(f"Cite the data: {for_markdown(provenance.citation)}.")
    if provenance.homepage == METHOD:
        lines.append(f"Cite the method: Guan et al. 2023, {METHOD}; Cazenavette et al. 2022, arXiv:2203.11932.")
    return "\n\n".join(lines)
