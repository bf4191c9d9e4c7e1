"""Rules that drive betas to target rates, tried on the same models, targets, noise and updates."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from hvae_core.errors import InputError
from hvae_core.evaluation.rates import average_terms
from hvae_core.terms import layer_numbers
from hvae_core.training.plan import Member, Plan
from hvae_core.training.population import Population, train
from hvae_core.training.target_rates import Controller, tolerance
from hvae_core.training.trainer import Maker


class Rule(NamedTuple):
    """A rule, and the beta that every layer starts from."""

    controller: Controller
    start: float = 0.1


class Driven(NamedTuple):
    """What rules made of the same targets; rates on training images, nats per image.

    Attributes:
        held: a row a rule and model: targets, rates, ``distortion``, the betas found, and ``off_l``, the deviation of
            each layer as a multiple of its tolerance (at most 1 where the target is held).
        history: a row a rule, model, layer and epoch: ``target``, ``rate`` (the mean over the epoch's batches) and
            ``beta``.
    """

    held: pd.DataFrame
    history: pd.DataFrame


def target_pairs(members: Sequence[Member]) -> list[tuple[float, ...]]:
    """The target rates of a run's members, each once; for `drive`.

    Raises:
        InputError: a layer has none.

    Example:
        >>> target_pairs([Member((0.1, 0.1), seed, targets=(2.0, 16.0)) for seed in range(3)])
        [(2.0, 16.0)]
    """
    found = list(dict.fromkeys(member.targets for member in members))
    if not all(found) or any(rate is None for targets in found for rate in targets):
        raise InputError("target_rates: every layer needs one here, such as [[2, 10], [16]]")
    return [tuple(rate for rate in targets if rate is not None) for targets in found]


def drive(make: Maker, targets: Sequence[Sequence[float]], x: Tensor, plan: Plan, rules: Mapping[str, Rule]) -> Driven:
    """Train one model a target and rule, all with seed 0, and measure what each rule holds.

    Arguments:
        make: makes a fresh model.
        targets: the rates to hold, a tuple a model, top layer first, nats per image.
        x: training images, uint8.
        plan: how all models are trained.
        rules: by the names to show.

    Raises:
        InputError: a tuple has not one rate a layer.
    """
    depth = make().layers
    if any(len(rates) != depth for rates in targets):
        raise InputError(f"targets: the model has {depth} layers, and each tuple takes a rate for each")
    held: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for name, (controller, start) in rules.items():
        members = [Member((start,) * depth, seed=0, targets=tuple(rates)) for rates in targets]
        population = train(make, members, x, plan, controller=controller, label=name)
        for index, member in enumerate(members):
            held.append({"rule": name, **_held(population, index, x)})
            history += [{"rule": name, "model": index, **row} for row in _history(population, index, member)]
    return Driven(pd.DataFrame(held).set_index("rule"), pd.DataFrame(history))


def _held(population: Population, index: int, x: Tensor) -> dict[str, float]:
    """One model: targets, terms on these images, the betas found, and how far off it is."""
    targets = [float(rate or 0) for rate in population.members[index].targets]
    terms = average_terms(population.member(index), x, seed=population.members[index].seed)
    named = dict(
        zip(
            layer_numbers(len(targets)),
            zip(targets, population.betas[index].tolist(), strict=True),
            strict=True,
        )
    )
    return {
        **{f"target_{n}": target for n, (target, _) in named.items()},
        **{f"rate_{n}": terms[f"rate_{n}"] for n in named},
        "distortion": terms["distortion"],
        **{f"beta_{n}": beta for n, (_, beta) in named.items()},
        **{f"off_{n}": abs(terms[f"rate_{n}"] - target) / tolerance(target) for n, (target, _) in named.items()},
    }


def _history(population: Population, index: int, member: Member) -> list[dict[str, float]]:
    """One model's rates and betas by epoch, a row a layer and epoch."""
    rates, betas = population.history[index, :, 1:].tolist(), population.multipliers[index].tolist()
    return [
        {
            "layer": n,
            "epoch": epoch + 1,
            "target": float(member.targets[i] or 0),
            "rate": rate[i],
            "beta": beta[i],
        }
        for i, n in enumerate(layer_numbers(len(member.targets)))
        for epoch, (rate, beta) in enumerate(zip(rates, betas, strict=True))
    ]


def compared(driven: Driven) -> pd.DataFrame:
    """Each rule in a few numbers.

    Returns:
        ``held, %``: the layers within their tolerance; ``off``, the mean deviation as a multiple of it, and ``worst``,
        the largest; the mean ``distortion``, to be compared where rates are alike.
    """
    off = driven.held.filter(regex=r"^off_\d+$").stack()
    by_rule = off.groupby(level="rule", sort=False)
    return pd.DataFrame(
        {
            "held, %": 100 * off.le(1).groupby(level="rule", sort=False).mean(),
            "off": by_rule.mean(),
            "worst": by_rule.max(),
            "distortion": driven.held["distortion"].groupby(level="rule", sort=False).mean(),
        }
    ).round(2)
