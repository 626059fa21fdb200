"""The processes of a run: who this one is, and sums over all of them.

Ranks are started by ``torchrun``; a run without it is a world of one and uses no collective.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among the processes of a run.

    Args:
        rank: 0 for the process that writes.
        world_size: number of processes.
        local_rank: index of this process on its machine.
        device: that this process computes on.
    """

    rank: int
    world_size: int
    local_rank: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, logs and metrics."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return ``values`` summed over ranks; every rank must call it with the same shape."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def sum_named(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sum numbers by name over ranks; every rank must hold the same names."""
        if self.world_size == 1:
            return dict(values)
        names = sorted(values)
        # float64 keeps counts of samples exact far beyond what float32 could.
        vector = torch.tensor([values[name] for name in names], dtype=torch.float64)
        summed = self.sum(vector.to(self.device)).cpu()
        return dict(zip(names, summed.tolist(), strict=True))

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401
        """Return every rank's ``value`` in rank order, on all ranks."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401
        """Return rank 0's ``value`` on all ranks."""
        if self.world_size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.barrier()


def pick_device(wanted: str, local_rank: int) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``. Raises ConfigError without CUDA."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device: 'cuda' was asked for, but torch sees no CUDA device")
    if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()):
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"rank {local_rank} of this machine has no GPU: torch sees "
                f"{torch.cuda.device_count()}; lower --nproc_per_node"
            )
        return torch.device("cuda", local_rank)
    return torch.device("cpu")


@contextmanager
def ranks(*, device: str, timeout: float) -> Iterator[Ranks]:
    """Join the process group that torchrun announces, if any, and leave it at the end.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        timeout: seconds after which a collective that waits for a lost rank raises.
    """
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    place = pick_device(device, local_rank)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    joined = Ranks(rank=rank, world_size=world_size, local_rank=local_rank, device=place)
    if world_size == 1:
        yield joined
        return
    dist.init_process_group(
        backend="nccl" if place.type == "cuda" else "gloo",
        store=_restart_store(rank, world_size, timeout),
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout),
    )
    try:
        yield joined
    finally:
        dist.destroy_process_group()


def _restart_store(rank: int, world_size: int, timeout: float) -> Store:
    """Return a rendezvous store that a restarted generation does not share with a dead one.

    torchrun keeps one TCP store over restarts; addresses that a killed rank left there make the
    next generation hang. A prefix by restart count keeps generations apart.
    """
    agent_serves = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        world_size,
        is_master=rank == 0 and not agent_serves,
        timeout=timedelta(seconds=timeout),
    )
    run_id = os.environ.get("TORCHELASTIC_RUN_ID", "run")
    restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"sori/{run_id}/{restart}", store)
