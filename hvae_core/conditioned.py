"""Train one network for a whole range of betas: a batch is in groups, each with betas of its own.

The networks of a run share nothing but the data; each has a seed, and its members are the betas at which it is looked
at. What makes it work, by experiment (`benchmarks/conditioning.py`):

* The learning rate rises from 0 (`RISING`), then follows the schedule.
* Betas are drawn log-uniformly, at first from two points (`START`), from where the draws grow apart over the first part of the training (`GROWING`) to the
  whole range. At one of them z_L is of use, since a layer has to fill before it can be squeezed; at the other one a layer is shut, so that the tables tell the
  two apart from the first step.
* The betas of a batch are spread evenly over the range (`spread`), so that no part of it is forgotten for a while.
* Some lie at the ends of the range (`ENDS`): there a table learns from one side only.
* A group's loss is divided by its own value, so that of sums of very different sizes each counts alike: what is
  minimised is the mean of log L.
"""

import math
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hvae_core.config import BetaRange, Member
from hvae_core.data import pixels
from hvae_core.errors import InputError
from hvae_core.models import HierarchicalVAE
from hvae_core.models.conditioning import Conditioned, covering
from hvae_core.models.convolutions import for_cpu
from hvae_core.objective import Objective, lagrangian, warm_up
from hvae_core.population import (
    CHECKPOINT_EVERY_S,
    Maker,
    Purpose,
    autocast,
    generator,
    initial_weights,
    keep_memory,
    scheduled,
)
from hvae_core.progress import track
from hvae_core.store import Checkpoints
from hvae_core.terms import Terms

# Where training begins, or the nearest in the range: beta_L of those draws that end in the lower and in the upper half of its range, and beta of each layer below
# likewise; by the model's class, others as a GHVAE.
START = {"GHVAE": ((0.1, 100.0), (3.0, 3.0)), "LVAE": ((0.1, 0.1), (0.1, 100.0))}
GROWING = 0.5  # of the training, until betas are drawn from the whole range
RISING = 1 / 16  # of the training, over which the learning rate rises to its value; without, 3 of 6 networks of version 0.6 lost z_L
ENDS = 0.05  # of the draws of each beta lie at its lowest value, and as many at its highest
GROUPS = 16  # of a batch, at most: as many settings of the betas in each update
FEWEST = 4  # groups that a batch has to be in; with one, networks on digits did not get near single models
FEW = 9  # values of each beta that are scored by classifiers


