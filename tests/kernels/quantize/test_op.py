from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from kernels.errors import BackendError, KernelInputError
from kernels.quantize import random_projection_targets

GOLDEN = Path(__file__).parents[4] / "shared/golden/nest"
BACKENDS = ("reference", "torch", "triton")

pytestmark = pytest.mark.filterwarnings(
    "ignore:All-NaN slice:RuntimeWarning", "ignore:invalid value:RuntimeWarning"
)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def draw(
    *shape: int,
    books: int = 1,
    size: int = 64,
    code_dim: int = 16,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Features of a shape (..., F), projection and codebooks."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=rng, dtype=torch.float64).to(dtype).to(device)

    return normal(*shape), normal(books, shape[-1], code_dim), normal(books, size, code_dim)


def nearest_by_distance(features: Tensor, projection: Tensor, codebooks: Tensor) -> Tensor:
    """NeMo's form in float64: the smallest Euclidean distance between normalised vectors."""
    ids = []
    for book, codes in enumerate(codebooks.double()):
        points = F.normalize(features.double() @ projection[book].double(), dim=-1)
        differences = points.unsqueeze(-2) - F.normalize(codes, dim=-1)
        ids.append(differences.square().sum(-1).argmin(-1))
    return torch.stack(ids, -1)


@pytest.mark.parametrize(
    ("shape", "books", "size", "code_dim"),
    [
        ((70, 40), 2, 1000, 16),
        ((2, 9, 24), 3, 37, 12),
        ((5, 3), 1, 7, 5),
        ((3, 8), 4, 1, 2),
        ((1, 640), 1, 33, 64),
        ((130, 8), 1, 96, 1),
    ],
)
def test_ids_are_those_of_the_smallest_distance_in_float64(
    backend: str, device: torch.device, shape: tuple[int, ...], books: int, size: int, code_dim: int
) -> None:
    arguments = draw(*shape, books=books, size=size, code_dim=code_dim, device=device)
    if code_dim == 1:
        # Two directions only, so that almost all is a tie: of each the first.
        projected = arguments[0] @ arguments[1][0]
        first = {bool(s): int((arguments[2][0, :, 0] > 0).eq(s).nonzero()[0]) for s in (0, 1)}
        expected = torch.where(projected > 0, first[True], first[False])
    else:
        expected = nearest_by_distance(*arguments)
    found = random_projection_targets(*arguments, backend=backend)
    assert found.dtype == torch.int64
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_8192_codes_match_float64_on_the_given_values(
    backend: str, device: torch.device, dtype: torch.dtype
) -> None:
    arguments = draw(100, 640, size=8192, dtype=dtype, device=device)
    found = random_projection_targets(*arguments, backend=backend)
    assert torch.equal(found, nearest_by_distance(*arguments))


def test_codes_that_float32_cannot_tell_apart_are_told_apart(
    backend: str, device: torch.device
) -> None:
    features, projection, codebooks = draw(
        80, 32, size=128, dtype=torch.float64, device=device, seed=1
    )
    codebooks[:, 64:] = codebooks[:, :64] + 1e-9 * codebooks[:, 64:]
    expected = nearest_by_distance(features, projection, codebooks)
    points = F.normalize(features @ projection[0], dim=-1).float()
    rounded = (points @ F.normalize(codebooks[0], dim=-1).float().T).argmax(-1, keepdim=True)
    assert (rounded != expected).any(), "float32 would do: the case tests nothing"
    assert (expected >= 64).any()
    assert (expected < 64).any()
    found = random_projection_targets(features, projection, codebooks, backend=backend)
    assert torch.equal(found, expected)


def test_equal_codes_and_directions_yield_the_lowest_id(backend: str, device: torch.device) -> None:
    # In float64, for the direction of 3 * code in float32 is another one.
    features, projection, codebooks = draw(
        64, 16, books=2, size=96, dtype=torch.float64, device=device
    )
    codebooks[:, 32:64] = codebooks[:, :32]
    codebooks[:, 64:] = 3 * codebooks[:, :32]
    found = random_projection_targets(features, projection, codebooks, backend=backend)
    assert found.max() < 32
    first = random_projection_targets(features, projection, codebooks[:, :32], backend=backend)
    assert torch.equal(found, first)


def test_features_without_direction_get_id_0_and_touch_no_other_row(
    backend: str, device: torch.device
) -> None:
    features, projection, codebooks = draw(8, 16, books=2, device=device)
    expected = random_projection_targets(features, projection, codebooks, backend=backend)
    features[1] = 0
    features[2, 3] = torch.nan
    features[3, 4] = torch.inf
    features[4] = -torch.inf
    expected[1:5] = 0
    found = random_projection_targets(features, projection, codebooks, backend=backend)
    assert torch.equal(found, expected)


def test_a_zero_code_has_similarity_0(backend: str, device: torch.device) -> None:
    features, projection, codebooks = draw(200, 16, size=3, device=device)
    codebooks[0, 1] = 0
    points = F.normalize(features.double() @ projection[0].double(), dim=-1)
    similarities = points @ F.normalize(codebooks[0].double(), dim=-1).T
    found = random_projection_targets(features, projection, codebooks, backend=backend)
    assert torch.equal(found, similarities.argmax(-1, keepdim=True))
    assert (found == 1).any()


def test_a_code_of_nan_leaves_ids_in_range(backend: str, device: torch.device) -> None:
    features, projection, codebooks = draw(20, 16, books=2, size=40, device=device)
    expected = random_projection_targets(features, projection, codebooks, backend=backend)
    codebooks[0, 7, 2] = torch.nan
    found = random_projection_targets(features, projection, codebooks, backend=backend)
    assert torch.equal(found[:, 1], expected[:, 1])
    assert found.min() >= 0
    assert found.max() < 40


@pytest.mark.parametrize("scale", [1e-300, 1e-20, 1e20, 1e300])
def test_lengths_do_not_count(backend: str, device: torch.device, scale: float) -> None:
    features, projection, codebooks = draw(
        20, 8, size=50, dtype=torch.float64, device=device, seed=2
    )
    expected = random_projection_targets(features, projection, codebooks, backend=backend)
    for scaled in (
        (scale * features, projection, codebooks),
        (features, projection, scale * codebooks),
    ):
        assert torch.equal(random_projection_targets(*scaled, backend=backend), expected)


def test_neither_chunks_nor_the_batch_around_a_row_change_it(
    backend: str, device: torch.device
) -> None:
    features, projection, codebooks = draw(70, 24, books=3, size=50, device=device)
    whole = random_projection_targets(features, projection, codebooks, backend=backend)
    for chunk_bytes in (1, 2000, 30_000):
        found = random_projection_targets(
            features, projection, codebooks, chunk_bytes=chunk_bytes, backend=backend
        )
        assert torch.equal(found, whole)
    alone = [
        random_projection_targets(row, projection, codebooks, backend=backend)
        for row in features[:5]
    ]
    assert alone[0].shape == (3,)
    assert torch.equal(torch.stack(alone), whole[:5])


def test_strides_do_not_matter_and_no_rows_yield_no_ids(backend: str, device: torch.device) -> None:
    features, projection, codebooks = draw(6, 10, 16, books=2, device=device)
    expected = random_projection_targets(features, projection, codebooks, backend=backend)
    strided = (
        features.permute(2, 1, 0).contiguous().permute(2, 1, 0),
        projection.mT.contiguous().mT,
        codebooks.transpose(0, 1).contiguous().transpose(0, 1),
    )
    assert torch.equal(random_projection_targets(*strided, backend=backend), expected)
    empty = random_projection_targets(features[:, :0], projection, codebooks, backend=backend)
    assert empty.shape == (6, 0, 2)


def test_autocast_and_reduced_matmul_precision_change_nothing(
    backend: str, device: torch.device
) -> None:
    arguments = draw(100, 640, size=1024, device=device)
    expected = nearest_by_distance(*arguments)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            found = random_projection_targets(*arguments, backend=backend)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found, expected)


