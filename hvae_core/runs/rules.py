"""What makes no run: the rules that the keys of a configuration obey together.

What a key may be by itself stands with its type, in `config.Config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hvae_core.names import CONDITIONED, HIERARCHICAL, LAYERS, check_sizes, without_context
from hvae_core.runs.grid import FixedTotal

Config = Any  # `hvae_core.runs.config.Config`, which imports these rules


@dataclass(frozen=True)
class Rule:
    """A mistake, and the line that names it.

    Attributes:
        applies: whether the configuration has it.
        problem: the line; asked only where the rule applies.
    """

    applies: Callable[[Config], bool]
    problem: Callable[[Config], str]


def check(config: Config) -> None:
    """Ask the rules in their order: each may rely on those before it.

    Raises:
        ValueError: with the first problem.
    """
    for rule in RULES:
        if rule.applies(config):
            raise ValueError(rule.problem(config))


def model_kind(model: str) -> str:
    """``hierarchical``, ``conditioned``, ``families`` or ``toy``: those of one kind have the same options."""
    if model in HIERARCHICAL:
        return "hierarchical"
    if model in CONDITIONED:
        return "conditioned"
    return "toy" if model == "toy" else "families"


def _unknown(config: Config) -> list[str]:
    return [name for name in config.models if name not in LAYERS]


def _make_no_run_together(config: Config) -> bool:
    return len(config.models) > 1 and {model_kind(name) for name in config.models} != {"families"}


def _refusal(function: Callable[..., object], *arguments: object) -> str:
    """What a function says against its arguments; nothing where it takes them."""
    try:
        function(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def _sizes(config: Config) -> str:
    return _refusal(check_sizes, config.latent_sizes) if config.latent_sizes else ""


def _shares(config: Config) -> str:
    targets = config.target_rates
    return _refusal(targets.points, config.layers) if isinstance(targets, FixedTotal) else ""


def _held(config: Config) -> list[bool]:
    """Whether there is a target for each entry of ``target_rates``, which should be one a layer."""
    if config.target_rates is None or isinstance(config.target_rates, FixedTotal):
        return [config.target_rates is not None] * config.layers
    return [rates is not None for rates in config.target_rates]


def _without_a_start(config: Config) -> list[int]:
    """The numbers of the layers that have a target, and not the one beta to start from."""
    layers = zip(range(config.layers, 0, -1), config.knobs, _held(config), strict=True)
    return [number for number, betas, held in layers if held and (len(betas) > 1 or betas[0] == 0)]


HAVE = {
    **dict.fromkeys(("width", "pseudo_inputs", "encoder_context", "likelihood_images"), ("families",)),
    "sigma_x": ("hierarchical", "conditioned"),
}
"""Keys that only models of these kinds have; others would be trained as if nothing had been asked."""


def with_effect(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a finished run that its models have: earlier versions took others, without effect.

    Example:
        >>> with_effect({"model": "ghvae", "width": 0.5, "epochs": 3})
        {'model': 'ghvae', 'epochs': 3}
    """
    model = values.get("model", "ghvae")
    first = model[0] if isinstance(model, list) and model else model
    if not isinstance(first, str):  # which the configuration refuses in a line
        return dict(values)
    return {key: value for key, value in values.items() if key not in HAVE or model_kind(first) in HAVE[key]}


def _without_effect(config: Config) -> list[str]:
    """The keys that were changed, and that no model of the run has."""
    changed = [key for key in HAVE if getattr(config, key) != type(config).model_fields[key].default]
    return [key for key in changed if config.model_kind not in HAVE[key]]