class ConditionedPopulation:
    """Conditioned networks, and the members that they are at their betas. What `hvae_core.population.Population` is to models.

    Attributes:
        members: betas and seed of each.
        networks: one a seed.
        which: for each member, its network.
        model: the architecture that is conditioned.
        history: ``(members, epochs, 1 + L)``: distortion and rates of each epoch, averaged over the training images and
            the betas as they were drawn, nats per image. With the first member of each seed; NaN with the others.
        diverged_epoch: for each member the epoch (from 1) in which its network ceased to be finite, or None.
    """

    def __init__(self, make: Maker, members: Sequence[Member], device: str | torch.device = "cpu",
                 **options: Any) -> None:  # fmt: skip
        self.members = list(members)
        self.seeds = sorted({member.seed for member in self.members})
        self.which = [self.seeds.index(member.seed) for member in self.members]
        betas = covering(member.betas for member in self.members)

        def fresh() -> Conditioned:
            return Conditioned(make(), betas, **options)

        self.networks = []
        for seed in self.seeds:
            network = fresh()
            network.load_state_dict(initial_weights(fresh, seed), strict=False)
            self.networks.append(network.to(device))
        self.model = make()
        self.history = torch.zeros(len(self.members), 0, 1 + self.model.layers)
        self.diverged_epoch: list[int | None] = [None] * len(self.members)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Of all seeds, by name, ``(seeds, *shape)``."""
        each = [dict(network.named_parameters()) for network in self.networks]
        return {name: torch.stack([tensors[name].detach() for tensors in each]) for name in each[0]}

    def member(self, index: int) -> HierarchicalVAE:
        """One member as a model of its own."""
        model = self.networks[self.which[index]].at(self.members[index].betas)
        return for_cpu(model) if next(model.parameters()).device.type == "cpu" else model


def spread(count: int, layers: int, random: torch.Generator) -> Tensor:
    """Points that are uniform in the unit cube one by one, and evenly spread over it as any few that follow one another (a scrambled Sobol sequence).

    Returns:
        ``(count, layers)``.

    Example: of 16 points each quarter of the square has four, whatever the seed.
        >>> quarters = (2 * spread(16, 2, torch.Generator().manual_seed(7))).long() @ torch.tensor([1, 2])
        >>> quarters.bincount()
        tensor([4, 4, 4, 4])
    """
    return torch.quasirandom.SobolEngine(layers, scramble=True, seed=random.initial_seed()).draw(count)


def draw_betas(start: Tensor, low: Tensor, high: Tensor, uniform: Tensor, grown: float) -> Tensor:
    """Log betas, from where they start to all over the range; a share of `ENDS` at each of its ends.

    Arguments:
        start: ``(2, L)``, log betas from which those of the lower and of the upper half of the range move to their place.
        low, high: ``(L,)``, log betas.
        uniform: ``(groups, L)``, random numbers from 0 to 1.
        grown: 0 at the start, from 1 on the whole range.

    Example:
        >>> start, low, high = torch.tensor([[0.1, 3.0], [100.0, 3.0]]).log(), torch.tensor([0.1, 0.1]).log(), torch.tensor([100.0, 100.0]).log()
        >>> [[round(beta, 2) for beta in draw_betas(start, low, high, torch.tensor([[0.6, 0.02]]), g).exp()[0].tolist()] for g in (0, 0.5, 1)]
        [[100.0, 3.0], [26.1, 0.55], [6.81, 0.1]]
    """
    position = ((uniform - ENDS) / (1 - 2 * ENDS)).clamp(0, 1)
    grown = min(grown, 1.0)
    return (1 - grown) * torch.where(position < 0.5, start[0], start[1]) + grown * (low + position * (high - low))


def scaled(losses: Tensor, scaling: str) -> Tensor:
    """What is minimised of the groups' losses, ``(groups,)``: each divided by nothing, its square root or itself, as constants."""
    known = losses.detach().abs()
    return (losses / {"none": torch.ones_like(known), "sqrt": known.sqrt(), "log": known}[scaling]).mean()


def groups(images: int, most: int | None = None) -> int:
    """How many groups of equal size a batch is in, at most ``most`` (None: `GROUPS`).

    Example:
        >>> [groups(images) for images in (128, 50, 97, 3)]
        [16, 10, 1, 3]
    """
    return max(count for count in range(1, (most or GROUPS) + 1) if images % count == 0)


def few(betas: Iterable[float], most: int = FEW) -> set[float]:
    """Of the betas of one layer those nearest to ``most`` even steps of the logarithm, ends and 1 among them; all if there are no more.

    Example:
        >>> [round(beta, 2) for beta in sorted(few(BetaRange(points=21).values()))]
        [0.1, 0.2, 0.56, 1.0, 3.16, 6.31, 17.78, 50.12, 100.0]
    """
    there = sorted(set(betas))
    if len(there) <= most:
        return set(there)
    steps = BetaRange(low=there[0], high=there[-1], points=most).values()
    return {min(there, key=lambda beta: abs(math.log(beta / step))) for step in steps}


def check_batch_size(batch_size: int, images: int) -> None:
    """Whether batches of ``images`` training images can be in enough groups. The last one of an epoch may be smaller, and in fewer.

    Raises:
        InputError: if not; it names the nearest sizes that can.

    Example:
        >>> check_batch_size(97, 1000)
        Traceback (most recent call last):
        hvae_core.errors.InputError: batch_size = 97: a batch of a conditioned network is in 4 to 16 groups of equal size; 96 or 98 can be
    """
    size = min(batch_size, images)
    if groups(size) < FEWEST:
        good = [other for other in range(FEWEST, size + 2 * FEWEST) if groups(other) >= FEWEST]
        first, second = sorted(sorted(good, key=lambda other: abs(other - size))[:2])
        name = "batch_size" if batch_size <= images else "one batch of all training images"
        raise InputError(f"{name} = {size}: a batch of a conditioned network is in {FEWEST} to {GROUPS} groups of equal size; {first} or {second} can be")


