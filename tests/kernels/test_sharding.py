from __future__ import annotations

import torch
from torch import nn
from torch.distributed import HashStore, destroy_process_group, init_process_group

from kernels.sharding import is_sharded


def test_plain_tensors_and_parameters_are_whole() -> None:
    assert not is_sharded(torch.zeros(2))
    assert not is_sharded(nn.Parameter(torch.zeros(2)))


def test_a_dtensor_is_recognised_as_tensor_and_parameter() -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        sharded = distribute_tensor(torch.zeros(2), mesh, [Shard(0)])
        assert is_sharded(sharded)
        assert is_sharded(nn.Parameter(sharded))
    finally:
        destroy_process_group()
