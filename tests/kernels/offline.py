"""Compile Triton kernels for GPUs that are not here, and read from the machine code what counts.

The bundled assembler needs no GPU, but a kernel that was decorated for the interpreter cannot be
compiled. So it happens in a process of its own, without ``TRITON_INTERPRET``::

    reports = compile_all("tests.kernels.ctc.offline_kernels")
    assert all(report.local_bytes == 0 for report in reports)

An op lists its kernels in a module of its own, which only that process imports and which may
therefore import ``kernels.<op>.triton*`` at the top. It has to define ``VARIANTS``::

    VARIANTS = [
        Variant(
            label="V=1024",                            # in messages; unique for a kernel
            kernel=my_kernel,                          # the function decorated by triton.jit
            arguments={"x": "*fp32", "n": "i32"},      # by name; pointers count as 16-byte aligned
                                                       # unless the kernel does not specialize them
            constants={"BLOCK": 1024},                 # every tl.constexpr, and arguments of None
            options={"num_warps": 4},                  # as in the launch
        ),
    ]
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CAPABILITIES = (80, 90, 100)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One configuration of a kernel, as it is launched.

    Without ``listing`` its report has no instructions: to list them takes longest.
    """

    label: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    listing: bool = True


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a variant became on one target.

    Args:
        kernel: name of the function.
        label: of the variant.
        capability: compute capability times ten.
        registers: of a thread.
        local_bytes: stack and local memory of a thread; more than 0 means spilled registers.
        shared_bytes: shared memory of a block.
        opcodes: how often each instruction stands in the code, without its modifiers (BAR, SHFL).
        loops: the same for the body of each loop without another inside, in order of address.
    """

    kernel: str
    label: str
    capability: int
    registers: int
    local_bytes: int
    shared_bytes: int
    opcodes: dict[str, int]
    loops: list[dict[str, int]]

    def __str__(self) -> str:
        return f"{self.kernel}[{self.label}] on sm_{self.capability}"


@functools.cache
def compile_all(module: str, capabilities: tuple[int, ...] = CAPABILITIES) -> list[Report]:
    """Compile each of a module's variants for each target; the assembler's words if one fails."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRITON_")}
    with tempfile.TemporaryDirectory() as folder:
        environment["TRITON_CACHE_DIR"] = folder
        done = subprocess.run(
            [sys.executable, "-m", __name__, module, *map(str, capabilities)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    if done.returncode:
        raise AssertionError(f"{module}: offline compilation failed\n{done.stderr[-12000:]}")
    return [Report(**json.loads(line)) for line in done.stdout.splitlines() if line[:1] == "{"]


def compile_one(variant: Variant, capability: int) -> Report:
    """Compile one variant; only in a process that does not interpret."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = variant.kernel.arg_names
    missing = set(names) ^ (set(variant.arguments) | set(variant.constants))
    if missing:
        raise ValueError(
            f"{variant.label}: {variant.kernel.__name__} and the list differ: {missing}"
        )
    unaligned = (*variant.kernel.do_not_specialize, *variant.kernel.do_not_specialize_on_alignment)
    signature = {name: variant.arguments.get(name, "constexpr") for name in names}
    aligned = {
        (position,): [["tt.divisibility", 16]]
        for position, name in enumerate(names)
        if signature[name].startswith("*") and name not in unaligned
    }
    source = ASTSource(variant.kernel, signature, dict(variant.constants), aligned)
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(source, target=target, options=dict(variant.options))
    usage, code = _disassemble(compiled.asm["cubin"], listing=variant.listing)
    return Report(
        kernel=variant.kernel.__name__,
        label=variant.label,
        capability=capability,
        registers=usage["REG"],
        local_bytes=usage["STACK"] + usage["LOCAL"],
        shared_bytes=compiled.metadata.shared,
        opcodes=dict(Counter(opcode for _, opcode, _ in code)),
        loops=_innermost_loops(code),
    )


def _disassemble(
    cubin: bytes, *, listing: bool
) -> tuple[dict[str, int], list[tuple[int, str, str]]]:
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        what = ["-res-usage", "-sass"] if listing else ["-res-usage"]
        text = subprocess.check_output([knobs.nvidia.cuobjdump.path, *what, file.name], text=True)
    usage = {key: int(value) for key, value in re.findall(r"\b([A-Z]+):(\d+)", text)}
    line = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_]+)([^;]*);")
    code = [(int(m[1], 16), m[2], m[3]) for m in line.finditer(text)]
    return usage, [instruction for instruction in code if instruction[1] != "NOP"]


def _innermost_loops(code: list[tuple[int, str, str]]) -> list[dict[str, int]]:
    spans = set()
    for address, opcode, rest in code:
        target = re.search(r"0x([0-9a-f]+)", rest)
        if opcode == "BRA" and target and int(target[1], 16) < address:
            spans.add((int(target[1], 16), address))
    inner = [a for a in spans if not any(a[0] <= b[0] and b[1] <= a[1] for b in spans - {a})]
    return [
        dict(Counter(opcode for address, opcode, _ in code if first <= address <= last))
        for first, last in sorted(inner)
    ]


def _main(module: str, *capabilities: str) -> None:
    for variant in importlib.import_module(module).VARIANTS:
        for capability in capabilities:
            print(json.dumps(asdict(compile_one(variant, int(capability)))), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
