from __future__ import annotations

import pytest
import torch

from core.dist.ranks import Ranks, pick_device, ranks
from core.errors import ConfigError


def test_a_run_without_torchrun_is_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with ranks(device="cpu", timeout=5) as alone:
        assert alone.is_main
        assert alone.world_size == 1
        assert not torch.distributed.is_initialized()
        assert alone.sum_named({"a": 1.5, "b": 2.0}) == {"a": 1.5, "b": 2.0}
        assert alone.gather("x") == ["x"]
        assert alone.broadcast("y") == "y"
        alone.barrier()


def _sums(rank: int, port: int, queue: torch.multiprocessing.SimpleQueue) -> None:
    import os

    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with ranks(device="cpu", timeout=30) as joined:
        queue.put(
            (
                rank,
                joined.sum_named({"big": float(2**53 - 1) * rank, "half": 0.5}),
                joined.gather(rank * 10),
                joined.broadcast(f"from {rank}"),
            )
        )


def test_sums_gathers_and_broadcasts_over_two_processes() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = torch.multiprocessing.get_context("spawn")
    queue = context.SimpleQueue()
    processes = [context.Process(target=_sums, args=(rank, port, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for _ in range(2):
        _, sums, gathered, told = queue.get()
        assert sums == {"big": float(2**53 - 1), "half": 1.0}
        assert gathered == [0, 10]
        assert told == "from 0"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_without_a_gpu_is_refused() -> None:
    assert pick_device("auto", 0) == torch.device("cpu")
    with pytest.raises(ConfigError, match=r"trainer\.device: 'cuda'"):
        pick_device("cuda", 0)


def test_main_rank_is_rank_zero() -> None:
    other = Ranks(rank=1, world_size=2, local_rank=1, device=torch.device("cpu"))
    assert not other.is_main
