"""Train one network for a whole range of betas: a batch is in groups, each with betas of its own.

The networks of a run share nothing but the data; each has a seed, and its members are the betas at which it is looked
at. What makes it work, by experiment (`benchmarks/conditioning.py`):

* The learning rate rises from 0 (`RISING`), then follows the schedule.
* Betas are drawn log-uniformly. At first from two points (`START`); over the first part of the training (`GROWING`) the
  draws grow apart to the whole range. At one of the points z_L is of use, since a layer has to fill before it can be
  squeezed; at the other one a layer is shut, so that the tables tell the two apart from the first step.
* The betas of a batch are spread evenly over the range (`spread`), so that no part of it is forgotten for a while.
* Some lie at the ends of the range (`ENDS`): there a table learns from one side only.
* A group's loss is divided by its own value, so that of sums of very different sizes each counts alike: what is
  minimised is the mean of log L.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import vmap

from hvae_core.errors import InputError
from hvae_core.models.conditioning import Conditioned, covering
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import Objective, lagrangian
from hvae_core.randomness import Purpose, generator, initial_weights
from hvae_core.terms import Terms
from hvae_core.training.checkpoints import Checkpoints, adam_state
from hvae_core.training.convolutions import for_cpu
from hvae_core.training.plan import Member, Plan
from hvae_core.training.precision import autocast
from hvae_core.training.trainer import Maker, Trained, Update, adam, fit, plural

# Where training begins, or the nearest in the range: beta_L of those draws that end in the lower and in the upper half
# of its range, and beta of each layer below likewise; by the model's class, others as a GHVAE.
START = {"GHVAE": ((0.1, 100.0), (3.0, 3.0)), "LVAE": ((0.1, 0.1), (0.1, 100.0))}
GROWING = 0.5  # of the training, until betas are drawn from the whole range
RISING = (
    1 / 16
)  # of the training, over which the learning rate rises to its value; without, half of the networks lost z_L
ENDS = 0.05  # of the draws of each beta lie at its lowest value, and as many at its highest
GROUPS = 16  # of a batch, at most: as many settings of the betas in each update
FEWEST = 4  # groups that a batch has to be in; with one, networks on digits did not get near single models


def train_conditioned(
    make: Maker,
    members: Sequence[Member],
    x: Tensor,
    plan: Plan,
    *,
    objective: Objective = lagrangian,
    scaling: str = "log",
    checkpoints: Checkpoints | None = None,
    label: str = "training",
    **options: Any,
) -> "ConditionedPopulation":
    """Train conditioned networks for each seed among the members, over the range of their betas.

    Arguments:
        make: makes a fresh unconditioned model.
        members: betas and seed of each; the range of the betas is what is trained on, the points are only looked at.
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        plan, objective, checkpoints: as for `hvae_core.train`. The objective is applied to each group of a batch, with
            its betas; the learning rate rises first.
        scaling: of the losses; see `scaled`.
        options: ``coarse`` and ``fine``, see `hvae_core.models.conditioning.Conditioned`.

    Raises:
        InputError: for a batch size that cannot be in groups.

    Returns:
        The trained networks. One whose terms cease to be finite is frozen; the others are what they would be without
        it.
    """
    check_batch_size(plan.batch_size, len(x))
    result = ConditionedPopulation(make, members, x.device, **options)
    in_groups = groups(min(plan.batch_size, len(x)))
    learner = _Networks(result, objective, scaling, plan.precision, in_groups)
    record = fit(learner, x, plan, checkpoints, label, f"epochs of {plural(learner.rows, 'conditioned network')}")
    for network in result.networks:
        network.requires_grad_(False).eval()
    result.history = torch.full((len(result.members), *record.history.shape[1:]), math.nan)
    for row in range(learner.rows):
        result.history[result.which.index(row)] = record.history[row]
    result.diverged_epoch = [int(record.diverged[row]) or None for row in result.which]
    return result


class ConditionedPopulation(Trained):
    """Conditioned networks, one set of parameters a seed, and the members that they are at their betas.

    The history of a network is averaged over the betas as they were drawn. It is with the first member of its seed.

    Attributes:
        networks: one a seed.
    """

    def __init__(
        self, make: Maker, members: Sequence[Member], device: str | torch.device = "cpu", **options: Any
    ) -> None:
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
        self.multipliers = torch.zeros(len(self.members), 0, 0)
        self.diverged_epoch = [None] * len(self.members)

    @property
    def parameters(self) -> dict[str, Tensor]:
        each = [dict(network.named_parameters()) for network in self.networks]
        return {name: torch.stack([tensors[name].detach() for tensors in each]) for name in each[0]}

    def member(self, index: int) -> HierarchicalVAE:
        model = self.networks[self.which[index]].at(self.members[index].betas)
        return for_cpu(model) if next(model.parameters()).device.type == "cpu" else model


def spread(count: int, layers: int, random: torch.Generator) -> Tensor:
    """Points that are uniform in the unit cube one by one, and evenly spread over it together.

    A scrambled Sobol sequence.

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
        start: ``(2, L)``, log betas from which those of the lower and the upper half of the range move to their place.
        low, high: ``(L,)``, log betas.
        uniform: ``(groups, L)``, random numbers from 0 to 1.
        grown: 0 at the start, from 1 on the whole range.

    Example:
        >>> start, low = torch.tensor([[0.1, 3.0], [100.0, 3.0]]).log(), torch.tensor([0.1, 0.1]).log()
        >>> high, uniform = torch.tensor([100.0, 100.0]).log(), torch.tensor([[0.6, 0.02]])
        >>> for grown in (0, 0.5, 1):
        ...     print([round(beta, 2) for beta in draw_betas(start, low, high, uniform, grown).exp()[0].tolist()])
        [100.0, 3.0]
        [26.1, 0.55]
        [6.81, 0.1]
    """
    position = ((uniform - ENDS) / (1 - 2 * ENDS)).clamp(0, 1)
    grown = min(grown, 1.0)
    return (1 - grown) * torch.where(position < 0.5, start[0], start[1]) + grown * (low + position * (high - low))


def scaled(losses: Tensor, scaling: str) -> Tensor:
    """What is minimised of the groups' losses, ``(groups,)``.

    Each is divided by nothing, its square root or itself, as constants.
    """
    known = losses.detach().abs()
    return (losses / {"none": torch.ones_like(known), "sqrt": known.sqrt(), "log": known}[scaling]).mean()


def groups(images: int, most: int | None = None) -> int:
    """How many groups of equal size a batch is in, at most ``most`` (None: `GROUPS`).

    Example:
        >>> [groups(images) for images in (128, 50, 97, 3)]
        [16, 10, 1, 3]
    """
    return max(count for count in range(1, (most or GROUPS) + 1) if images % count == 0)


def check_batch_size(batch_size: int, images: int) -> None:
    """Whether batches of ``images`` training images can be in enough groups.

    The last one of an epoch may be smaller, and in fewer.

    Raises:
        InputError: if not; it names the nearest sizes that can.

    Example:
        >>> check_batch_size(96, 1000)
        >>> check_batch_size(97, 1000)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        hvae_core.errors.InputError: batch_size = 97: a batch of a conditioned network is in 4 to 16 groups ...
    """
    size = min(batch_size, images)
    if groups(size) < FEWEST:
        good = [other for other in range(FEWEST, size + 2 * FEWEST) if groups(other) >= FEWEST]
        first, second = sorted(sorted(good, key=lambda other: abs(other - size))[:2])
        name = "batch_size" if batch_size <= images else "one batch of all training images"
        raise InputError(
            f"{name} = {size}: a batch of a conditioned network is in {FEWEST} to {GROUPS} groups of equal size; "
            f"{first} or {second} can be"
        )


class _Network:
    """One network, where its betas begin, and its optimiser."""

    def __init__(self, network: Conditioned, seed: int, state: Mapping[str, Tensor] | None, step: int) -> None:
        self.network, self.seed = network, seed
        at_top, below = START.get(type(network.model).__name__, START["GHVAE"])
        start = [at_top] + [below] * (len(network.betas) - 1)
        self.start = network.low.new_tensor(start).T.log().clamp(network.low, network.high)
        self.named = dict(network.named_parameters())
        if state is not None:
            weights = {name: state[f"parameters.{name}"] for name in self.named}
            network.load_state_dict(weights, strict=False)
        self.optimiser = adam(self.named, state, step)

    def step(
        self,
        x: Tensor,
        noise: list[Tensor],
        log_betas: Tensor,
        *,
        objective: Objective,
        factor: float,
        scaling: str,
        learning_rate: float,
        precision: str,
    ) -> Tensor:
        """One update; returns batch sums of loss, distortion, rates, ``(2 + L,)``."""
        with autocast(x.device, precision):
            terms = self.network(x, noise, log_betas)

        def one(distortion: Tensor, rates: Tensor, betas: Tensor) -> Tensor:
            return objective(Terms(distortion, rates), betas)

        count = len(log_betas)
        distortions, rates = terms.distortion.view(count, -1), terms.rates.view(count, -1, terms.rates.shape[1])
        losses = vmap(one)(distortions, rates, factor * log_betas.exp())
        self.optimiser.zero_grad()
        scaled(losses, scaling).backward()
        self.optimiser.param_groups[0]["lr"] = learning_rate
        self.optimiser.step()
        return torch.cat([torch.stack([len(x) * losses.mean(), terms.distortion.sum()]), terms.rates.sum(0)]).detach()

    def state(self) -> dict[str, Tensor]:
        """Parameters and Adam's moments, by name."""
        tensors = {f"parameters.{name}": parameter.detach() for name, parameter in self.named.items()}
        return tensors | adam_state(self.optimiser, self.named)


