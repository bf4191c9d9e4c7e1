"""Convolutions as Triton kernels, interpreted on a CPU, are PyTorch's in double precision."""

import inspect

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call, vmap

from hvae_core.models import build
from hvae_core.randomness import Noise
from hvae_core.training import kernels
from hvae_core.training.convolutions import for_vmap

triton = pytest.importorskip("triton", reason="there is no Triton here: it comes with PyTorch on Linux")


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    kernels._compiled.cache_clear()
    yield
    kernels._compiled.cache_clear()


LAYERS = [  # inputs, outputs, side, kernel, stride, padding: of the paper's tables, narrower
    (1, 3, 8, 4, 2, 1),
    (3, 2, 7, 4, 1, 0),
    (2, 5, 4, 3, 1, 1),
    (3, 17, 4, 4, 2, 1),
]


@pytest.mark.parametrize("up", [False, True], ids=["convolution", "transposed"])
@pytest.mark.parametrize("layer", LAYERS)
def test_values_and_gradients(layer, up):
    """Of two models; maps in any order of memory."""
    inputs, outputs, side, kernel, stride, padding = layer
    x = torch.randn(2, 3, side, side, inputs).permute(0, 1, 4, 2, 3).requires_grad_()
    weight = torch.randn(2, *((inputs, outputs) if up else (outputs, inputs)), kernel, kernel, requires_grad=True)
    bias = torch.randn(2, outputs, requires_grad=True)
    plain = F.conv_transpose2d if up else F.conv2d
    exact = [value.detach().double().requires_grad_() for value in (x, weight, bias)]
    expected = torch.stack([plain(*model, stride=stride, padding=padding) for model in zip(*exact, strict=True)])
    found = kernels._Convolution.apply(x, weight, bias, stride, padding, up)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    back = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, (x, weight, bias), back.float())
    for ours, theirs in zip(gradients, torch.autograd.grad(expected, exact, back), strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_they_compile_for_a_gpu(monkeypatch, tmp_path, kind):
    """What is interpreted may still be no program: compiled for a card of compute capability 9, without one."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    tile = {"KERNEL": 4, "STRIDE": 2, "PADDING": 1, "PRECISION": "tf32", "PLACES": 64, "ENTRIES": 32, "CHANNELS": 16}
    apply, correlate = kernels._compiled()
    for function, given in (
        (apply, {"INPUTS": 16, "OUTPUTS": 3, "UP": kind == "bf16", "BIAS": True}),
        (correlate, {"LARGE": 16, "SMALL": 3}),
    ):
        names = list(inspect.signature(function.fn).parameters)
        maps = ("x", "weight", "bias", "y", "large", "small", "result")
        signature = {name: "constexpr" if name.isupper() else f"*{kind}" if name in maps else "i32" for name in names}
        constants = {(names.index(name),): value for name, value in (tile | given).items()}
        source = ASTSource(function, signature=signature, constexprs=constants)
        assert "mma" in triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]


@pytest.mark.slow
def test_a_model_of_these_kernels_has_the_same_terms_and_gradients():
    """Two models under vmap, images shared; against double precision."""
    name = "ghvae"
    torch.manual_seed(0)
    plain = build(name, (1, 28, 28))
    x, noise = torch.rand(1, 1, 28, 28).round(), plain.noise(1, Noise(0))
    results = []
    for model, kind in ((plain.double(), torch.float64), (for_vmap(build(name, (1, 28, 28)), kernels=True), None)):
        kind = kind or torch.float32
        stacked = {
            key: torch.stack([value.detach(), 0.9 * value.detach()]).to(kind).requires_grad_()
            for key, value in plain.named_parameters()
        }

        def loss(parameters, model=model, kind=kind):
            terms = functional_call(model, parameters, (x.to(kind), [value.to(kind) for value in noise]))
            return terms.distortion.sum() + terms.rates.sum()

        losses = vmap(loss)(stacked)
        gradients = torch.autograd.grad(losses.sum(), list(stacked.values()), allow_unused=True)
        results.append([value.double() for value in (losses, *gradients) if value is not None])
    for found, expected in zip(*reversed(results), strict=True):
        assert (found - expected).norm() <= 1e-4 * expected.norm()