def test_features_that_require_a_gradient_yield_ids_that_do_not(
    backend: str, device: torch.device
) -> None:
    features, projection, codebooks = draw(4, 16, device=device)
    projection.requires_grad_()
    ids = random_projection_targets(
        features.requires_grad_(), projection, codebooks, backend=backend
    )
    assert not ids.requires_grad
    assert ids.grad_fn is None


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_opcheck(backend: str, device: torch.device) -> None:
    features, projection, codebooks = draw(3, 4, 16, books=2, device=device)
    arguments = (features, projection, codebooks, 2**20, backend)
    torch.library.opcheck(torch.ops.sori.random_projection_targets.default, arguments)


def test_compiles_into_one_graph_that_serves_every_length(
    backend: str, device: torch.device
) -> None:
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(backend=counter, fullgraph=True)
    def step(features: Tensor, projection: Tensor, codebooks: Tensor) -> Tensor:
        ids = random_projection_targets(2 * features, projection, codebooks, backend=backend)
        return ids + 1

    for batch, frames in ((2, 5), (3, 7), (4, 6), (2, 11)):
        features, projection, codebooks = draw(batch, frames, 16, device=device)
        found = step(features, projection, codebooks)
        assert torch.equal(found, nearest_by_distance(features, projection, codebooks) + 1)
    assert counter.frame_count <= 2, "more than the one recompilation to dynamic shapes"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_never_waits_for_the_device_and_can_be_captured(backend: str) -> None:
    features, projection, codebooks = draw(300, 40, size=8192, device=torch.device("cuda"))
    expected = random_projection_targets(features, projection, codebooks, backend=backend)
    torch.cuda.set_sync_debug_mode("error")
    try:
        random_projection_targets(features, projection, codebooks, backend=backend)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = random_projection_targets(features, projection, codebooks, backend=backend)
    features.copy_(features.flip(0))
    graph.replay()
    assert torch.equal(found, expected.flip(0))