class _Trained:
    """One network, where its betas begin, and its optimiser."""

    def __init__(self, network: Conditioned, seed: int, moments: dict[str, Tensor] | None, step: int) -> None:
        self.network, self.seed = network, seed
        at_top, below = START.get(type(network.model).__name__, START["GHVAE"])
        start = [at_top] + [below] * (len(network.betas) - 1)
        self.start = network.low.new_tensor(start).T.log().clamp(network.low, network.high)
        self.named = dict(network.named_parameters())
        self.optimiser = torch.optim.Adam(self.named.values(), fused=True)
        for name, parameter in self.named.items():
            self.optimiser.state[parameter] = {"step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device)} | {
                moment: torch.zeros_like(parameter) if moments is None else moments[f"{moment}.{name}"].clone()
                for moment in ("exp_avg", "exp_avg_sq")
            }

    def step(self, x: Tensor, noise: list[Tensor], log_betas: Tensor, *, objective: Objective, factor: float, scaling: str,
             learning_rate: float, precision: str) -> Tensor:  # fmt: skip
        """One update; returns batch sums of loss, distortion, rates, ``(2 + L,)``."""
        with autocast(x.device, precision):
            terms = self.network(x, noise, log_betas)

        def one(distortion: Tensor, rates: Tensor, betas: Tensor) -> Tensor:
            return objective(Terms(distortion, rates), betas)

        count = len(log_betas)
        losses = vmap(one)(terms.distortion.view(count, -1), terms.rates.view(count, -1, terms.rates.shape[1]), factor * log_betas.exp())
        self.optimiser.zero_grad()
        scaled(losses, scaling).backward()
        self.optimiser.param_groups[0]["lr"] = learning_rate
        self.optimiser.step()
        return torch.cat([torch.stack([len(x) * losses.mean(), terms.distortion.sum()]), terms.rates.sum(0)]).detach()

    def state(self) -> dict[str, Tensor]:
        """Parameters and Adam's moments, named as in a checkpoint."""
        tensors = {f"parameters.{name}": parameter.detach() for name, parameter in self.named.items()}
        return tensors | {
            f"{moment}.{name}": self.optimiser.state[parameter][moment]
            for name, parameter in self.named.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }


