"""The one loop over epochs and batches: for many models at once, and for one network of all betas.

What learns is a `Learner`; how long and how fast, a `Plan` says. The loop draws order and noise, counts epochs, keeps
the history, notices what diverges, shows progress, and saves a state to resume from.

Every random number comes from a stream that is a function of (seed, purpose, epoch), so nothing has to be kept of
generators, and no result depends on what else is trained.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hvae_core.data.dataset import pixels
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import warm_up
from hvae_core.progress import track
from hvae_core.randomness import Noise, Purpose, generator
from hvae_core.training.checkpoints import CHECKPOINT_EVERY_S, MOMENTS, Checkpoints
from hvae_core.training.plan import Member, Plan, scheduled
from hvae_core.training.precision import keep_memory

Maker = Callable[[], HierarchicalVAE]


class Update(NamedTuple):
    """One update of a training.

    Attributes:
        step, steps: which it is, from 0, of how many.
        factor: on all betas: the warm-up.
        learning_rate: as scheduled.
    """

    step: int
    steps: int
    factor: float
    learning_rate: float


class Learner(Protocol):
    """What the loop trains. It has rows, members or networks, each with one of the seeds."""

    @property
    def rows(self) -> int:
        """How many rows the history has."""

    @property
    def layers(self) -> int:
        """L."""

    @property
    def seeds(self) -> Sequence[int]:
        """The seeds, each once."""

    @property
    def model(self) -> HierarchicalVAE:
        """The architecture, for its noise."""

    def begin(self, epoch: int, batches: int) -> None:
        """An epoch begins: 0-based, of so many batches."""

    def step(self, seed: int, x: Tensor, noise: list[Tensor], update: Update, lost: Tensor, sums: Tensor) -> None:
        """One update of the rows with this seed that are not ``lost`` ``(rows,)``.

        Adds loss, distortion and rates, summed over the batch, to ``sums`` ``(rows, 2 + L)``.
        """

    def end(self, lost: Tensor) -> None:
        """An epoch has ended, and these rows are lost from now on."""

    def multipliers(self) -> Tensor:
        """The betas as they are now, ``(rows, L)``; ``(rows, 0)`` where they do not change."""

    def state(self) -> dict[str, Tensor]:
        """All that is needed to go on."""

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Go on from a state, after so many updates."""

    def finite(self) -> Tensor:
        """Whether all parameters are finite, ``(rows,)``."""


class Record(NamedTuple):
    """What came of a training.

    Attributes:
        history: ``(rows, epochs, 1 + L)``: distortion and rates of each epoch, averaged over the training images as
            they were seen, nats per image. NaN where a row was not trained.
        multipliers: ``(rows, epochs, L or 0)``, the betas after each epoch.
        diverged: ``(rows,)``, the epoch (from 1) in which the terms ceased to be finite; 0 for none.
    """

    history: Tensor
    multipliers: Tensor
    diverged: Tensor


def fit(
    learner: Learner,
    x: Tensor,
    plan: Plan,
    checkpoints: Checkpoints | None = None,
    label: str = "training",
    unit: str = "epochs",
) -> Record:
    """Train with Adam on images that lie on the device (Paper A, Section 5.1).

    Arguments:
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        checkpoints: where to keep the state; training continues from what is there.
    """
    if x.device.type == "cpu":
        keep_memory()
    count, layers, epochs = learner.rows, learner.layers, plan.epochs
    batches = math.ceil(len(x) / plan.batch_size)
    history = torch.full((count, epochs, 1 + layers), math.nan)
    multipliers = torch.full((count, epochs, learner.multipliers().shape[1]), math.nan)
    diverged = torch.zeros(count, dtype=torch.int64)
    done = (
        0 if checkpoints is None else _resume(learner, checkpoints, Record(history, multipliers, diverged), x, batches)
    )

    saved = time.monotonic()
    with track(label, epochs, unit, done) as progress:
        while done < epochs:
            sums = torch.zeros(count, 2 + layers, dtype=torch.float64, device=x.device)
            # On the device at once: a copy in every update would wait for the one before to end.
            orders = {
                seed: torch.randperm(len(x), generator=generator(seed, Purpose.ORDER, done)).to(x.device)
                for seed in learner.seeds
            }
            noises = {seed: Noise(seed, Purpose.NOISE, done, x.device) for seed in learner.seeds}
            learner.begin(done, batches)
            for batch in range(batches):
                update = _update(plan, done * batches + batch, epochs * batches)
                for seed in learner.seeds:
                    order = orders[seed][batch * plan.batch_size : (batch + 1) * plan.batch_size]
                    noise = learner.model.noise(len(order), noises[seed])
                    learner.step(seed, pixels(x[order]), noise, update, diverged > 0, sums)
                seen = min((batch + 1) * plan.batch_size, len(x))
                progress.update(done + (batch + 1) / batches, partial(_note, sums, seen, diverged))
            done += 1
            means = (sums / len(x)).float().cpu()
            frozen = diverged > 0
            diverged[~frozen & ~means.isfinite().all(1)] = done
            history[:, done - 1] = torch.where(frozen[:, None], torch.nan, means[:, 1:])
            multipliers[:, done - 1] = learner.multipliers().cpu()
            learner.end(diverged > 0)
            if checkpoints is not None and (done == epochs or time.monotonic() - saved > CHECKPOINT_EVERY_S):
                about = {"history": history[:, :done], "multipliers": multipliers[:, :done], "diverged": diverged}
                checkpoints.save(done, about | learner.state())
                saved = time.monotonic()
    diverged[(diverged == 0) & ~learner.finite().cpu()] = epochs
    return Record(history, multipliers, diverged)