@pytest.mark.skipif(not GOLDEN.exists(), reason="needs the golden tensors")
def test_tokens_are_nemos(backend: str, device: torch.device) -> None:
    state = load_file(GOLDEN / "mini_state.safetensors")
    golden = load_file(GOLDEN / "mini_io.safetensors")
    codebooks = state["quantizer.codebooks"]
    books, _, code_dim = codebooks.shape
    projection = state["quantizer.proj.weight"].T.view(-1, books, code_dim).transpose(0, 1)
    found = random_projection_targets(
        golden["stacked"].to(device), projection.to(device), codebooks.to(device), backend=backend
    )
    # A frame of eight that are all padding holds zeros, for which NeMo's pick is rounding noise.
    valid = torch.arange(found.shape[1]) < -(-golden["feats_len"] // 8).unsqueeze(1)
    assert valid.any()
    assert torch.equal(found.cpu()[valid], golden["tokens"][valid])


WRONG = {
    "not floating": (
        lambda x, a, c: (x.long(), a, c),
        "features: expected a floating dtype, found torch.int64",
    ),
    "features too wide": (
        lambda x, a, c: (x.repeat(1, 2), a, c),
        r"features: expected \(..., 16\) .* found \(4, 32\)",
    ),
    "scalar": (lambda x, a, c: (x[0, 0], a, c), r"features: expected .* found \(\)"),
    "projection of one book": (
        lambda x, a, c: (x, a[0], c),
        r"projection: expected \(C, F, K\), none of them 0, found \(16, 16\)",
    ),
    "books": (
        lambda x, a, c: (x, a, c[:1]),
        r"codebooks: expected \(2, V, 16\) .* found \(1, 64, 16\)",
    ),
    "no codes": (
        lambda x, a, c: (x, a, c[:, :0]),
        r"codebooks: expected .* none of them 0, found \(2, 0, 16\)",
    ),
    "devices": (
        lambda x, a, c: (x, a.to("meta"), c),
        "projection: is on meta, features are on .*; expected one",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_arguments_that_do_not_fit_are_refused(case: str, device: torch.device) -> None:
    spoil, message = WRONG[case]
    with pytest.raises(KernelInputError, match=message):
        random_projection_targets(*spoil(*draw(4, 16, books=2, device=device)))


def test_a_chunk_of_no_bytes_is_refused(device: torch.device) -> None:
    with pytest.raises(KernelInputError, match="chunk_bytes: expected at least 1, found 0"):
        random_projection_targets(*draw(4, 16, device=device), chunk_bytes=0)


def test_triton_refuses_codes_that_do_not_fit_registers(device: torch.device) -> None:
    arguments = draw(4, 16, code_dim=65, device=device)
    with pytest.raises(BackendError, match="codes of 65 dimensions, it takes 64 at most"):
        random_projection_targets(*arguments, backend="triton")
    found = random_projection_targets(*arguments)
    assert torch.equal(found, nearest_by_distance(*arguments))
