"""Train many copies of one model, each with its own parameters, betas and seed, as one population.

Members with equal seeds share initial weights, batch order and noise (common random numbers), so neighbours in a
grid of betas differ by their betas alone. A member's result depends on (data, model, betas, seed) and not on who its
neighbours are, but for rounding where members are computed together: every random number is drawn from a generator that
is seeded by (seed, purpose, epoch), outside the models.

Members are computed in chunks. A chunk of one calls the model as it is, the fastest way on a CPU; a larger chunk is
`torch.func.vmap` over stacked parameters, which fills a GPU, compiled where the training is long enough. Both compute
convolutions in a way of their own (`hvae_core.models.convolutions`). Model code never knows.
"""

import contextlib
import ctypes
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from hvae_core import target_rates
from hvae_core.config import Member
from hvae_core.data import pixels
from hvae_core.errors import InputError
from hvae_core.models import HierarchicalVAE
from hvae_core.models.convolutions import for_cpu, for_vmap, layout
from hvae_core.objective import Objective, lagrangian, warm_up
from hvae_core.progress import track
from hvae_core.store import Checkpoints
from hvae_core.target_rates import FILLING, PI, Controller
from hvae_core.terms import Terms

Maker = Callable[[], HierarchicalVAE]
Loss = Callable[[dict[str, Tensor], Tensor, Tensor, list[Tensor]], tuple[Tensor, Tensor]]
CHECKPOINT_EVERY_S = 60.0
COMPILED_ON = ("cuda",)  # kinds of devices
COMPILED_FROM = 2000  # updates; to compile takes half a minute to a minute, which fewer do not win back


class Purpose(IntEnum):
    """What random numbers are for. Each purpose has a stream of its own."""

    WEIGHTS, ORDER, NOISE, EVALUATION, GENERATION, REPRESENTATION, BETAS = range(7)


