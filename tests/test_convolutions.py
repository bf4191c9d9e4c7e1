"""Convolutions computed in another way are the same convolutions; in bfloat16, nearly."""

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from conftest import grid
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from hvae_core.data.readers import load
from hvae_core.errors import InputError
from hvae_core.models import build
from hvae_core.randomness import Noise
from hvae_core.runs.config import Config
from hvae_core.training.convolutions import (
    FEW,
    CPUPointwise,
    _Double,
    _Halve,
    convolved,
    doubled,
    for_cpu,
    for_vmap,
    layout,
    transposed,
)
from hvae_core.training.plan import Plan
from hvae_core.training.population import train

few = st.integers(1, 5)


@settings(max_examples=30, deadline=None)
@given(few, few, st.sampled_from([1, 3, 4, FEW]), few, few)
def test_doubled_is_the_transposed_convolution(batch, inputs, outputs, height, width):
    x, weight = torch.randn(batch, inputs, height, width).double(), torch.randn(inputs, outputs, 4, 4).double()
    expected = F.conv_transpose2d(x, weight, stride=2, padding=1)
    torch.testing.assert_close(doubled(x, weight), expected)
    torch.testing.assert_close(doubled(x.to(memory_format=torch.channels_last), weight), expected)


@settings(max_examples=60, deadline=None)
@given(few, few, few, st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), few, few)
def test_convolutions_as_matrix_products(batch, inputs, outputs, stride, strides, padding, height, width):
    """Kernels of one to three strides; maps of a few blocks, both ways to arrange the product."""
    kernel = stride * strides
    weight = torch.randn(outputs, inputs, kernel, kernel).double()
    sides = [stride * (blocks + strides) - 2 * padding for blocks in (height, width)]
    if min(sides) > 0:
        x = torch.randn(batch, inputs, *sides).double()
        torch.testing.assert_close(
            convolved(x, weight, stride, padding), F.conv2d(x, weight, stride=stride, padding=padding)
        )
    x, weight = torch.randn(batch, inputs, height, width).double(), weight.transpose(0, 1)
    if min(height, width) * stride + kernel - stride > 2 * padding:
        expected = F.conv_transpose2d(x, weight, stride=stride, padding=padding)
        torch.testing.assert_close(transposed(x, weight, stride, padding), expected)


MODELS = [
    ("ghvae", (1, 28, 28), {}),
    ("ghvae", (3, 32, 32), {}),
    ("lvae", (1, 28, 28), {}),
    ("lvae", (3, 32, 32), {}),
    ("---", (1, 28, 28), {"width": 0.1}),
    ("-+v", (1, 28, 28), {"width": 0.1, "pseudo_inputs": 3}),
]


@pytest.mark.parametrize(("name", "shape", "options"), MODELS)
def test_many_models_at_once_have_the_same_terms_and_gradients(double, name, shape, options):
    x = torch.rand(2, *shape).round()
    results = []
    for change in (lambda model: model, for_vmap, lambda model: for_vmap(model, shared=True)):
        torch.manual_seed(0)
        model = change(build(name, shape, **options))
        stacked = {
            name: torch.stack([value.detach(), 0.9 * value.detach()]).requires_grad_()
            for name, value in model.named_parameters()
        }
        noise = model.noise(2, Noise(0))

        def loss(parameters, model=model, noise=noise):
            terms = functional_call(model, parameters, (x, noise))
            return terms.distortion.sum() + terms.rates.sum()

        losses = vmap(loss)(stacked)
        results.append((losses, torch.autograd.grad(losses.sum(), list(stacked.values()), allow_unused=True)))
    for found in results[1:]:
        torch.testing.assert_close(found, results[0])


