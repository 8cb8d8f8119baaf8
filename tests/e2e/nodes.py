"""Start Ray clusters on free ports of this machine, one process tree per node."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import tools

RAY = str(Path(sys.executable).parent / "ray")
SMALL_STORE = f"--object-store-memory={100 * 2**20}"
ANY_PORT = ("--min-worker-port=0", "--max-worker-port=0")


@dataclass
class Head:
    """A head node: its dashboard takes jobs at `address`, nodes join at `gcs_address`."""

    command: tools.Command
    address: str
    gcs_address: str
    env: dict[str, str]

    def start_job(self, folder: Path, *entrypoint: str, options: Sequence[str] = ()) -> tools.Command:
        """Submit a job from the repository's folder, and follow its log on stdout.

        options: further options of `ray job submit`.
        """
        words = [RAY, "job", "submit", "--address", self.address, "--working-dir", ".", *options, "--", *entrypoint]
        return tools.start(words, folder, self.env, "job")

    def submit(self, folder: Path, *entrypoint: str) -> tools.Command:
        """Submit a job and wait for its end."""
        job = self.start_job(folder, *entrypoint)
        job.wait(300)
        return job


@contextmanager
def head_node(
    folder: Path, env: Mapping[str, str], cpus: int = 2, autoscaling: Mapping[str, Any] | None = None
) -> Iterator[Head]:
    """Start a head node; --block makes its processes children of one command.

    autoscaling: the machine types of Ray's fake provider, whose machines are processes.
    """
    gcs, dashboard, client, agent, agent_grpc, metrics, setup = tools.free_ports(7)
    autoscaler_options: list[str] = []
    if autoscaling is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "autoscaling.json").write_text(json.dumps(_autoscaling(autoscaling, f"127.0.0.1:{gcs}")))
        autoscaler_options = [f"--autoscaling-config={folder / 'autoscaling.json'}"]
        env = {**env, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_enable_autoscaler_v2": "0"}
    command = tools.start(
        [
            RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", f"--port={gcs}",
            f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}", f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={setup}",
            *ANY_PORT, SMALL_STORE, f"--temp-dir={env['RAY_TMPDIR']}/{folder.name}", *autoscaler_options,
        ],
        folder, env, "head",
    )  # fmt: skip
    address = f"http://127.0.0.1:{dashboard}"
    try:
        command.wait_until("the head has started", lambda: "Ray runtime started" in command.out.read_text(), 120)
        command.wait_until("the dashboard answers", lambda: tools.answers(f"{address}/api/authentication_mode"), 120)
        yield Head(command, address, f"127.0.0.1:{gcs}", dict(env))
    finally:
        command.close()


def _autoscaling(types: Mapping[str, Any], gcs: str) -> dict[str, Any]:
    """Return the config that `ray up` would generate from a cluster file."""
    head = {"ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0}}
    return {
        "cluster_name": "fake", "max_workers": 2, "idle_timeout_minutes": 0.15, "upscaling_speed": 1.0,
        "provider": {"type": "fake_multinode", "use_node_id_as_ip": True, "gcs_address": gcs}, "auth": {}, "docker": {},
        "available_node_types": {**head, **types}, "head_node_type": "ray.head.default",
        "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
        "initialization_commands": [], "setup_commands": [], "head_setup_commands": [], "worker_setup_commands": [],
        "head_start_ray_commands": [], "worker_start_ray_commands": [],
    }  # fmt: skip


@contextmanager
def worker_node(head: Head, folder: Path, env: Mapping[str, str], cpus: int = 1) -> Iterator[tools.Command]:
    """Start another node of the cluster: a raylet and an object store."""
    agent, agent_grpc, metrics, setup = tools.free_ports(4)
    command = tools.start(
        [
            RAY, "start", f"--address={head.gcs_address}", "--block", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={setup}", *ANY_PORT, SMALL_STORE,
            # Nodes with a common folder would delete each other's working directories of a job.
            f"--temp-dir={env['RAY_TMPDIR']}/{folder.name}",
        ],
        folder, env, "node",
    )  # fmt: skip
    try:
        command.wait_until("the node has joined", lambda: "Ray runtime started" in command.out.read_text(), 120)
        yield command
    finally:
        command.close()
