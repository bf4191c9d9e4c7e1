"""Train many copies of one model, each with its own parameters, betas and seed, as one population.

Members with equal seeds share initial weights, batch order and noise (common random numbers), so neighbours in a
grid of betas differ by their betas alone. A member's result depends on (data, model, betas, seed) and not on who its
neighbours are, but for rounding where members are computed together.

Members are computed in chunks. A chunk of one calls the model as it is, the fastest way on a CPU; a larger chunk is
`torch.func.vmap` over stacked parameters, which fills a GPU, compiled where the training is long enough. Both compute
convolutions in a way of their own (`hvae_core.training.convolutions`). Model code never knows.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.objective import Objective, lagrangian
from hvae_core.randomness import initial_weights
from hvae_core.terms import Terms
from hvae_core.training import target_rates
from hvae_core.training.checkpoints import Checkpoints, adam_state
from hvae_core.training.convolutions import for_cpu, for_vmap, layout
from hvae_core.training.plan import Member, Plan
from hvae_core.training.precision import autocast, tf32
from hvae_core.training.target_rates import FILLING, PI, Controller
from hvae_core.training.threads import threads_of_an_operation
from hvae_core.training.trainer import Maker, Trained, Update, adam, fit, plural
from hvae_core.training.ways import Recorded, Way

Loss = Callable[[dict[str, Tensor], Tensor, Tensor, list[Tensor]], tuple[Tensor, Tensor]]
SMALL = 128  # images in an operation on a CPU up to which one thread is as fast as two, and waits for no other
COMPILED_ON = ("cuda",)  # kinds of devices
COMPILED_FROM = 2000  # updates; to compile takes half a minute to a minute, which fewer do not win back


def train(
    make: Maker,
    members: Sequence[Member],
    x: Tensor,
    plan: Plan,
    *,
    objective: Objective = lagrangian,
    controller: Controller = PI(),  # noqa: B008  # frozen
    checkpoints: Checkpoints | None = None,
    chunk: int | None = None,
    label: str = "training",
    way: Way = Way(),  # noqa: B008  # frozen
) -> "Population":
    """Train a population with Adam on images that lie on the device (Paper A, Section 5.1).

    Arguments:
        make: makes a fresh model, such as ``lambda: build("ghvae", (1, 28, 28))``.
        members: betas and seed of each model.
        x: ``(images, C, H, W)`` uint8, on the device to train on.
        plan: epochs, batch size, learning rate and the like.
        objective: any ``f(terms, betas) -> scalar``; see `hvae_core.objective`.
        controller: how the betas of layers with a target rate follow it; see `hvae_core.training.target_rates`.
        checkpoints: where to keep the state; training continues from what is there.
        chunk: members computed together; None chooses by the device. Out of memory halves it.
        way: how they are computed together.

    Returns:
        The trained population. A member whose terms cease to be finite is frozen and keeps its place; the others
        are what they would be without it.

    Example:
        >>> from hvae_core.models import build
        >>> x = torch.zeros(8, 1, 28, 28, dtype=torch.uint8)
        >>> population = train(lambda: build("ghvae", (1, 28, 28)), [Member((1.0, 1.0), seed=0)], x, Plan(epochs=2))
        >>> population.history.shape
        torch.Size([1, 2, 3])
    """
    population = Population(make, members, x.device)
    updates = plan.epochs * math.ceil(len(x) / plan.batch_size)
    size = chunk or (1 if x.device.type == "cpu" else len(population.members))
    losses = _Losses(make, objective, plan.precision, x.device, plan.batch_size, updates, way)
    learner = _Chunks(population, losses, size, plan.normalise_gradients, controller.paced(updates))
    alone = x.device.type == "cpu" and size * plan.batch_size <= SMALL
    with threads_of_an_operation(1) if alone else nullcontext():
        record = fit(learner, x, plan, checkpoints, label, f"epochs of {plural(len(population.members), 'model')}")
    population.stacked = learner.parameters()
    population.history, population.multipliers = record.history, record.multipliers
    population.betas = record.multipliers[:, -1]
    population.diverged_epoch = [int(epoch) or None for epoch in record.diverged]
    return population


class Population(Trained):
    """Members and their stacked parameters, one set of parameters each.

    Attributes:
        betas: ``(members, L)``, top layer first; where a layer has a target rate, the multiplier that was found.
    """

    def __init__(self, make: Maker, members: Sequence[Member], device: str | torch.device = "cpu") -> None:
        self.members = list(members)
        self.which = list(range(len(self.members)))
        self.device = torch.device(device)
        self.make = make
        self.model = make().to(self.device)
        seeds = {member.seed: initial_weights(make, member.seed) for member in self.members}
        self.stacked = {
            name: torch.stack([seeds[member.seed][name] for member in self.members]).to(self.device)
            for name, _ in self.model.named_parameters()
        }
        self.history = torch.zeros(len(self.members), 0, 1 + self.model.layers)
        self.diverged_epoch = [None] * len(self.members)
        self.betas = _betas(self.members)
        self.multipliers = torch.zeros(len(self.members), 0, self.model.layers)

    @property
    def parameters(self) -> dict[str, Tensor]:
        return self.stacked

    def member(self, index: int) -> HierarchicalVAE:
        model = self.make().to(self.device)
        weights = {name: value[index] for name, value in self.stacked.items()}
        model.load_state_dict(weights, strict=False)
        return model.requires_grad_(False).eval()


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
    """The losses of many members at once, one row each.

    On a GPU compiled, for whole batches, when so many updates come.

    What cannot be compiled, such as an objective with numbers read off tensors or where there is no C compiler, is
    computed as it is, and said.
    """

    def __init__(self, loss: Loss, device: torch.device, batch_size: int, updates: int, way: Way) -> None:
        self.loss, self.batch_size = vmap(loss, in_dims=(0, 0, None, None)), batch_size
        self.compiled: Callable[..., tuple[Tensor, Tensor]] | None = None
        if way.compiled and device.type in COMPILED_ON and updates >= COMPILED_FROM:
            self.compiled = way.compile(self.loss)
        self.tried: dict[int, bool] = {}  # by the number of members, for each of which it is compiled anew

    def __call__(
        self, parameters: dict[str, Tensor], betas: Tensor, x: Tensor, noise: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
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
        except (
            Exception
        ) as error:  # a compiler fails in many ways; what is wrong with the loss itself fails again without
            reason = " ".join(str(error).split())[:300]
            print(f"PyTorch cannot compile this training, which goes on slower: {reason}", file=sys.stderr)
            return False
        return True


class _Losses:
    """How members' losses are computed: one alone, or many together.

    Attributes:
        lay: how images and weights of one alone want to lie in memory.
        whole: of updates of so many images one graph is made; 0 for none.
    """

    def __init__(
        self,
        make: Maker,
        objective: Objective,
        precision: str,
        device: torch.device,
        batch_size: int,
        updates: int,
        way: Way = Way(),  # noqa: B008  # frozen
    ) -> None:
        single = for_cpu(make()) if device.type == "cpu" else make().to(device)
        self.lay = layout(single)
        self.alone = _loss(single, objective, precision)
        stacked = _loss(for_vmap(make().to(device), way.shared, way.kernels), objective, precision)
        self.together = _Stacked(stacked, device, batch_size, updates, way)
        self.whole = batch_size if way.whole and updates >= COMPILED_FROM else 0


def normalise(gradient: Tensor | None) -> None:
    """Divide the stacked gradients of a parameter, ``(members, *shape)``, by their norms, in place.

    Each member's gradient of each parameter tensor has norm 1 then (Paper B, Appendix F.4: Adam with normalised
    gradients, Yu et al. 2017). A gradient of zeros stays.
    """
    if gradient is not None:
        norms = gradient.reshape(len(gradient), -1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        gradient /= norms.view(-1, *[1] * (gradient.ndim - 1))


class _Chunk:
    """Members with one seed that are computed together, their optimiser, and the multipliers of their target rates.

    Arguments:
        indices: of its members in the population.
        state: parameters, moments and multipliers of these members, see `state`.
        step: how many updates there were.
    """

    def __init__(
        self, losses: _Losses, indices: list[int], members: list[Member], state: Mapping[str, Tensor], step: int
    ) -> None:
        self.losses, self.indices, self.members = losses, indices, members
        self.seed = members[0].seed
        self.parameters = {
            name.removeprefix("parameters."): value.clone().requires_grad_()
            for name, value in state.items()
            if name.startswith("parameters.")
        }
        device = next(iter(self.parameters.values())).device
        self.betas = _betas(members).to(device)
        self.targets = _targets(members).to(device) if any(member.targets for member in members) else None
        self.control = state["control"].clone()
        self.optimiser = adam(self.parameters, state if any("exp_avg" in name for name in state) else None, step)
        self.recorded: Recorded | None = None
        if losses.whole and len(indices) > 1:
            # What a graph reads lies on the device.
            self.optimiser.param_groups[0] |= {"capturable": True, "lr": torch.zeros((), device=device)}
            self.recorded = Recorded()

    def take(self, indices: list[int]) -> "_Chunk":
        """A chunk of some of these members, as they are now."""
        rows = [self.indices.index(i) for i in indices]
        step = int(next(iter(self.optimiser.state.values()))["step"])
        state = {name: value[rows] for name, value in self.state().items()}
        return _Chunk(self.losses, indices, [self.members[row] for row in rows], state, step)

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

    def step(
        self,
        x: Tensor,
        noise: list[Tensor],
        update: Update,
        normalise_gradients: bool,
        controller: Controller | None,
    ) -> Tensor:
        """One update of every member of the chunk; returns sums of loss, distortion and rates, ``(members, 2 + L)``.

        Without a controller every beta stays where it starts.
        """
        betas = self.multipliers(controller) * update.factor
        if self.recorded is not None:
            self.optimiser.param_groups[0]["lr"].fill_(update.learning_rate)
        else:
            self.optimiser.param_groups[0]["lr"] = update.learning_rate

        def updated(x: Tensor, betas: Tensor, *noise: Tensor) -> Tensor:
            return self._update(x, list(noise), betas, normalise_gradients)

        if self.recorded is not None and len(x) == self.losses.whole:
            sums = self.recorded(updated, x, betas, *noise)
        else:
            sums = updated(x, betas, *noise)
        if self.targets is not None and controller is not None:
            self.control = controller.follow(self.control, sums[:, 2:] / len(x), self.targets)
        return sums

    def _update(self, x: Tensor, noise: list[Tensor], betas: Tensor, normalise_gradients: bool) -> Tensor:
        """Forward, backward and Adam, and the sums of `step`."""
        self.optimiser.zero_grad()
        if len(self.indices) == 1:
            lay = self.losses.lay
            own = {name: lay(value.squeeze(0)) for name, value in self.parameters.items()}
            total, sums = self.losses.alone(own, betas[0], x, noise)
            sums = sums.unsqueeze(0)
        else:
            losses, sums = self.losses.together(self.parameters, betas, x, noise)
            total = losses.sum()
        total.backward()
        if normalise_gradients:
            for parameter in self.parameters.values():
                normalise(parameter.grad)
        self.optimiser.step()
        return sums

    def state(self) -> dict[str, Tensor]:
        """Parameters, Adam's moments and the multipliers, by name, ``(members, ...)``."""
        tensors = {f"parameters.{name}": value.detach() for name, value in self.parameters.items()}
        return tensors | adam_state(self.optimiser, self.parameters) | {"control": self.control}