@pytest.mark.parametrize("stride", [2, 4])
def test_what_models_share_is_one_plain_product(stride):
    """Members x outputs rows, in both passes; however the product is arranged."""
    x, weights = torch.rand(4, 1, 8, 8), torch.rand(3, 5, 1, 4, 4, requires_grad=True)
    names = []

    class Products(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "mm" in (name := function._schema.name):
                names.append((name, args[0].shape[0]))
            return function(*args, **(kwargs or {}))

    with Products():
        vmap(lambda weight: convolved(x, weight, stride, 0, shared=True))(weights).sum().backward()
    assert [name for name, _ in names] == ["aten::mm", "aten::mm"]
    assert names[0][1] % 15 == 0


@pytest.mark.parametrize(("name", "shape", "options"), MODELS)
def test_many_models_at_once_in_bfloat16(name, shape, options):
    """Layers that are products and layers that are not hand each other maps of one type."""
    model = build(name, shape, **options)
    x, noise = torch.rand(4, *shape).round(), model.noise(4, Noise(0))
    exact = model(x, noise)
    stacked = {name: torch.stack([value.detach()] * 2) for name, value in model.named_parameters()}
    for_vmap(model)
    with torch.autocast("cpu", torch.bfloat16):
        rough = vmap(lambda parameters: functional_call(model, parameters, (x, noise)))(stacked)
    assert rough.distortion.dtype == torch.float32
    torch.testing.assert_close(rough.distortion[0], exact.distortion, rtol=0.02, atol=0)


@pytest.mark.parametrize("outputs", [2, FEW])
def test_gradients(double, outputs):
    x, weight, bias = torch.randn(2, 2, 3, 3), torch.randn(2, outputs, 4, 4), torch.randn(outputs)
    assert torch.autograd.gradcheck(_Double.apply, tuple(t.requires_grad_() for t in (x, weight, bias)))
    x, weight, bias = torch.randn(2, outputs, 4, 4), torch.randn(2, outputs, 4, 4), torch.randn(2)
    assert torch.autograd.gradcheck(_Halve.apply, tuple(t.requires_grad_() for t in (x, weight, bias)))


@pytest.mark.parametrize(
    ("model", "shape", "options"),
    [
        *((model, shape, {}) for model in ("ghvae", "lvae") for shape in ((1, 28, 28), (3, 32, 32))),
        ("-+-", (1, 28, 28), {"width": 0.1}),
    ],
)
def test_a_model_for_the_cpu_has_the_same_terms_and_gradients(double, model, shape, options):
    plain, ours = build(model, shape, **options), build(model, shape, **options)
    ours.load_state_dict(plain.state_dict())
    lay = layout(for_cpu(ours))
    x, noise = torch.rand(3, *shape).round(), plain.noise(3, Noise(0))
    for name, parameter in ours.named_parameters():
        parameter.data = lay(parameter.data)
        assert name in dict(plain.named_parameters())
    terms = [network(images, noise) for network, images in ((plain, x), (ours, lay(x)))]
    torch.testing.assert_close(*terms)
    for found in terms:
        (found.distortion + found.rates.sum(1)).mean().backward()
    for a, b in zip(plain.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.Conv2d(2, 3, 4, 2, 1, dilation=2),
        torch.nn.ConvTranspose2d(2, 3, 4, 2, 1, output_padding=1),
        torch.nn.Conv2d(2, 3, 4, 2, 1),
        torch.nn.Conv2d(2, 3, 4, 2, 1, padding_mode="reflect"),
        torch.nn.Conv2d(2, 3, 1, 2),
        torch.nn.Conv2d(2, 3, 1, padding=1),
        torch.nn.Conv2d(2, 4, 1, groups=2),
        torch.nn.Conv2d(2, 3, 1, bias=False),
        torch.nn.ConvTranspose2d(2, 3, 1),
    ],
)
def test_shapes_that_are_not_ours_are_left_to_pytorch(layer):
    x = torch.randn(2, 2, 7, 7, requires_grad=True)
    expected = layer(x)
    found = for_cpu(torch.nn.Sequential(layer))(x)
    torch.testing.assert_close(found, expected)
    found.sum().backward()


def test_the_layers_of_a_pixelcnn_with_kernel_1_are_products():
    kinds = Counter(type(module) for module in for_cpu(build("-+-", (1, 28, 28), width=0.1)).modules())
    assert kinds[CPUPointwise] == 12 + 6 + 1, "h_side of every residual layer, v_side of half of them, the logits"


def test_other_layers_stay_as_they_are():
    model = for_cpu(build("---", (1, 28, 28), width=0.1))
    assert {type(module).__module__ for module in model.modules() if isinstance(module, torch.nn.Conv2d)} == {
        "torch.nn.modules.conv"
    }
    x = torch.rand(2, 1, 28, 28)
    assert layout(model)(x) is x


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_bfloat16_is_of_the_layers_only(shape):
    model = for_cpu(build("ghvae", shape))
    x, noise = torch.rand(8, *shape).round(), model.noise(8, Noise(0))
    exact = model(x, noise)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(x, noise)
    assert rough.distortion.dtype == rough.rates.dtype == torch.float32
    torch.testing.assert_close(rough.distortion, exact.distortion, rtol=5e-3, atol=0)
    torch.testing.assert_close(rough.rates, exact.rates, rtol=5e-2, atol=1e-3)
    assert not torch.equal(rough.distortion, exact.distortion)


@pytest.mark.slow
def test_training_in_bfloat16_ends_where_float32_does():
    x = load("digits").x_train[:500]
    ends = {}
    for precision in ("float32", "bfloat16"):
        population = train(
            lambda: build("ghvae", (1, 28, 28)),
            grid(0.3),
            x,
            Plan(epochs=8, batch_size=50, learning_rate=2e-3, precision=precision),
        )
        assert {value.dtype for value in population.parameters.values()} == {torch.float32}
        ends[precision] = population.history[:, -1].sum(1)
    torch.testing.assert_close(ends["bfloat16"], ends["float32"], rtol=0.03, atol=0)
    assert not torch.equal(ends["bfloat16"], ends["float32"])


def test_precision_is_for_the_hierarchical_models():
    assert Config.make({"precision": "bfloat16"}).precision == "bfloat16"
    with pytest.raises(InputError, match="ghvae and lvae"):
        Config.make({"precision": "bfloat16", "model": "---"})
    with pytest.raises(InputError, match="precision"):
        Config.make({"precision": "half"})
    with pytest.raises(InputError, match="precision = half: allowed are"):
        train(
            lambda: build("ghvae", (1, 28, 28)), grid(1.0), load("digits").x_train[:8], Plan(epochs=1, precision="half")
        )
