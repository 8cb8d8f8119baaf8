"""Check cluster.yaml against the schema of `ray up`, offline."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster.yaml"


def _checked(config: dict) -> dict:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_cluster_file_fits_rays_schema() -> None:
    config = _checked(yaml.safe_load(CLUSTER.read_text()))
    assert config["available_node_types"]["gpu_worker"]["min_workers"] == 0
    assert config["head_node_type"] in config["available_node_types"]


def test_images_have_the_ray_version_of_the_lock() -> None:
    images = yaml.safe_load(CLUSTER.read_text())["docker"]
    lock = (CLUSTER.parent / "requirements.lock").read_text()
    for role, end in (("head_image", ""), ("worker_image", "-gpu")):
        version = images[role].removeprefix("rayproject/ray:").removesuffix(f"-py311{end}")
        assert f"\nray=={version}\n" in lock


def test_every_node_requires_and_has_the_token() -> None:
    """Ray reads the token from the file that `ray get-auth-token --generate` writes."""
    config = yaml.safe_load(CLUSTER.read_text())
    assert config["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"
    assert "-e RAY_AUTH_MODE=token" in config["docker"]["run_options"]


def test_wrong_key_is_refused() -> None:
    config = yaml.safe_load(CLUSTER.read_text())
    config["idle_timeout_minuts"] = 5
    with pytest.raises(Exception, match="idle_timeout_minuts"):
        _checked(config)
