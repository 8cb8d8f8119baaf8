"""List the sockets of a private Ray: it listens on the loopback interface alone."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil
import pytest
import ray
from ray_tools import SILENT, copy_of, tiny, workers

from raydistill.pipeline.plan import Plan
from raydistill.stages.experts.stage import experts
from raydistill.stages.generate.stage import generate
from raydistill.tracking.tracker import Tracker

GENERATOR = (
    "generate.model={network: {kind: mlp, width: 16, blocks: 1}, space: {kind: components, components: 8}}",
    "generate.training={steps: 20, batch_size: 8, shards: 2}",
    "generate.preview_images=2",
)

pytestmark = pytest.mark.usefixtures("cluster")


def listening_sockets() -> dict[tuple[str, str, int], str]:
    """Return (protocol, address, port) -> program of the sockets of this process tree."""
    sockets = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            name = (process.cmdline() or [process.name()])[0]
            for connection in process.net_connections("inet"):
                bound_udp = connection.type == socket.SOCK_DGRAM and connection.laddr and not connection.raddr
                if connection.status == psutil.CONN_LISTEN or bound_udp:
                    kind = "udp" if bound_udp else "tcp"
                    sockets[kind, connection.laddr.ip, connection.laddr.port] = name
    return sockets


def is_loopback(address: str) -> bool:
    ip = ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (mapped or ip).is_loopback


@contextmanager
def watching_sockets() -> Iterator[dict[tuple[str, str, int], str]]:
    """Collect listening sockets during the body; assert that two workers ran."""
    sockets, most_workers, done = listening_sockets(), 0, threading.Event()

    def watch() -> None:
        nonlocal most_workers
        while not done.wait(0.1):
            most_workers = max(most_workers, len(workers("RayTrainWorker")))
            sockets.update(listening_sockets())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield sockets
    finally:
        done.set()
        thread.join(30)
    assert most_workers == 2


@pytest.mark.long
@pytest.mark.parametrize("stage", [experts, generate])
def test_private_ray_with_two_train_workers_listens_on_loopback_alone(
    tiny_root: Path, tmp_path: Path, stage: Callable[[Plan, Tracker], object]
) -> None:
    config = tiny(
        copy_of(tiny_root, tmp_path, "survey", "curated"), "experts.training.batch_size=1", *GENERATOR,
        "resources.workers=2",
    )  # fmt: skip
    with watching_sockets() as sockets:
        stage(Plan(config), SILENT)
    programs = " ".join(sockets.values())
    for program in ("gcs_server", "raylet", "DashboardAgent", "RayTrainWorker", "TrainController"):
        assert program in programs, f"no socket of {program} was seen, so this test proves nothing"
    assert {key: name for key, name in sockets.items() if not is_loopback(key[1])} == {}
    assert is_loopback(ray.util.get_node_ip_address())


def test_socket_on_all_interfaces_is_listed() -> None:
    with socket.create_server(("", 0)) as server:
        key = ("tcp", "0.0.0.0", server.getsockname()[1])
        assert key in listening_sockets()
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("::")
    assert is_loopback("::1")
    assert is_loopback("::ffff:127.0.0.1")