class _Networks:
    """The learner that `fit` trains: a network a seed, each at betas that are drawn anew for every group of a batch."""

    def __init__(
        self, population: ConditionedPopulation, objective: Objective, scaling: str, precision: str, in_groups: int
    ) -> None:
        self.population, self.objective, self.scaling, self.precision = population, objective, scaling, precision
        self.in_groups = in_groups
        self.seeds, self.model = population.seeds, population.model
        self.rows, self.layers = len(population.seeds), population.model.layers
        self.networks = [
            _Network(network, seed, None, 0) for network, seed in zip(population.networks, self.seeds, strict=True)
        ]

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        self.networks = [
            _Network(one.network, one.seed, {name: value[row] for name, value in tensors.items() if "." in name}, step)
            for row, one in enumerate(self.networks)
        ]

    def begin(self, epoch: int, batches: int) -> None:
        self.batches = batches
        self.uniform = [
            spread(batches * self.in_groups, self.layers, generator(seed, Purpose.BETAS, epoch)) for seed in self.seeds
        ]

    def step(self, seed: int, x: Tensor, noise: list[Tensor], update: Update, lost: Tensor, sums: Tensor) -> None:
        row = self.seeds.index(seed)
        if lost[row]:
            return
        one, batch = self.networks[row], update.step % self.batches
        drawn = self.uniform[row][batch * self.in_groups :][: groups(len(x), self.in_groups)].to(x.device)
        grown = update.step / (GROWING * update.steps)
        risen = min(1.0, (update.step + 1) / (RISING * update.steps))
        sums[row] += one.step(
            x,
            noise,
            draw_betas(one.start, one.network.low, one.network.high, drawn, grown),
            objective=self.objective,
            factor=update.factor,
            scaling=self.scaling,
            learning_rate=update.learning_rate * risen,
            precision=self.precision,
        )

    def end(self, lost: Tensor) -> None:
        """A lost network is passed over in `step`."""

    def multipliers(self) -> Tensor:
        return torch.zeros(self.rows, 0)  # given by the draws

    def state(self) -> dict[str, Tensor]:
        states = [one.state() for one in self.networks]
        return {name: torch.stack([state[name] for state in states]) for name in states[0]}

    def finite(self) -> Tensor:
        return torch.tensor(
            [all(bool(parameter.isfinite().all()) for parameter in one.named.values()) for one in self.networks]
        )
