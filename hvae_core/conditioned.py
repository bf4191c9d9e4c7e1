"""Train one network for a whole range of betas: every image of a batch has betas of its own.

The networks of a run share nothing but the data; each has a seed, and its members are the betas at which it is looked
at. What makes it work, by experiment (`benchmarks/conditioning.py`):

* The learning rate rises from 0 (`RISING`), then follows the schedule.
* Betas are drawn log-uniformly, at first from a small region, which grows over the first part of the training
  (`GROWING`) to all of its region: a layer has to fill before it can be squeezed.
* There are two networks a seed, that begin at either end (`STARTS` in `hvae_core.models.conditioning`): where z_L is of use, and where
  it is not. Each keeps its ways, and for given betas the better one is taken, by the loss on training images. So each draws most of its
  betas from its own side of the line where beta_L equals those below, and a margin beyond (`MARGIN`).
* An image's loss is divided by its own value, so that of sums of very different sizes each counts alike: what is
  minimised is the mean of log L.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.func import vmap

from hvae_core.config import BetaRange, Member
from hvae_core.data import pixels
from hvae_core.evaluation.rates import average_terms
from hvae_core.models import HierarchicalVAE
from hvae_core.models.conditioning import Atlas, Conditioned, atlas, starts
from hvae_core.models.convolutions import for_cpu, layout
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

GROWING = 0.3  # of the training, until betas are drawn from the whole region
RISING = 1 / 16  # of the training, over which the learning rate rises to its value; without, 3 of 6 networks that should use z_L lost it
MARGIN = math.log(10)  # of log beta_L, beyond the line between the networks' sides
EVERYWHERE = 4  # one image in so many has betas from the whole range, on either side
COMPARED_ON = 10_000  # training images, at most
LOST = 1e30  # the loss of a network that diverged
FEW = 9  # values of each beta that are scored by classifiers


class ConditionedPopulation:
    """Conditioned networks, and the members that they are at their betas. What `hvae_core.population.Population` is to models.

    Attributes:
        members: betas and seed of each.
        networks: one atlas a seed.
        which: for each member, its atlas.
        model: the architecture that is conditioned.
        history: ``(members, epochs, 1 + L)``: distortion and rates of each epoch, averaged over the training images and
            the betas as they were drawn, nats per image. With the first members of each seed, one for each network of its atlas; NaN with
            the others, and where a network was not trained.
        diverged_epoch: for each member the epoch (from 1) in which the last of its seed's networks ceased to be finite, or None.
    """

    def __init__(self, make: Maker, members: Sequence[Member], mechanism: str = "table", device: str | torch.device = "cpu",
                 **options: Any) -> None:  # fmt: skip
        self.members = list(members)
        self.seeds = sorted({member.seed for member in self.members})
        self.which = [self.seeds.index(member.seed) for member in self.members]
        fresh = partial(atlas, make, [member.betas for member in self.members], mechanism, **options)
        self.networks = []
        for seed in self.seeds:
            charts = fresh()
            weights = initial_weights(partial(_first, fresh), seed)  # all begin alike
            for network in charts.networks:
                network.load_state_dict(weights, strict=False)
            self.networks.append(charts.to(device))
        self.model = make()
        self.history = torch.zeros(len(self.members), 0, 1 + self.model.layers)
        self.diverged_epoch: list[int | None] = [None] * len(self.members)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Of all seeds, and their maps of losses, by name, ``(seeds, *shape)``."""
        each = [dict(charts.named_parameters()) | {"losses": charts.losses} for charts in self.networks]
        return {name: torch.stack([tensors[name].detach() for tensors in each]) for name in each[0]}

    def member(self, index: int) -> HierarchicalVAE:
        """One member as a model of its own."""
        return self.networks[self.which[index]].at(self.members[index].betas)


def _first(fresh: Callable[[], Atlas]) -> Conditioned:
    return cast(Conditioned, fresh().networks[0])


def draw_betas(start: Tensor, low: Tensor, high: Tensor, uniform: Tensor, grown: float) -> Tensor:
    """Log betas of images, from a region that grows from its start to its side of the range, `MARGIN` beyond, and now and then to all of it.

    Arguments:
        start, low, high: ``(L,)``, log betas. The side is that of the start: beta_L above, or below, the geometric mean of the others.
        uniform: ``(images, L)``, random numbers from 0 to 1.
        grown: 0 at the start, from 1 on the whole region.

    Example:
        >>> start, low, high = torch.tensor([[0.1, 3.0], [0.1, 0.1], [100.0, 100.0]]).log()
        >>> [[round(beta, 2) for beta in draw_betas(start, low, high, torch.tensor([[1.0, 0.0]] * 2), g).exp()[1].tolist()] for g in (0, 0.5, 1)]
        [[0.1, 3.0], [0.32, 0.55], [1.0, 0.1]]
    """
    grown = min(grown, 1.0)
    drawn = low + uniform * (high - low)
    line = drawn[:, 1:].mean(1)
    bottom, top = low[0].expand_as(line), high[0].expand_as(line)
    if start[0] < start[1:].mean():
        top = (line + MARGIN).clamp(low[0], high[0])
    else:
        bottom = (line - MARGIN).clamp(low[0], high[0])
    anywhere = torch.arange(len(drawn), device=drawn.device) % EVERYWHERE == 0
    drawn[:, 0] = torch.where(anywhere, drawn[:, 0], bottom + uniform[:, 0] * (top - bottom))
    return (1 - grown) * start + grown * drawn


