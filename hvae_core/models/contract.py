"""What an architecture must keep to, asked before it is trained: a mistake is said by the name of the method."""

from collections.abc import Callable
from typing import Any

import torch

from hvae_core.errors import InputError
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise

IMAGES = 2  # that are sent through the model
GIVES = {"posterior": "rate", "prior": "kl_from", "likelihood": "log_prob"}  # by what a result is known


def check_model(model: HierarchicalVAE, name: str, layers: int) -> None:
    """Send two images through a model, one conditional distribution after the other.

    Arguments:
        name: of the model, for the message.
        layers: L as `hvae_core.names.LAYERS` has it.

    Raises:
        InputError: where the model is not what `hvae_core.models.hierarchy.HierarchicalVAE` says.

    Example:
        >>> from hvae_core.models import build
        >>> check_model(build("ghvae", (1, 28, 28)), "ghvae", layers=2)
    """
    try:
        _check(model, layers)
    except InputError as error:
        raise InputError(f"model {name}: {error}") from error


@torch.no_grad()
def _check(model: HierarchicalVAE, layers: int) -> None:
    for attribute in ("image_shape", "latent_shapes"):
        if not hasattr(model, attribute):
            raise InputError(f"it has no {attribute}; set it in __init__")
    if model.layers != layers:
        raise InputError(f"latent_shapes has {model.layers} layers, hvae_core/names.py says {layers}")
    x = torch.rand(IMAGES, *model.image_shape, generator=torch.Generator().manual_seed(0)).round()
    noise, z = model.noise(IMAGES, Noise(0)), list[torch.Tensor]()
    features = _asked(model.features, "features", x)
    for number, shape, epsilon in zip(range(layers, 0, -1), model.latent_shapes, noise, strict=True):
        q = _distribution(model.posterior, f"posterior of z_{number}", x, z, features)
        p = _distribution(model.prior, f"prior of z_{number}", z)
        what = f"z_{number}, which is {shape} by latent_shapes"
        sample, rate = _asked(q.rate, f"the rate of {what},", p, epsilon)
        _shaped(f"a sample of {what},", sample, epsilon.shape)
        _shaped(f"the rate of z_{number}", rate, (IMAGES,))
        _shaped(f"a sample of the prior of {what},", _asked(p.sample, f"the prior of {what},", epsilon), epsilon.shape)
        z.append(sample)
    likelihood = _distribution(model.likelihood, "likelihood", z)
    _shaped("log p(x | z)", _asked(likelihood.log_prob, "log_prob of the likelihood", x), (IMAGES,))
    _shaped("an image of the likelihood", likelihood.mode, x.shape)

    before = {name: value.clone() for name, value in model.named_buffers()}
    first, second = model(x, noise), model(x, noise)
    changed = [name for name, value in model.named_buffers() if not torch.equal(value, before[name])]
    if changed:
        raise InputError(f"a pass changes {', '.join(changed)}; statistics of batches are not kept, as of BatchNorm")
    if not all(map(torch.equal, first, second)):
        raise InputError("two passes with the same noise differ; all that is random is the noise, so no Dropout")
    if left_out := uncovered(model):
        raise InputError(f"parts leaves out {', '.join(left_out)}; it names all layers, for the table of them")


def uncovered(model: HierarchicalVAE) -> list[str]:
    """The layers with parameters that no part of the model names."""
    try:
        named = [layer for steps in model.parts.values() for names in steps.values() for layer in names]
    except NotImplementedError:
        raise InputError("it has no parts, {distribution: {step: names of layers}}, for the table of them") from None
    parameters = [name for name, _ in model.named_parameters()]
    left = [name for name in parameters if not any(name == layer or name.startswith(f"{layer}.") for layer in named)]
    return list(dict.fromkeys(name.rpartition(".")[0] or name for name in left))


def _asked(function: Callable[..., Any], what: str, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # whatever somebody's own code raises
        raise InputError(f"{what} fails: {type(error).__name__}: {error}") from error


def _distribution(method: Callable[..., Any], what: str, *arguments: Any) -> Any:
    found = _asked(method, what, *arguments)
    if not hasattr(found, GIVES[method.__name__]):
        raise InputError(f"{what} returned {type(found).__name__}; it must be one of hvae_core/models/distributions.py")
    return found


def _shaped(what: str, value: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != tuple(shape):
        raise InputError(f"{what} has shape {tuple(value.shape)} for {IMAGES} images, not {tuple(shape)}")
