"""A dial on a conditioned network: which betas give the rates, or the task, that are asked for. Nothing is trained.

The rate of a layer falls with its own beta, so betas are found by solving rates(log betas) = targets within the range
that the network was trained on. Accurate to `hvae_core.training.target_rates.tolerance`, 2 % or 0.1 nats, on the images
given.
"""

import itertools
import math
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from hvae_core.analysis.guidance import Recommendation, recommend
from hvae_core.data.dataset import to_uint8
from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.evaluation.reconstruction import reconstructions
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.randomness import Noise, Purpose
from hvae_core.runs.weights import load_network
from hvae_core.terms import layer_numbers
from hvae_core.training.target_rates import tolerance

COARSE = 4  # values of each beta that are tried first
STARTS = 3  # of the root finding, the nearest of those
STEP = 0.05  # of log beta, of the finite differences


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
        missed: by how many tolerances the rates differ from those asked for, at most 1.
    """

    betas: tuple[float, ...]
    rates: tuple[float, ...]
    distortion: float
    model: HierarchicalVAE
    missed: float


def dial(network: Network, x: Tensor, *, seed: int = 0, **wanted: float) -> Dialled:
    """The betas that give these rates on these images.

    Arguments:
        network: a conditioned network, such as `hvae_core.load_network` gives.
        x: held-out images, ``(images, C, H, W)`` uint8.
        seed: of the posterior samples.
        wanted: for each layer its rate, nats per image, or its beta: ``rate_2=8, rate_1=20``, ``rate_2=8, beta_1=1``.

    Raises:
        InputError: a layer is missing or unknown, a number is not finite, the images are not the network's, or what is
            asked for lies outside of what the network was trained on.
    """
    _check(network, x, **wanted)
    numbers = list(layer_numbers(len(network.betas)))
    given = [[name for name in (f"rate_{n}", f"beta_{n}") if name in wanted] for n in numbers]
    if any(len(names) != 1 for names in given) or len(wanted) != len(numbers):
        raise InputError(
            f"dial: {', '.join(wanted) or 'nothing'} asked for; it takes a rate or a beta of each layer, such as "
            f"{', '.join(f'rate_{n}' for n in numbers)}"
        )
    betas = [wanted.get(f"beta_{n}") for n in numbers]
    targets = [wanted.get(f"rate_{n}") for n in numbers]
    known = ", ".join(
        f"beta_{n} from {low:g} to {high:g}" if beta is None else f"beta_{n} = {beta:g}"
        for n, beta, (low, high) in zip(numbers, betas, network.betas, strict=True)
    )
    search = _Search(network, x, seed, betas, targets)
    if not np.isfinite(search.reached).all():
        raise InputError("dial: the network's rates are not finite; training diverged")
    for i, (n, target) in enumerate(zip(numbers, targets, strict=True)):
        if target is None:
            continue
        low, high = search.reached[:, i].min(), search.reached[:, i].max()
        if not low - tolerance(target) <= target <= high + tolerance(target):
            raise InputError(f"rate_{n} = {target:g}: with {known} it goes from {low:.3g} to {high:.3g} nats per image")
    there = search.solve()
    if there.missed > 1:
        raise InputError(
            f"{', '.join(f'{name} = {value:g}' for name, value in wanted.items())}: no betas with {known} give "
            "them together; nearest are "
            f"{', '.join(f'beta_{n} = {beta:.4g}' for n, beta in zip(numbers, there.betas, strict=True))} with "
            f"rates {', '.join(f'{rate:.4g}' for rate in there.rates)}"
        )
    return there


def _check(network: Any, x: Tensor, **values: Any) -> None:
    """Whether this is a network, these are images of its kind, and these are numbers."""
    if not (hasattr(network, "betas") and hasattr(network, "at")):
        raise InputError(
            f"{network if isinstance(network, str) else type(network).__name__}: not a conditioned network; "
            "hvae_core.load_network gives the one of a run"
        )
    for name, value in values.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise InputError(f"{name} = {value!r}: it takes a finite number")
    model = network.at([low for low, _ in network.betas])
    wanted = getattr(model, "image_shape", tuple(x.shape[1:]))
    if not len(x) or tuple(x.shape[1:]) != tuple(wanted):
        raise InputError(
            f"images of shape {'x'.join(map(str, x.shape))}: the network takes one or more of "
            f"{'x'.join(map(str, wanted))}"
        )


class _Search:
    """Root finding: rates as functions of the log betas that are not given.

    Attributes:
        free: the layers whose rates are asked for.
        tried: log betas of those among them whose range is more than a point, ``(points, moving)``.
        reached: the rates there, ``(points, L)``.
    """

    def __init__(
        self, network: Network, x: Tensor, seed: int, betas: Sequence[float | None], targets: Sequence[float | None]
    ) -> None:
        self.network, self.x, self.seed = network, x, seed
        self.betas = [
            low if beta is None and low == high else beta
            for beta, (low, high) in zip(betas, network.betas, strict=True)
        ]
        self.moving = [i for i, beta in enumerate(self.betas) if beta is None]
        self.free = [i for i, target in enumerate(targets) if target is not None]
        self.targets = np.array([target for target in targets if target is not None], float)
        self.allowed = np.array([tolerance(target) for target in self.targets])
        self.bounds = np.log([network.betas[i] for i in self.moving]).reshape(-1, 2)
        self.tried = np.array(list(itertools.product(*(np.linspace(low, high, COARSE) for low, high in self.bounds))))
        self.reached = np.array([self.at(point).rates for point in self.tried])

    def at(self, point: np.ndarray) -> Dialled:
        """The model at these log betas of the layers that move."""
        ends = [self.network.betas[i] for i in self.moving]
        values = iter([min(max(math.exp(value), low), high) for value, (low, high) in zip(point, ends, strict=True)])
        betas = tuple(next(values) if beta is None else beta for beta in self.betas)
        model = self.network.at(betas)
        distortion, *rates = list(average_terms(model, self.x, self.seed).values())[: 1 + len(betas)]
        missed = np.abs(self.off(np.array(rates))).max(initial=0.0)
        return Dialled(betas, tuple(rates), distortion, model, float(missed))

    def off(self, rates: np.ndarray) -> np.ndarray:
        """The rates of the free layers less their targets, in tolerances."""
        return (rates[self.free] - self.targets) / self.allowed

    def off_at(self, point: np.ndarray) -> np.ndarray:
        """`off`, at log betas of the layers that move."""
        return self.off(np.array(self.at(point).rates))

    def slopes(self, point: np.ndarray) -> np.ndarray:
        """The derivatives of `off_at`, by differences: a step relative to log beta, as SciPy's, is none at beta = 1."""
        here = self.off_at(point)
        steps = np.where(point + STEP > self.bounds[:, 1], -STEP, STEP)
        return np.stack(
            [
                (self.off_at(point + step * unit) - here) / step
                for step, unit in zip(steps, np.eye(len(point)), strict=True)
            ],
            1,
        )

    def solve(self) -> Dialled:
        """The nearest to the targets that is found from a few starts."""
        if not self.moving:
            return self.at(np.empty(0))
        best = None
        for row in np.abs((self.reached[:, self.free] - self.targets) / (self.targets + 1)).sum(1).argsort()[:STARTS]:
            low, high = self.bounds.T  # from one start, a rate that is flat at zero may lead nowhere
            found = least_squares(
                self.off_at,
                np.clip(self.tried[row], low + 1e-6, high - 1e-6),
                bounds=(low, high),
                jac=self.slopes,
                xtol=1e-5,
                max_nfev=30,
            )
            there = self.at(found.x)
            best = there if best is None or there.missed < best.missed else best
            if best.missed <= 1:
                break
        assert best is not None
        return best