def train_conditioned(
    make: Maker,
    members: Sequence[Member],
    x: Tensor,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 3e-4,
    warm_up_fraction: float = 0.0,
    schedule: str = "constant",
    objective: Objective = lagrangian,
    scaling: str = "log",
    precision: str = "float32",
    checkpoints: Checkpoints | None = None,
    label: str = "training",
    **options: Any,
) -> ConditionedPopulation:
    """Train conditioned networks for each seed among the members, over the range of their betas.

    Arguments:
        make: makes a fresh unconditioned model.
        members: betas and seed of each; the range of the betas is what is trained on, the points are only looked at.
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        warm_up_fraction, schedule, objective, precision, checkpoints: as for `hvae_core.population.train`. The objective is
            applied to each group of a batch, with its betas; the learning rate rises first.
        scaling: of the losses; see `scaled`.
        options: ``coarse`` and ``fine``, see `hvae_core.models.conditioning.Conditioned`.

    Raises:
        InputError: for a batch size that cannot be in groups.

    Returns:
        The trained networks. One whose terms cease to be finite is frozen; the others are what they would be without it.
    """
    check_batch_size(batch_size, len(x))
    if x.device.type == "cpu":
        keep_memory()
    result = ConditionedPopulation(make, members, x.device, **options)
    layers, count = result.model.layers, len(result.seeds)
    history = torch.full((count, epochs, 1 + layers), math.nan)
    diverged = torch.zeros(count, dtype=torch.int64)  # the epoch, 0 for none
    done, tensors = 0, None
    if checkpoints is not None and (state := checkpoints.load(x.device)) is not None:
        done, tensors = state
        history[:, :done], diverged = tensors["history"].cpu(), tensors["diverged"].cpu()
    batches, in_groups = math.ceil(len(x) / batch_size), groups(min(batch_size, len(x)))
    trained: list[_Trained] = []
    for i, (network, seed) in enumerate(zip(result.networks, result.seeds, strict=True)):
        own = None if tensors is None else {name: value[i] for name, value in tensors.items() if "." in name}
        if own is not None:
            network.load_state_dict({name.removeprefix("parameters."): value for name, value in own.items() if name.startswith("parameters.")}, strict=False)
        trained.append(_Trained(network, seed, own, done * batches))

    def collect() -> dict[str, Tensor]:
        states = [one.state() for one in trained]
        stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return {"history": history[:, :done], "diverged": diverged, **stacked}

    shares = [0.0] * count  # of this epoch that each network has done

    def epoch(i: int) -> Tensor:
        """One epoch of network ``i``; returns mean loss, distortion and rates, ``(2 + L,)``."""
        one, network = trained[i], trained[i].network
        order = torch.randperm(len(x), generator=generator(one.seed, Purpose.ORDER, done))
        noises = generator(one.seed, Purpose.NOISE, done, x.device)
        uniform = spread(batches * in_groups, layers, generator(one.seed, Purpose.BETAS, done)).to(x.device)
        sums = torch.zeros(2 + layers, dtype=torch.float64, device=x.device)
        for batch in range(batches):
            now = done * batches + batch, epochs * batches
            risen = min(1.0, (now[0] + 1) / (RISING * now[1]))
            images = pixels(x[order[batch * batch_size : (batch + 1) * batch_size].to(x.device)])
            drawn = uniform[batch * in_groups :][: groups(len(images), in_groups)]
            log_betas = draw_betas(one.start, network.low, network.high, drawn, now[0] / (GROWING * now[1]))
            sums += one.step(
                images, network.model.noise(len(images), noises), log_betas, objective=objective, scaling=scaling, precision=precision,
                factor=warm_up(*now, warm_up_fraction), learning_rate=learning_rate * scheduled(schedule, *now) * risen,
            )  # fmt: skip
            shares[i] = (batch + 1) / batches
            progress.update(done + sum(shares) / count, partial(_note, sums, min((batch + 1) * batch_size, len(x))))
        return (sums / len(x)).float().cpu()

    saved = time.monotonic()
    with track(label, epochs, f"epochs of {count} conditioned network{'s' if count > 1 else ''}", done) as progress:
        while done < epochs:
            shares[:] = [float(lost > 0) for lost in diverged.tolist()]
            for i in [i for i in range(count) if not diverged[i]]:
                means = epoch(i)
                history[i, done] = means[1:]
                if not means.isfinite().all():
                    diverged[i] = done + 1
            done += 1
            if checkpoints is not None and (done == epochs or time.monotonic() - saved > CHECKPOINT_EVERY_S):
                checkpoints.save(done, collect())
                saved = time.monotonic()
    for i, one in enumerate(trained):
        if not diverged[i] and not all(parameter.isfinite().all() for parameter in one.named.values()):
            diverged[i] = epochs
        one.network.requires_grad_(False).eval()
    result.history = torch.full((len(result.members), *history.shape[1:]), math.nan)
    for i in range(count):
        rows = [j for j, which in enumerate(result.which) if which == i]
        result.history[rows[0]] = history[i]
        for j in rows if diverged[i] else []:
            result.diverged_epoch[j] = int(diverged[i])
    return result


def _note(sums: Tensor, images: int) -> str:
    loss, distortion, *rates = (sums / images).tolist()
    return f"mean loss {loss:.1f} (D {distortion:.1f}, R {sum(rates):.1f})"
