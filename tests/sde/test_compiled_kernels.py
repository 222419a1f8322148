"""Triton kernels become machine code for GPUs, on a machine that has none."""

import pytest
from kernels import INTERPRETED

from robustbench_sde.models.kernels import group_norm
from robustbench_sde.sde.kernels import numbers, update

pytestmark = pytest.mark.skipif(INTERPRETED, reason="the interpreter takes the compiler's place")

NORM = {"RELU": True, "OFFSET": 3, "TOGETHER": 4, "BLOCK": 512}
KERNELS = {
    "normals": (numbers._even_kernel, {"LAW": 2, "LANES": 128}),
    "uniforms, odd": (numbers._odd_kernel, {"LAW": 1, "LANES": 128}),
    "step": (update._forward_kernel, {"KIND": 1, "CHANNELS": 0, "PIXELS": 0, "LANES": 128}),
    "step, NHWC": (update._forward_kernel, {"KIND": 2, "CHANNELS": 64, "PIXELS": 64, "LANES": 128}),
    "gradient of a step": (update._backward_kernel, {"KIND": 1, "CHANNELS": 0, "PIXELS": 0, "LANES": 128}),
    "gradient of a step, NHWC": (
        update._backward_kernel,
        {"KIND": 2, "CHANNELS": 3, "PIXELS": 16, "LANES": 8},
    ),
    "norm": (group_norm._forward_kernel, NORM | {"DEPTH": 0}),
    "norm, NHWC": (group_norm._forward_kernel, NORM | {"DEPTH": 8}),
    "gradient of a norm": (group_norm._backward_kernel, NORM | {"DEPTH": 0}),
    "gradient of a norm, NHWC": (group_norm._backward_kernel, NORM | {"DEPTH": 8}),
}
#: types of arguments; all others are int32
TYPES = dict.fromkeys(("out", "to_h", "to_f", "h", "f", "g", "x", "statistics", "weight", "bias"), "*fp32")
TYPES |= {"offset": "*fp32", "key": "*i64", "counters": "*i64", "first_block": "i64", "site": "i64"}
TYPES |= dict.fromkeys(("dt", "scale", "eps"), "fp32")


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_compiles(name, monkeypatch, tmp_path):
    """Triton and NVIDIA's assembler accept the kernel for GPUs of compute capability 8.0."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel, constants = KERNELS[name]
    types = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in kernel.arg_names}
    compiled = triton.compile(ASTSource(kernel, types, constants), target=GPUTarget("cuda", 80, 32))
    assert "sm_80" in compiled.asm["ptx"]
    assert len(compiled.asm["cubin"]) > 1000
