"""In which precision, and with which memory, a device computes."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from hvae_core.errors import InputError


def keep_memory() -> None:
    """Let this process keep the memory that its tensors leave, instead of handing it back after every operation.

    Activations of a batch are larger than what glibc keeps by default: each would be mapped, zeroed and unmapped by the
    kernel at every step, up to a third of the time of a step on a CPU. Other allocators are left alone.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # of mallopt(3)
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((mmap_threshold, 32 << 20), (trim_threshold, 2**31 - 1), (top_pad, 64 << 20)):
        mallopt(option, value)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context in which a network's layers are computed in ``precision``, float32 or bfloat16.

    Raises:
        InputError: for another.
    """
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"precision = {precision}: allowed are float32 and bfloat16")
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16; where it does not, that is several times slower than float32."""
    able = torch.cpu.get_capabilities()
    return able["architecture"] != "x86_64" or able["avx512_bf16"] or able["amx_bf16"]


@contextlib.contextmanager
def tf32(device: torch.device) -> Iterator[None]:
    """On a GPU, matrix products as PyTorch computes convolutions there by default: in TF32."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