def generator(seed: int, purpose: Purpose, index: int = 0, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator that is a function of its arguments alone: no state has to be kept to resume."""
    state = np.random.SeedSequence([seed, purpose, index]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def initial_weights(make: Callable[[], torch.nn.Module], seed: int) -> dict[str, Tensor]:
    """The parameters of a fresh model with this seed, on the CPU."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(generator(seed, Purpose.WEIGHTS).get_state())
        return {name: value.detach() for name, value in make().named_parameters()}


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


class Population:
    """Members and their stacked parameters.

    Attributes:
        model: the architecture; its own parameters are not used.
        members: betas and seed of each.
        parameters: by name, ``(members, *shape)``.
        history: ``(members, epochs, 1 + L)``: distortion and rates of each epoch, averaged over the training
            images as they were seen, nats per image. NaN where a member was not trained.
        diverged_epoch: for each member the epoch (from 1) in which its terms ceased to be finite, or None.
        betas: ``(members, L)``, top layer first; where a layer has a target rate, the multiplier that was found.
        multipliers: ``(members, epochs, L)``, the betas after each epoch.
    """

    def __init__(self, make: Maker, members: Sequence[Member], device: str | torch.device = "cpu") -> None:
        self.members = list(members)
        self.device = torch.device(device)
        self.make = make
        self.model = make().to(self.device)
        seeds = {member.seed: initial_weights(make, member.seed) for member in self.members}
        self.parameters = {
            name: torch.stack([seeds[member.seed][name] for member in self.members]).to(self.device)
            for name, _ in self.model.named_parameters()
        }
        self.history = torch.zeros(len(self.members), 0, 1 + self.model.layers)
        self.diverged_epoch: list[int | None] = [None] * len(self.members)
        self.betas = _betas(self.members)
        self.multipliers = torch.zeros(len(self.members), 0, self.model.layers)

    def member(self, index: int) -> HierarchicalVAE:
        """One member as a model of its own."""
        model = self.make().to(self.device)
        weights = {name: value[index] for name, value in self.parameters.items()}
        model.load_state_dict(weights, strict=False)
        return model.requires_grad_(False).eval()


class _How(NamedTuple):
    """How one update is made, the same for all members."""

    factor: float  # on the betas: the warm-up
    learning_rate: float
    normalise_gradients: bool
    controller: Controller | None  # None: every beta stays where it starts


def _loss(model: HierarchicalVAE, objective: Objective, precision: str) -> Loss:
    """A member's loss on a batch, and the batch sums of loss, distortion and rates, ``(2 + L,)``."""

    def loss(parameters: dict[str, Tensor], betas: Tensor, x: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
        with autocast(x.device, precision):
            terms: Terms = functional_call(model, parameters, (x, noise))
        value = objective(terms, betas)
        sums = torch.cat([torch.stack([value * len(x), terms.distortion.sum()]), terms.rates.sum(0)])
        return value, sums.detach()

    return loss


class _Stacked:
    """The losses of many members at once, one row each; on a GPU compiled, for whole batches, when so many updates come.

    What cannot be compiled, such as an objective with numbers read off tensors or where there is no C compiler, is
    computed as it is, and said.
    """

    def __init__(self, loss: Loss, device: torch.device, batch_size: int, updates: int) -> None:
        self.loss, self.batch_size = vmap(loss, in_dims=(0, 0, None, None)), batch_size
        self.compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
        if device.type in COMPILED_ON and updates >= COMPILED_FROM:
            self.compiled = torch.compile(self.loss, dynamic=False, fullgraph=True, mode="reduce-overhead")
        self.tried: dict[int, bool] = {}  # by the number of members, for each of which it is compiled anew

    def __call__(self, parameters: dict[str, Tensor], betas: Tensor, x: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
        if self.compiled is None or len(x) != self.batch_size:
            return self.loss(parameters, betas, x, noise)
        if len(betas) not in self.tried:
            self.tried[len(betas)] = self._try(parameters, betas, x, noise)
        if not self.tried[len(betas)]:
            return self.loss(parameters, betas, x, noise)
        losses, sums = self.compiled(parameters, betas, x, noise)
        return losses, sums.clone()  # the next call writes where this one did

    def _try(self, parameters: dict[str, Tensor], betas: Tensor, x: Tensor, noise: list[Tensor]) -> bool:
        """Whether both passes can be compiled: the second is only when it is first needed."""
        assert self.compiled is not None
        try:
            losses, _ = self.compiled(parameters, betas, x, noise)
            torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways; what is wrong with the loss itself fails again without
            print(f"PyTorch cannot compile this training, which goes on slower: {' '.join(str(error).split())[:300]}", file=sys.stderr)
            return False
        return True


class _Losses:
    """How members' losses are computed: one alone, or many together.

    Attributes:
        lay: how images and weights of one alone want to lie in memory.
    """

    def __init__(self, make: Maker, objective: Objective, precision: str, device: torch.device, batch_size: int, updates: int) -> None:
        single = for_cpu(make()) if device.type == "cpu" else make().to(device)
        self.lay = layout(single)
        self.alone = _loss(single, objective, precision)
        self.together = _Stacked(_loss(for_vmap(make().to(device)), objective, precision), device, batch_size, updates)


@contextlib.contextmanager
def _tf32(device: torch.device) -> Iterator[None]:
    """On a GPU, matrix products as PyTorch computes convolutions there by default: in TF32."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def normalise(gradient: Tensor | None) -> None:
    """Divide the stacked gradients of a parameter, ``(members, *shape)``, by their norms, in place.

    Each member's gradient of each parameter tensor has norm 1 then (Paper B, Appendix F.4: Adam with normalised
    gradients, Yu et al. 2017). A gradient of zeros stays.
    """
    if gradient is not None:
        norms = gradient.reshape(len(gradient), -1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        gradient /= norms.view(-1, *[1] * (gradient.ndim - 1))


def scheduled(schedule: str, step: int, steps: int) -> float:
    """The factor on the learning rate at 0-based ``step`` of ``steps``.

    ``constant``: always 1. ``two-phase``: 1 for the first half, then linearly towards 0 (Paper B, Appendix F.4).

    Example:
        >>> [scheduled("two-phase", step, 10) for step in (0, 4, 5, 9)]
        [1.0, 1.0, 1.0, 0.2]
    """
    return 1.0 if schedule == "constant" else min(1.0, 2 * (steps - step) / steps)


class _Chunk:
    """Members with one seed that are computed together, their optimiser, and the multipliers of those with target rates."""

    def __init__(self, losses: _Losses, indices: list[int], members: list[Member], parameters: dict[str, Tensor],
                 moments: dict[str, Tensor], control: Tensor, step: int) -> None:  # fmt: skip
        self.losses, self.indices, self.members = losses, indices, members
        self.seed = members[0].seed
        self.parameters = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        device = next(iter(parameters.values())).device
        self.betas = _betas(members).to(device)
        self.targets = _targets(members).to(device) if any(member.targets for member in members) else None
        self.control = control.clone()
        self.optimiser = torch.optim.Adam(self.parameters.values(), fused=True)
        for name, parameter in self.parameters.items():
            self.optimiser.state[parameter] = {
                "step": torch.tensor(float(step), dtype=torch.float32, device=device),  # as fused kernels read it
                "exp_avg": moments[f"exp_avg.{name}"].clone(),
                "exp_avg_sq": moments[f"exp_avg_sq.{name}"].clone(),
            }

    def take(self, indices: list[int]) -> "_Chunk":
        """A chunk of some of these members, as they are now."""
        rows = [self.indices.index(i) for i in indices]
        step = int(next(iter(self.optimiser.state.values()))["step"])
        return _Chunk(
            self.losses, indices, [self.members[row] for row in rows],
            {name: value.detach()[rows] for name, value in self.parameters.items()},
            {name: value[rows] for name, value in self.moments().items()}, self.control[rows], step,
        )  # fmt: skip

    def multipliers(self, controller: Controller | None) -> Tensor:
        """The betas to train with, ``(members, L)``: the given ones, and those that follow a target rate."""
        if self.targets is None or controller is None:
            return self.betas
        return torch.where(self.targets.isnan(), self.betas, controller.multipliers(self.control, self.targets))

    def found(self) -> Tensor:
        """The betas as they are reported, ``(members, L)``: of a target rate, what holds it, without what damps."""
        if self.targets is None:
            return self.betas
        return torch.where(self.targets.isnan(), self.betas, self.control[..., 0].exp())

    def step(self, x: Tensor, noise: list[Tensor], how: _How) -> Tensor:
        """One update of every member of the chunk; returns batch sums of loss, distortion, rates, ``(members, 2 + L)``."""
        betas = self.multipliers(how.controller) * how.factor
        self.optimiser.zero_grad()
        if len(self.indices) == 1:
            lay = self.losses.lay
            total, sums = self.losses.alone({name: lay(value.squeeze(0)) for name, value in self.parameters.items()}, betas[0], x, noise)
            sums = sums.unsqueeze(0)
        else:
            losses, sums = self.losses.together(self.parameters, betas, x, noise)
            total = losses.sum()
        total.backward()
        if how.normalise_gradients:
            for parameter in self.parameters.values():
                normalise(parameter.grad)
        self.optimiser.param_groups[0]["lr"] = how.learning_rate
        self.optimiser.step()
        if self.targets is not None and how.controller is not None:
            self.control = how.controller.follow(self.control, sums[:, 2:] / len(x), self.targets)
        return sums

    def moments(self) -> dict[str, Tensor]:
        """Adam's moments, named as in a checkpoint."""
        return {
            f"{moment}.{name}": self.optimiser.state[parameter][moment]
            for name, parameter in self.parameters.items()
            for moment in ("exp_avg", "exp_avg_sq")
        }


def train(
    make: Maker,
    members: Sequence[Member],
    x: Tensor,
    *,
    epochs: int,
    batch_size: int = 256,
    learning_rate: float = 3e-4,
    warm_up_fraction: float = 0.0,
    schedule: str = "constant",
    normalise_gradients: bool = False,
    objective: Objective = lagrangian,
    controller: Controller = PI(),  # noqa: B008  # frozen
    precision: str = "float32",
    checkpoints: Checkpoints | None = None,
    chunk: int | None = None,
    label: str = "training",
) -> Population:
    """Train a population with Adam on images that lie on the device (Paper A, Section 5.1).

    Arguments:
        make: makes a fresh model, such as ``lambda: build("ghvae", (1, 28, 28))``.
        members: betas and seed of each model.
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        warm_up_fraction: over this fraction of the steps all betas rise from 0.
        schedule: of the learning rate, ``constant`` or ``two-phase``; see `scheduled`.
        normalise_gradients: give each gradient norm 1 before Adam; see `normalise`.
        objective: any ``f(terms, betas) -> scalar``; see `hvae_core.objective`.
        controller: how the betas of layers with a target rate follow it; see `hvae_core.target_rates`.
        precision: ``bfloat16`` computes the networks' layers in that type, faster where the processor knows it; distributions,
            divergences, parameters and Adam stay in float32.
        checkpoints: where to keep the state; training continues from what is there.
        chunk: members computed together; None chooses by the device. Out of memory halves it.

    Returns:
        The trained population. A member whose terms cease to be finite is frozen and keeps its place; the others
        are what they would be without it.

    Example:
        >>> from hvae_core.models import build
        >>> x = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
        >>> population = train(lambda: build("ghvae", (1, 28, 28)), [Member((1.0, 1.0), seed=0)], x, epochs=2)
        >>> population.history.shape
        torch.Size([1, 2, 3])
    """
    if x.device.type == "cpu":
        keep_memory()
    population = Population(make, members, x.device)
    count, layers = len(population.members), population.model.layers
    moments = {
        f"{moment}.{name}": torch.zeros_like(value)
        for name, value in population.parameters.items()
        for moment in ("exp_avg", "exp_avg_sq")
    }
    history = torch.full((count, epochs, 1 + layers), math.nan)
    multipliers = torch.full((count, epochs, layers), math.nan)
    diverged = torch.zeros(count, dtype=torch.int64)  # the epoch, 0 for none
    control = target_rates.start(population.betas).to(x.device)
    done = 0
    if checkpoints is not None and (state := checkpoints.load(x.device)) is not None:
        done, tensors = state
        population.parameters = {name: tensors[f"parameters.{name}"] for name in population.parameters}
        moments = {name: tensors[name] for name in moments}
        history[:, :done], diverged = tensors["history"].cpu(), tensors["diverged"].cpu()
        multipliers[:, :done], control = tensors["multipliers"].cpu(), tensors["control"]

    batches = math.ceil(len(x) / batch_size)
    controller = controller.paced(epochs * batches)
    if chunk is None:
        chunk = 1 if x.device.type == "cpu" else count
    losses = _Losses(make, objective, precision, x.device, batch_size, epochs * batches)
    chunks = [
        _Chunk(
            losses,
            part,
            [population.members[i] for i in part],
            {name: value[part] for name, value in population.parameters.items()},
            {name: value[part] for name, value in moments.items()},
            control[part],
            done * batches,
        )
        for part in _split(population.members, chunk)
    ]
    seeds = sorted({member.seed for member in population.members})

    def collect() -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {"history": history[:, :done], "multipliers": multipliers[:, :done], "diverged": diverged}
        for part in chunks:
            for name, value in {**{f"parameters.{n}": p.detach() for n, p in part.parameters.items()},
                                **part.moments(), "control": part.control}.items():  # fmt: skip
                tensors.setdefault(name, value.new_empty(count, *value.shape[1:]))[part.indices] = value
        return tensors

    saved = time.monotonic()
    with _tf32(x.device), track(label, epochs, f"epochs of {_plural(count, 'model')}", done) as progress:
        while done < epochs:
            sums = torch.zeros(count, 2 + layers, dtype=torch.float64, device=x.device)
            # On the device at once: a copy in every update would wait for the one before to end.
            orders = {seed: torch.randperm(len(x), generator=generator(seed, Purpose.ORDER, done)).to(x.device) for seed in seeds}
            noises = {seed: generator(seed, Purpose.NOISE, done, x.device) for seed in seeds}
            for batch in range(batches):
                now = done * batches + batch, epochs * batches
                how = _How(warm_up(*now, warm_up_fraction), learning_rate * scheduled(schedule, *now),
                           normalise_gradients, controller if now[0] >= FILLING * now[1] else None)  # fmt: skip
                for seed in seeds:
                    order = orders[seed][batch * batch_size : (batch + 1) * batch_size]
                    images, noise = losses.lay(pixels(x[order])), population.model.noise(len(order), noises[seed])
                    for part in [part for part in chunks if part.seed == seed]:
                        if all(diverged[part.indices] > 0):
                            continue
                        for piece, result in _step(part, chunks, images, noise, how):
                            sums[piece.indices] += result
                seen = min((batch + 1) * batch_size, len(x))
                progress.update(done + (batch + 1) / batches, partial(_note, sums, seen, diverged))
            done += 1
            means = (sums / len(x)).float().cpu()
            frozen = diverged > 0
            diverged[~frozen & ~means.isfinite().all(1)] = done
            history[:, done - 1] = torch.where(frozen[:, None], torch.nan, means[:, 1:])
            for part in chunks:
                multipliers[part.indices, done - 1] = part.found().cpu()
            for part in list(chunks):  # who has just diverged is computed no more
                well = [i for i in part.indices if not diverged[i]]
                if 0 < len(well) < len(part.indices):
                    chunks[chunks.index(part) : chunks.index(part) + 1] = [
                        part.take(well), part.take([i for i in part.indices if diverged[i]])
                    ]  # fmt: skip
            if checkpoints is not None and (done == epochs or time.monotonic() - saved > CHECKPOINT_EVERY_S):
                checkpoints.save(done, collect())
                saved = time.monotonic()

    tensors = collect()
    population.parameters = {name: tensors[f"parameters.{name}"] for name in population.parameters}
    for value in population.parameters.values():
        diverged[(diverged == 0) & ~value.flatten(1).isfinite().all(1).cpu()] = epochs
    population.history, population.multipliers = history, multipliers
    population.betas = multipliers[:, -1]
    population.diverged_epoch = [int(epoch) or None for epoch in diverged]
    return population


def _betas(members: Sequence[Member]) -> Tensor:
    return torch.tensor([member.betas for member in members], dtype=torch.get_default_dtype())


def _targets(members: Sequence[Member]) -> Tensor:
    """Target rates, ``(members, L)``; NaN where a layer has none."""
    return torch.tensor([
        [math.nan if target is None else target for target in member.targets or [None] * len(member.betas)]
        for member in members
    ])  # fmt: skip


def _split(members: Sequence[Member], size: int) -> list[list[int]]:
    """Indices of members in chunks of at most ``size``, each with one seed."""
    chunks = []
    for seed in sorted({member.seed for member in members}):
        indices = [i for i, member in enumerate(members) if member.seed == seed]
        chunks += [indices[start : start + size] for start in range(0, len(indices), size)]
    return chunks


def _step(part: _Chunk, chunks: list[_Chunk], x: Tensor, noise: list[Tensor],
          how: _How) -> Iterator[tuple[_Chunk, Tensor]]:  # fmt: skip
    """One update of a chunk. Out of memory splits it in two, in ``chunks`` too, and goes on."""
    try:
        yield part, part.step(x, noise, how)
        return
    except torch.OutOfMemoryError:
        if len(part.indices) == 1:
            raise
    # Outside the except clause, whose traceback would keep the failed pass's memory alive.
    half = math.ceil(len(part.indices) / 2)
    print(f"out of memory with {len(part.indices)} models at once; going on with {half}", file=sys.stderr)
    part.optimiser.zero_grad()
    halves = [part.take(part.indices[:half]), part.take(part.indices[half:])]
    chunks[chunks.index(part) : chunks.index(part) + 1] = halves
    del part
    torch.compiler.reset()  # compiled graphs keep memory of their own
    torch.cuda.empty_cache()
    for piece in halves:
        yield from _step(piece, chunks, x, noise, how)


def _note(sums: Tensor, images: int, diverged: Tensor) -> str:
    """Mean loss and terms of the members that are well."""
    means = sums[(diverged == 0).to(sums.device)] / images
    if not len(means):
        return "no model left"
    loss, distortion, *rates = means.mean(0).tolist()
    lost = int((diverged > 0).sum())
    note = f"mean loss {loss:.1f} (D {distortion:.1f}, R {sum(rates):.1f})"
    return note + (f", {_plural(lost, 'model')} diverged" if lost else "")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
