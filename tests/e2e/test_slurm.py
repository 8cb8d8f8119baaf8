"""Run the Slurm script with the real `ray symmetric-run` on one node.

Shell scripts replace scontrol and srun.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.e2e import tools

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

COMMANDS = {
    "scontrol": 'test "$1 $2" = "show hostnames" && echo "$3"',  # the list of one node is its name
    "srun": 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"',  # one task, here
}


def test_slurm_script_run_has_the_same_digests(tiny_run: Path, env: dict[str, str], tmp_path: Path) -> None:
    if not (tools.ROOT / ".venv").exists():
        pytest.skip("the script needs the environment in .venv (make setup)")
    shells = tmp_path / "bin"
    shells.mkdir()
    for name, body in COMMANDS.items():
        (shells / name).write_text(f"#!/bin/bash\n{body}\n")
        (shells / name).chmod(0o755)
    allocation = {"SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_NNODES": "1", "SLURM_CPUS_PER_TASK": "3"}
    node_env = env | allocation | {"SLURM_JOB_ID": str(os.getpid()), "PATH": f"{shells}{os.pathsep}{env['PATH']}"}
    arguments = [str(tools.TINY), f"output={tmp_path / 'runs'}"]
    batch = tools.start(["bash", "deploy/slurm/raydistill.sbatch", *arguments], tmp_path, node_env)
    assert batch.wait() == 0, batch.log[-4000:] + batch.out.read_text()[-4000:]
    assert "Ray: 3 CPUs" in batch.log, "the run started a private Ray instead of using the allocation's"
    assert str(tools.artifact(tmp_path, "evaluation")) in batch.out.read_text()
    assert tools.contents(tmp_path) == tools.contents(tiny_run)