def _resume(learner: Learner, checkpoints: Checkpoints, record: Record, x: Tensor, batches: int) -> int:
    """Go on from the newest state: fills the record, and gives how many epochs are done.

    A function of its own, so that a state of gigabytes is not kept while the training lasts.
    """
    if (state := checkpoints.load(x.device)) is None:
        return 0
    done, tensors = state
    learner.load(tensors, done * batches)
    record.history[:, :done] = tensors["history"].cpu()
    record.multipliers[:, :done] = tensors["multipliers"].cpu()
    record.diverged[:] = tensors["diverged"].cpu()
    return done


def adam(parameters: Mapping[str, Tensor], state: Mapping[str, Tensor] | None, step: int) -> torch.optim.Adam:
    """Adam after ``step`` updates, with the moments of `adam_state`; fresh without them."""
    optimiser = torch.optim.Adam(parameters.values(), fused=True)
    for name, parameter in parameters.items():
        optimiser.state[parameter] = {
            # As fused kernels on a GPU read it, whatever the type of the parameters.
            "step": torch.tensor(float(step), dtype=torch.float32, device=parameter.device)
        } | {
            moment: torch.zeros_like(parameter) if state is None else state[f"{moment}.{name}"].clone()
            for moment in MOMENTS
        }
    return optimiser


class Trained:
    """Members that were trained, whatever computes them.

    Attributes:
        members: betas and seed of each.
        model: the architecture; its own parameters are not used.
        parameters: by name, ``(sets, *shape)``: all that is learned.
        which: for each member, its row in ``parameters``.
        history: ``(members, epochs, 1 + L)``: distortion and rates of each epoch, averaged over the training images as
            they were seen, nats per image. NaN where a member was not trained.
        multipliers: ``(members, epochs, L)``, the betas after each epoch.
        diverged_epoch: for each member the epoch (from 1) in which its terms ceased to be finite, or None.
    """

    members: list[Member]
    model: HierarchicalVAE
    which: list[int]
    history: Tensor
    multipliers: Tensor
    diverged_epoch: list[int | None]

    @property
    def parameters(self) -> dict[str, Tensor]:
        raise NotImplementedError  # each kind keeps them in its own way

    def member(self, index: int) -> HierarchicalVAE:
        """One member as a model of its own."""
        raise NotImplementedError  # each kind makes them in its own way

    def well(self) -> dict[int, Member]:
        """The members that did not diverge, by index."""
        return {i: member for i, member in enumerate(self.members) if not self.diverged_epoch[i]}


def _update(plan: Plan, step: int, steps: int) -> Update:
    return Update(
        step,
        steps,
        factor=warm_up(step, steps, plan.warm_up),
        learning_rate=plan.learning_rate * scheduled(plan.schedule, step, steps),
    )


def _note(sums: Tensor, images: int, diverged: Tensor) -> str:
    """Mean loss and terms of the rows that are well."""
    means = sums[(diverged == 0).to(sums.device)] / images
    if not len(means):
        return "no model left"
    loss, distortion, *rates = means.mean(0).tolist()
    lost = int((diverged > 0).sum())
    note = f"mean loss {loss:.1f} (D {distortion:.1f}, R {sum(rates):.1f})"
    return note + (f", {plural(lost, 'model')} diverged" if lost else "")


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    Example:
        >>> plural(1, "model"), plural(2, "model")
        ('1 model', '2 models')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