def scaled(losses: Tensor, scaling: str) -> Tensor:
    """What is minimised of the images' losses, ``(batch,)``: each divided by nothing, its square root or itself, as constants."""
    known = losses.detach().abs()
    return (losses / {"none": torch.ones_like(known), "sqrt": known.sqrt(), "log": known}[scaling]).mean()


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


class _Threads:
    """``map`` over threads, or in this thread if there is one. Whatever ends the block early sets ``stopped`` and waits for no more than the threads' next look at it."""

    def __init__(self, count: int, stopped: threading.Event) -> None:
        self.pool = ThreadPoolExecutor(count) if count > 1 else None
        self.stopped = stopped

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(function, items) if self.pool is None else self.pool.map(function, items)

    def __enter__(self) -> "_Threads":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None:
            self.stopped.set()
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


class _Trained:
    """One network, where its betas begin, and its optimiser."""

    def __init__(self, network: Conditioned, start: Sequence[float], seed: int, moments: dict[str, Tensor] | None, step: int) -> None:
        self.network, self.seed = network, seed
        self.start = network.low.new_tensor(start).log()
        self.named = dict(network.named_parameters())
        self.optimiser = torch.optim.Adam(self.named.values(), fused=True)
        for name, parameter in self.named.items():
            self.optimiser.state[parameter] = {"step": torch.tensor(float(step), device=parameter.device)} | {
                moment: torch.zeros_like(parameter) if moments is None else moments[f"{moment}.{name}"].clone()
                for moment in ("exp_avg", "exp_avg_sq")
            }

    def step(self, x: Tensor, noise: list[Tensor], log_betas: Tensor, *, objective: Objective, factor: float, scaling: str,
             learning_rate: float, precision: str) -> Tensor:  # fmt: skip
        """One update; returns batch sums of loss, distortion, rates, ``(2 + L,)``."""
        with autocast(x.device, precision):
            terms = self.network(x, noise, log_betas)

        def one(distortion: Tensor, rates: Tensor, betas: Tensor) -> Tensor:
            return objective(Terms(distortion[None], rates[None]), betas)

        losses = vmap(one)(terms.distortion, terms.rates, factor * log_betas.exp())
        self.optimiser.zero_grad()
        scaled(losses, scaling).backward()
        self.optimiser.param_groups[0]["lr"] = learning_rate
        self.optimiser.step()
        return torch.cat([torch.stack([losses.sum(), terms.distortion.sum()]), terms.rates.sum(0)]).detach()

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
    mechanism: str = "table",
    precision: str = "float32",
    checkpoints: Checkpoints | None = None,
    threads: int = 1,
    label: str = "training",
    **options: Any,
) -> ConditionedPopulation:
    """Train conditioned networks for each seed among the members, over the range of their betas.

    Arguments:
        make: makes a fresh unconditioned model.
        members: betas and seed of each; the range of the betas is what is trained on, the points are only looked at.
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        warm_up_fraction, schedule, objective, precision, checkpoints: as for `hvae_core.population.train`. The objective is
            applied to each image by itself, with its own betas; the learning rate rises first.
        scaling: of the losses; see `scaled`.
        threads: how many networks are trained at once; no result depends on it.
        mechanism, options: see `hvae_core.models.conditioning`.

    Returns:
        The trained networks. One whose terms cease to be finite is frozen; the others are what they would be without it.
    """
    if x.device.type == "cpu":
        keep_memory()
    here = make if x.device.type != "cpu" else (lambda: for_cpu(make()))
    result = ConditionedPopulation(here, members, mechanism, x.device, **options)
    first, layers = result.networks[0], result.model.layers
    begun, lay = starts(first.betas), layout(result.model)
    count = len(result.seeds) * len(begun)
    history = torch.full((count, epochs, 1 + layers), math.nan)
    diverged = torch.zeros(count, dtype=torch.int64)  # the epoch, 0 for none
    done, tensors = 0, None
    if checkpoints is not None and (state := checkpoints.load(x.device)) is not None:
        done, tensors = state
        history[:, :done], diverged = tensors["history"].cpu(), tensors["diverged"].cpu()
    batches = math.ceil(len(x) / batch_size)
    trained: list[_Trained] = []
    for charts, seed in zip(result.networks, result.seeds, strict=True):
        for network, start in zip(charts.networks, begun, strict=True):
            own = None if tensors is None else {name: value[len(trained)] for name, value in tensors.items() if "." in name}
            if own is not None:
                network.load_state_dict({name.removeprefix("parameters."): value for name, value in own.items() if name.startswith("parameters.")}, strict=False)
            trained.append(_Trained(cast(Conditioned, network), start, seed, own, done * batches))

    def collect() -> dict[str, Tensor]:
        states = [one.state() for one in trained]
        stacked = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return {"history": history[:, :done], "diverged": diverged, **stacked}

    shares = [0.0] * count  # of this epoch that each network has done
    stopped = threading.Event()  # by an error or an interruption: then the other threads stop too

    def epoch(i: int) -> Tensor:
        """One epoch of network ``i``; returns mean loss, distortion and rates, ``(2 + L,)``."""
        one, network = trained[i], trained[i].network
        order = torch.randperm(len(x), generator=generator(one.seed, Purpose.ORDER, done))
        noises = generator(one.seed, Purpose.NOISE, done, x.device)
        uniform = torch.rand(len(x), layers, generator=generator(one.seed, Purpose.BETAS, done)).to(x.device)
        sums = torch.zeros(2 + layers, dtype=torch.float64, device=x.device)
        for batch in range(batches):
            if stopped.is_set():
                break
            now = done * batches + batch, epochs * batches
            risen = min(1.0, (now[0] + 1) / (RISING * now[1]))
            part = slice(batch * batch_size, (batch + 1) * batch_size)
            images = lay(pixels(x[order[part].to(x.device)]))
            log_betas = draw_betas(one.start, network.low, network.high, uniform[part], now[0] / (GROWING * now[1]))
            sums += one.step(
                images, network.model.noise(len(images), noises), log_betas, objective=objective, scaling=scaling, precision=precision,
                factor=warm_up(*now, warm_up_fraction), learning_rate=learning_rate * scheduled(schedule, *now) * risen,
            )  # fmt: skip
            shares[i] = (batch + 1) / batches
            progress.update(done + sum(shares) / count, partial(_note, sums, min((batch + 1) * batch_size, len(x))))
        return (sums / len(x)).float().cpu()

    saved = time.monotonic()
    with track(label, epochs, f"epochs of {count} conditioned network{'s' if count > 1 else ''}", done) as progress, _Threads(threads, stopped) as pool:
        while done < epochs:
            shares[:] = [float(lost > 0) for lost in diverged.tolist()]
            well = [i for i in range(count) if not diverged[i]]
            for i, means in zip(well, pool.map(epoch, well), strict=True):
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
    for i, (charts, seed) in enumerate(zip(result.networks, result.seeds, strict=True)):
        own_epochs = diverged[i * len(begun) : (i + 1) * len(begun)]
        _compare(charts, x[:COMPARED_ON], objective, seed, [not epoch for epoch in own_epochs], label, threads)
        rows = [j for j, which in enumerate(result.which) if which == i]
        shown = min(len(rows), len(begun))
        result.history[rows[:shown]] = history[i * len(begun) : i * len(begun) + shown]
        for j in rows if all(own_epochs) else []:
            result.diverged_epoch[j] = int(own_epochs.max())
    return result