class _Chunks:
    """The learner that `fit` trains: the members of a population in chunks, each with one seed."""

    def __init__(
        self,
        population: Population,
        losses: _Losses,
        size: int,
        normalise_gradients: bool,
        controller: Controller,
    ) -> None:
        self.population, self.losses, self.size = population, losses, size
        self.normalise_gradients, self.controller = normalise_gradients, controller
        self.rows, self.layers, self.model = len(population.members), population.model.layers, population.model
        self.seeds = sorted({member.seed for member in population.members})
        self.names = list(population.stacked)
        self.load(
            {f"parameters.{name}": value for name, value in population.stacked.items()}
            | {"control": target_rates.start(population.betas).to(population.device)},
            step=0,
        )
        population.stacked = {}  # the chunks have it now; of hundreds of models it is a gigabyte

    def load(self, tensors: Mapping[str, Tensor], step: int) -> None:
        members = self.population.members
        own = {name: value for name, value in tensors.items() if "." in name or name == "control"}
        self.chunks: list[_Chunk] = []  # before there are others
        self.chunks = [
            _Chunk(
                self.losses, part, [members[i] for i in part], {name: value[part] for name, value in own.items()}, step
            )
            for part in _split(members, self.size)
        ]

    def begin(self, epoch: int, batches: int) -> None:
        """Nothing is drawn but order and noise."""

    def step(self, seed: int, x: Tensor, noise: list[Tensor], update: Update, lost: Tensor, sums: Tensor) -> None:
        x = self.losses.lay(x)
        controller = self.controller if update.step >= FILLING * update.steps else None
        with tf32(x.device):
            for part in [part for part in self.chunks if part.seed == seed and not lost[part.indices].all()]:
                for piece, result in self._step(part, x, noise, update, controller):
                    sums[piece.indices] += result

    def _step(
        self, part: _Chunk, x: Tensor, noise: list[Tensor], update: Update, controller: Controller | None
    ) -> Iterator[tuple[_Chunk, Tensor]]:
        """One update of a chunk. Out of memory splits it in two, and goes on."""
        try:
            yield part, part.step(x, noise, update, self.normalise_gradients, controller)
            return
        except torch.OutOfMemoryError:
            if len(part.indices) == 1:
                raise
        # Outside the except clause, whose traceback would keep the failed pass's memory alive.
        half = math.ceil(len(part.indices) / 2)
        print(f"out of memory with {len(part.indices)} models at once; going on with {half}", file=sys.stderr)
        part.optimiser.zero_grad()
        halves = self._replace(part, part.indices[:half], part.indices[half:])
        del part
        torch.compiler.reset()  # compiled graphs keep memory of their own
        torch.cuda.empty_cache()
        for piece in halves:
            yield from self._step(piece, x, noise, update, controller)

    def _replace(self, part: _Chunk, *groups: list[int]) -> list[_Chunk]:
        pieces = [part.take(indices) for indices in groups]
        self.chunks[self.chunks.index(part) : self.chunks.index(part) + 1] = pieces
        return pieces

    def end(self, lost: Tensor) -> None:
        for part in list(self.chunks):  # who has just diverged is computed no more
            well = [i for i in part.indices if not lost[i]]
            if 0 < len(well) < len(part.indices):
                self._replace(part, well, [i for i in part.indices if lost[i]])

    def multipliers(self) -> Tensor:
        return self._gathered({id(part): {"found": part.found()} for part in self.chunks})["found"]

    def state(self) -> dict[str, Tensor]:
        return self._gathered({id(part): part.state() for part in self.chunks})

    def parameters(self) -> dict[str, Tensor]:
        """Of all members, by name, ``(members, *shape)``."""
        state = self.state()
        return {name: state[f"parameters.{name}"] for name in self.names}

    def finite(self) -> Tensor:
        well = torch.ones(self.rows, dtype=torch.bool, device=self.population.device)
        for value in self.parameters().values():
            well &= value.flatten(1).isfinite().all(1)
        return well

    def _gathered(self, states: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The chunks' tensors together, in the order of the population's members."""
        tensors: dict[str, Tensor] = {}
        for part in self.chunks:
            for name, value in states[id(part)].items():
                tensors.setdefault(name, value.new_empty(self.rows, *value.shape[1:]))[part.indices] = value
        return tensors


def _betas(members: Sequence[Member]) -> Tensor:
    return torch.tensor([member.betas for member in members], dtype=torch.get_default_dtype())


def _targets(members: Sequence[Member]) -> Tensor:
    """Target rates, ``(members, L)``; NaN where a layer has none."""
    every = [member.targets or [None] * len(member.betas) for member in members]
    return torch.tensor([[math.nan if target is None else target for target in targets] for targets in every])


def _split(members: Sequence[Member], size: int) -> list[list[int]]:
    """Indices of members in chunks of at most ``size``, each with one seed."""
    chunks = []
    for seed in sorted({member.seed for member in members}):
        indices = [i for i, member in enumerate(members) if member.seed == seed]
        chunks += [indices[start : start + size] for start in range(0, len(indices), size)]
    return chunks
