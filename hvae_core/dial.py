"""A dial on a conditioned network: which betas give the rates, or the task, that are asked for. Nothing is trained.

The rate of a layer falls with its own beta, so betas are found by solving rates(log betas) = targets within the range
that the network was trained on. Accurate to `hvae_core.target_rates.tolerance`, 2 % or 0.1 nats, on the images given.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.evaluation.reconstruction import reconstructions, to_uint8
from hvae_core.figures import Slides
from hvae_core.guidance import Recommendation, recommend
from hvae_core.models import HierarchicalVAE
from hvae_core.population import Purpose, generator
from hvae_core.store import load_network
from hvae_core.target_rates import tolerance
from hvae_core.terms import layer_numbers

COARSE = 4  # values of each beta that are tried first
STARTS = 3  # of the root finding, the nearest of those


class Network(Protocol):
    """What can be dialled: `hvae_core.models.conditioning.Conditioned`."""

    @property
    def betas(self) -> Sequence[tuple[float, float]]: ...

    def at(self, betas: Sequence[float]) -> HierarchicalVAE: ...


class Dialled(NamedTuple):
    """Where the dial stands.

    Attributes:
        betas: ``(L,)``, top layer first.
        rates: R(z_L), ..., R(z_1|z_>1) there, on the images given, nats per image.
        distortion: D there, nats per image.
        model: the model at these betas.
    """

    betas: tuple[float, ...]
    rates: tuple[float, ...]
    distortion: float
    model: HierarchicalVAE


def dial(network: Network, x: Tensor, *, seed: int = 0, **wanted: float) -> Dialled:
    """The betas that give these rates on these images.

    Arguments:
        network: a conditioned network, such as `hvae_core.store.load_network` gives.
        x: held-out images, ``(images, C, H, W)`` uint8.
        seed: of the posterior samples.
        wanted: for each layer its rate, nats per image, or its beta: ``rate_2=8, rate_1=20``, ``rate_2=8, beta_1=1``.

    Raises:
        InputError: a layer is missing or unknown, or what is asked for lies outside of what the network was trained on.
    """
    numbers = list(layer_numbers(len(network.betas)))
    given = [[name for name in (f"rate_{n}", f"beta_{n}") if name in wanted] for n in numbers]
    if any(len(names) != 1 for names in given) or len(wanted) != len(numbers):
        raise InputError(f"dial: {', '.join(wanted) or 'nothing'} asked for; it takes a rate or a beta of each layer, such as "
                         f"{', '.join(f'rate_{n}' for n in numbers)}")  # fmt: skip
    held = [(i, names[0]) for i, names in enumerate(given) if names[0].startswith("rate")]
    betas = [wanted[names[0]] if names[0].startswith("beta") else math.nan for names in given]
    known = ", ".join(f"beta_{n} from {low:g} to {high:g}" for n, (low, high) in zip(numbers, network.betas, strict=True))
    bounds = np.log([network.betas[i] for i, _ in held]).reshape(-1, 2)
    targets = np.array([wanted[name] for _, name in held], float)
    allowed = np.array([tolerance(target) for target in targets])

    def at(free: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        found = list(betas)
        for (i, _), value in zip(held, free, strict=True):
            found[i] = min(max(math.exp(value), network.betas[i][0]), network.betas[i][1])
        return tuple(found)

    def missed(free: np.ndarray) -> np.ndarray:
        return (rates(free) - targets) / allowed

    def rates(free: Sequence[float] | np.ndarray) -> np.ndarray:
        terms = average_terms(network.at(at(free)), x, seed)
        return np.array([terms[name] for _, name in held])

    tried = list(itertools.product(*(np.linspace(low, high, COARSE) for low, high in bounds)))
    reached = np.array([rates(free) for free in tried])
    for k, (_, name) in enumerate(held):
        low, high = reached[:, k].min(), reached[:, k].max()
        if not low - allowed[k] <= targets[k] <= high + allowed[k]:
            raise InputError(f"{name} = {targets[k]:g}: with {known} it goes from {low:.3g} to {high:.3g} nats per image")
    point: np.ndarray = np.empty(0)
    if held:
        nearest = np.abs((reached - targets) / (targets + 1)).sum(1).argsort()
        solved = None
        for row in nearest[:STARTS]:  # from one start, a rate that is flat at zero may lead nowhere
            found = least_squares(
                missed, np.clip(tried[row], bounds[:, 0] + 1e-6, bounds[:, 1] - 1e-6),
                bounds=(bounds[:, 0], bounds[:, 1]), diff_step=np.full(len(held), 0.02), xtol=1e-5, max_nfev=30,
            )  # fmt: skip
            solved = found if solved is None or found.cost < solved.cost else solved
            if np.abs(solved.fun).max() <= 1:
                break
        assert solved is not None
        point = solved.x
        if np.abs(solved.fun).max() > 1:
            raise InputError(
                f"{', '.join(f'{name} = {wanted[name]:g}' for _, name in held)}: no betas with {known} give them together; "
                f"nearest are {', '.join(f'beta_{n} = {beta:.4g}' for n, beta in zip(numbers, at(point), strict=True))} with rates {', '.join(f'{rate:.4g}' for rate in rates(point))}"
            )
    model = network.at(at(point))
    terms = average_terms(model, x, seed)
    return Dialled(at(point), tuple(terms[f"rate_{n}"] for n in numbers), terms["distortion"], model)


@torch.no_grad()
def slide(network: Network, x: Tensor, layer: int, others: float = 1.0, steps: int = 7, seed: int = 0) -> Slides:
    """Reconstructions and samples of the same images and noise while the beta of one layer moves through its range.

    Arguments:
        x: ``(images, C, H, W)`` uint8.
        layer: the number of the layer; the other layers' betas are ``others``.
    """
    numbers = layer_numbers(len(network.betas))
    low, high = network.betas[numbers[0] - layer]
    betas = np.array([[beta if n == layer else others for n in numbers] for beta in np.geomspace(low, high, steps)])
    models = [network.at(np.clip(point, *np.array(network.betas).T).tolist()) for point in betas]
    noise = models[0].noise(len(x), generator(seed, Purpose.GENERATION, device=x.device))
    return Slides(
        layer, betas, x.cpu().numpy(), np.stack([reconstructions(model, x) for model in models]),
        np.stack([to_uint8(model.generate(noise)) for model in models]),
    )  # fmt: skip


def best(run: str | Path, task: str, x: Tensor, total_rate: float | None = None, seed: int = 0) -> tuple[Dialled, Recommendation]:
    """The model of a conditioned run that is best for a task within a total rate, and what speaks for it.

    Where points of the run promise that rates between them suit better (`Recommendation.interpolated`), those rates are
    dialled: with a conditioned network there is a model there.

    Arguments:
        run: a finished run of a conditioned model.
        task, total_rate: see `hvae_core.guidance.recommend`.
        x: held-out images, uint8.

    Raises:
        InputError: as `recommend` and `dial` do, or if no point is within the budget.
    """
    network = load_network(run, seed, x.device)
    advice = recommend(run, task, total_rate)
    if not advice.model:
        raise InputError(advice.warnings[0] if advice.warnings else "no model is within the budget")
    numbers = layer_numbers(len(network.betas))
    if advice.interpolated:
        wanted = {f"rate_{n}": rate for n, rate in zip(numbers, advice.interpolated.rates, strict=True)}
        try:
            return dial(network, x, seed=seed, **wanted), advice
        except InputError:
            pass  # a mixture of two models need not be one
    return dial(network, x, seed=seed, **{f"beta_{n}": beta for n, beta in zip(numbers, advice.betas, strict=True)}), advice