def _compare(charts: Atlas, x: Tensor, objective: Objective, seed: int, well: list[bool], label: str, threads: int = 1) -> None:
    """Fill the map of an atlas: which network has the lower loss on the training images."""
    if len(well) == 1:
        return
    points = charts.points()

    def losses(betas: tuple[float, ...]) -> list[Tensor]:
        return [_loss(cast(Conditioned, network).at(betas), betas) if fine else torch.tensor(LOST)
                for network, fine in zip(charts.networks, well, strict=True)]  # fmt: skip

    def _loss(model: HierarchicalVAE, betas: tuple[float, ...]) -> Tensor:
        distortion, *rates = list(average_terms(model, x, seed).values())[: 1 + len(betas)]
        return objective(Terms(torch.tensor([distortion]), torch.tensor([rates])), torch.tensor(betas)).clamp_min(1e-6)

    with track(f"{label}: which network is better where", len(points), "points") as progress, _Threads(threads, threading.Event()) as pool:
        for k, values in enumerate(pool.map(losses, points)):
            charts.losses[:, k] = torch.stack(values).nan_to_num(nan=LOST, posinf=LOST).log()
            progress.update(k + 1)


def _note(sums: Tensor, images: int) -> str:
    loss, distortion, *rates = (sums / images).tolist()
    return f"mean loss {loss:.1f} (D {distortion:.1f}, R {sum(rates):.1f})"
