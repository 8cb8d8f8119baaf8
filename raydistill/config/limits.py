"""Upper limits of whole numbers in a config, beyond which no run could ever end.

A limit belongs to a key of this name in every part of the config. It costs nothing to reject a
number here; later it would cost the memory of a machine.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from raydistill.errors import ConfigError

MOST = 1_000_000_000  # of keys that are not listed
LIMITS = {
    **dict.fromkeys(("image_size", "picture_size", "side", "min_picture_size"), 4096),  # px
    **dict.fromkeys(("width", "channels", "components", "embedding_size", "lora_rank"), 65_536),
    **dict.fromkeys(("depth", "layers", "blocks", "heads", "patch", "attention"), 1024),
    **dict.fromkeys(("num_experts", "num_networks", "full_data_networks", "validation_networks"), 10_000),
    **dict.fromkeys(("images_per_class", "trajectories_per_step", "preview_images", "quiz_pictures"), 10_000),
    **dict.fromkeys(("max_snapshots", "student_steps", "expert_epochs", "max_groups"), 1_000_000),
    **dict.fromkeys(("batch_size", "block_size", "shards", "unlabelled", "num_frequencies"), 1_000_000),
    **dict.fromkeys(("workers", "worker_threads", "distill_cpus", "max_restarts", "multi_formation"), 10_000),
    **dict.fromkeys(("seeds", "folds", "bins", "rounds", "repeats", "expert_groups"), 10_000),
    **dict.fromkeys(("trials", "permutations", "num_pictures", "train_fields", "test_fields"), 10_000_000),
    "seed": 2**63 - 1,
}


def check_limits(config: Any, place: str = "") -> None:
    """Raise ConfigError for a whole number beyond the limit of its key."""
    if is_dataclass(config):
        for field in fields(config):
            check_limits(getattr(config, field.name), f"{place}.{field.name}".lstrip("."))
    elif isinstance(config, dict):
        for key, value in config.items():
            check_limits(value, f"{place}.{key}")
    elif isinstance(config, tuple | list):
        for value in config:
            check_limits(value, place)
    elif isinstance(config, int):
        most = LIMITS.get(place.rpartition(".")[2], MOST)
        if config > most:
            raise ConfigError(f"it is larger than {most}, the most that any run could use", place, "give a smaller one")