@torch.no_grad()
def slide(network: Network, x: Tensor, layer: int, others: float = 1.0, steps: int = 7, seed: int = 0) -> "Slides":
    """Reconstructions and samples of the same images and noise while the beta of one layer moves through its range.

    Arguments:
        x: ``(images, C, H, W)`` uint8.
        layer: the number of the layer; the other layers' betas are ``others``, or the nearest that the network knows.

    Raises:
        InputError: no such layer, no step, or images that are not the network's.
    """

    _check(network, x, others=others)
    numbers = layer_numbers(len(network.betas))
    if layer not in numbers:
        raise InputError(f"layer = {layer}: the network has layers {', '.join(map(str, numbers))}")
    if steps < 1:
        raise InputError(f"steps = {steps}: at least 1")
    low, high = network.betas[numbers[0] - layer]
    asked = np.array([[beta if n == layer else others for n in numbers] for beta in np.geomspace(low, high, steps)])
    betas = np.clip(asked, *np.array(network.betas).T)
    models = [network.at(point.tolist()) for point in betas]
    noise = models[0].noise(len(x), Noise(seed, Purpose.GENERATION, device=x.device))
    terms = [average_terms(model, x, seed) for model in models]
    return Slides(
        layer,
        betas,
        np.array([[found[f"rate_{n}"] for n in numbers] for found in terms]),
        x.cpu().numpy(),
        np.stack([reconstructions(model, x) for model in models]),
        np.stack([to_uint8(model.generate(noise)) for model in models]),
    )


def best(
    run: str | Path, task: str, x: Tensor, total_rate: float | None = None, seed: int = 0
) -> tuple[Dialled, Recommendation]:
    """The model of a conditioned run that is best for a task within a total rate, and what speaks for it.

    Where points of the run promise that rates between them suit better (`Recommendation.interpolated`), those rates are
    dialled: with a conditioned network there is a model there. Elsewhere, and where no betas give those rates, it is
        the
    best point of the run, at `Recommendation.betas`.

    Arguments:
        run: a finished run of a conditioned model.
        task, total_rate: see `hvae_core.recommend`.
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
    return dial(
        network, x, seed=seed, **{f"beta_{n}": beta for n, beta in zip(numbers, advice.betas, strict=True)}
    ), advice


class Slides(NamedTuple):
    """What a conditioned network makes of the same images and the same noise at several betas.

    Attributes:
        layer: the number of the layer whose beta moves.
        betas: ``(steps, L)``, top layer first.
        rates: ``(steps, L)``, on these images, nats per image.
        originals: ``(images, C, H, W)`` uint8.
        reconstructions, samples: ``(steps, images, C, H, W)`` uint8.
    """

    layer: int
    betas: np.ndarray
    rates: np.ndarray
    originals: np.ndarray
    reconstructions: np.ndarray
    samples: np.ndarray