RULES = (
    # Models
    Rule(
        lambda c: bool(_unknown(c)),
        lambda c: (
            f"model: no model is called '{_unknown(c)[0]}'; there are {', '.join(LAYERS)}; "
            "CONTRIBUTING.md says where one of your own is named"
        ),
    ),
    Rule(
        lambda c: len(set(c.models)) < len(c.models),
        lambda c: "model: a model stands there twice; use seeds for several of a kind",
    ),
    Rule(
        _make_no_run_together,
        lambda c: f"model: {', '.join(c.models)} make no run together; only families of Paper B do",
    ),
    # Layers, and the betas they have
    Rule(
        lambda c: c.latent_sizes is not None and c.models != ["ghvae"],
        lambda c: "latent_sizes: only ghvae is made of any number of layers",
    ),
    Rule(lambda c: bool(_sizes(c)), _sizes),
    Rule(
        lambda c: sum(c.bin_sizes) != c.layers,
        lambda c: f"bins: {c.bins} hold {sum(c.bin_sizes)} layers, {c.models[0]} has {c.layers}",
    ),
    Rule(
        lambda c: len(c.knobs) != len(c.bin_sizes),
        lambda c: (
            f"betas: {len(c.knobs)} lists for the {len(c.bin_sizes)} {'bins' if c.bins else 'layers'} of {c.models[0]}"
        ),
    ),
    # Target rates
    Rule(
        lambda c: c.target_rates is not None and c.model_kind != "hierarchical",
        lambda c: f"target_rates: for the hierarchical models, ghvae and lvae, not {c.models[0]}",
    ),
    Rule(lambda c: bool(_shares(c)), _shares),
    Rule(
        lambda c: len(_held(c)) != c.layers,
        lambda c: (
            f"target_rates: {len(_held(c))} entries for the {c.layers} layers of {c.models[0]}; "
            "null for a layer without"
        ),
    ),
    Rule(
        lambda c: c.target_rates is not None and not any(_held(c)),
        lambda c: "target_rates: no layer has one; leave the key out",
    ),
    Rule(
        lambda c: c.target_rates is not None and c.bins is not None,
        lambda c: "bins: with target rates every layer has a multiplier of its own",
    ),
    Rule(
        lambda c: c.target_rates is not None and bool(_without_a_start(c)),
        lambda c: (
            f"betas: z_{_without_a_start(c)[0]} has a target rate, so it takes one beta, above 0, "
            "to start from; such as betas: [[0.1], [0.1]]"
        ),
    ),
    Rule(
        lambda c: c.target_rates is not None and len(set(c.settings)) < len(c.settings),
        lambda c: "target_rates: a setting stands there twice; use seeds for several models at one point",
    ),
    Rule(
        lambda c: c.target_rates is not None and bool(c.warm_up),
        lambda c: "warm_up: with target rates the multipliers follow the rates; set it to 0",
    ),
    # Kinds of models
    Rule(
        lambda c: c.model_kind == "toy" and (c.dataset, c.betas) != ("toy", [[1.0]]),
        lambda c: "model toy: it has a data set of its own, toy, and betas [[1.0]]",
    ),
    Rule(
        lambda c: c.model_kind == "toy" and c.batch_size < 30,
        lambda c: f"batch_size = {c.batch_size}: the toy model's thirty states are one batch",
    ),
    Rule(
        lambda c: c.model_kind in ("hierarchical", "conditioned") and any(0 in betas for betas in c.knobs),
        lambda c: "betas: 0 is for families of Paper B; the hierarchical models are drawn over log beta",
    ),
    Rule(
        lambda c: c.model_kind == "conditioned" and c.normalise_gradients,
        lambda c: "normalise_gradients: not for conditioned models",
    ),
    Rule(
        lambda c: c.model_kind == "conditioned" and c.bins is not None,
        lambda c: "bins: a conditioned network has a beta for every layer",
    ),
    Rule(
        lambda c: c.model_kind == "conditioned" and c.sigma_x < 0.4,
        lambda c: (
            f"sigma_x = {c.sigma_x:g}: at least 0.4 for conditioned models, which take the logarithm "
            "of L; below, D may be negative"
        ),
    ),
    Rule(
        lambda c: c.model_kind == "families" and any(without_context(name, c.encoder_context) for name in c.models),
        lambda c: next(filter(None, (without_context(name, c.encoder_context) for name in c.models))),
    ),
    Rule(
        lambda c: bool(_without_effect(c)),
        lambda c: (
            f"{_without_effect(c)[0]}: {c.models[0]} has no such key; it is for "
            f"{'families of Paper B' if 'families' in HAVE[_without_effect(c)[0]] else 'ghvae and lvae'}"
        ),
    ),
    # Computing
    Rule(
        lambda c: c.block is not None and c.block >= min(c.block_count, c.most_blocks),
        lambda c: f"block: {c.block} of {min(c.block_count, c.most_blocks)} blocks; they are counted from 0",
    ),
    Rule(
        lambda c: c.precision != "float32" and c.model_kind not in ("hierarchical", "conditioned"),
        lambda c: f"precision = {c.precision}: for the hierarchical models, ghvae and lvae, not {c.models[0]}",
    ),
)
