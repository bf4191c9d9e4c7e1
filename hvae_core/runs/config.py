"""One strict configuration: the same keys in a profile, a notebook's parameters cell and a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from hvae_core.errors import InputError
from hvae_core.names import LAYERS
from hvae_core.runs.grid import BetaRange, FixedTotal, Fraction, Positive, Setting, few, settings
from hvae_core.runs.kinds import KINDS, Kind
from hvae_core.runs.rules import check, model_kind
from hvae_core.training.plan import Member, Plan

__all__ = ["BetaRange", "Config", "FixedTotal", "few"]

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # a beta or a rate
Numbers = Annotated[list[NotNegative], Field(min_length=1)]
Counts = Annotated[list[Count], Field(min_length=1)]


class Config(BaseModel):
    """What a run is. Two runs with equal configurations and seeds on one device have equal results.

    ``docs/configuration.md`` is made of the sentences below; `hvae_core.runs.keys` renews it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "quick"
    """Letters, digits and `._-`. Results go to `runs/NAME`, figures to `figures/NAME`."""
    dataset: Annotated[str, Field(min_length=1)] = "digits"
    """`digits`, `digits-colour`, `mnist`, `mnist-mini`, `static-mnist`, `omniglot`, `svhn`, `cifar10`, or the path of
    an .npz file or a folder of images; `toy` for the toy model."""
    train_images: Count | None = None
    """Use only the first so many training images. `null`: all."""
    test_images: Count | None = None
    """Use only the first so many test images. `null`: all."""
    model: str | Annotated[list[str], Field(min_length=1)] = "ghvae"
    """Paper A: `ghvae` or `lvae`; with `-conditioned`, one network for all betas. Paper B: a family, such as
    `-+v`, or a list of families; `toy`."""
    latent_sizes: Counts | None = None
    """Numbers of latents of z_L, ..., z_1, such as `[10, 20, 256]`; only for ghvae. `null`: the paper's two
    layers."""
    width: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the widths of the layers; only for families."""
    pseudo_inputs: Count = 500
    """Of the VampPrior; only for families ending in v."""
    encoder_context: Literal["none", "image"] = "none"
    """What a strong encoder's flow sees besides z; not for `+-v`, `++v`."""
    sigma_x: Positive = 0.71
    """Standard deviation of the Gaussian likelihood; only for 32x32x3 images."""
    betas: BetaRange | Numbers | Annotated[list[Numbers], Field(min_length=1)] = BetaRange(points=5)
    """A range in equal steps of the logarithm, or values for every layer, or one list a layer or bin, top
    first. 0 only for families."""
    bins: Counts | None = None
    """How many layers share each beta, top first, such as `[1, 3]`. `null`: a beta for every layer."""
    target_rates: FixedTotal | Annotated[list[Numbers | None], Field(min_length=1)] | None = None
    """Rates to hold, in nats per image: one list a layer, top first, `null` for a layer that keeps its betas;
    or shares of a total."""
    seeds: Count = 1
    """Models at each grid point, with seeds 0, 1, ..."""
    epochs: Count = 200
    """Passes over the training images."""
    batch_size: Count = 256
    """Images in each update."""
    learning_rate: Positive = 3e-4
    """Of Adam."""
    schedule: Literal["constant", "two-phase"] = "constant"
    """`two-phase`: the learning rate stays for half of the steps, then falls linearly to 0 (Paper B)."""
    normalise_gradients: bool = False
    """Divide the gradient of each parameter tensor by its norm before Adam (Paper B)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of layers in training, of hierarchical models only. A processor that lacks bfloat16 is slow at it."""
    warm_up: Fraction | None = None
    """Over this fraction of training all betas rise from 0. `null`: 0.2 for lvae without target rates,
    else 0."""
    generated_samples: Annotated[int, Field(ge=10)] = 10_000
    """Images generated for the Inception Score of each model."""
    classifier_epochs: Count | None = None
    """Training of the classifier behind the Inception Score. `null`: as its architecture needs."""
    likelihood_images: Count | None = None
    """Test images for the 500-sample bound, and generated ones for the information; only for families.
    `null`: all, and 100."""
    blocks: Count | None = None
    """Notebook executions that share the grid; no result depends on it. `null`: as many as suit the cores or GPUs
    present."""
    block: Annotated[int, Field(ge=0)] | None = None
    """Which block this execution trains, counted from 0. `null`: all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where models are computed. `auto`: on a GPU if there is one."""

    @field_validator("*", mode="before")
    @classmethod
    def no_truths(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name != "normalise_gradients" and _holds_truth(value):
            raise ValueError("true and false are no numbers, and no text")
        return value

    @field_validator("betas")
    @classmethod
    def distinct(cls, betas: Any) -> Any:
        for values in [betas] if isinstance(betas, list) and not isinstance(betas[0], list) else betas:
            if isinstance(values, list) and len(set(values)) < len(values):
                raise ValueError("a beta stands there twice; use seeds for several models at one point")
        return betas

    @field_validator("target_rates", mode="before")
    @classmethod
    def lists_or_shares(cls, value: Any) -> Any:
        if value is None or isinstance(value, dict | FixedTotal):
            return value
        if not isinstance(value, list) or not all(_is_rates(rates) for rates in value):
            raise ValueError(
                "one list a layer, top first, such as [[5, 10], [20]], null for a layer without; "
                "or {total: [40], shares: [0, 0.5, 1]}"
            )
        return value

    @model_validator(mode="wrap")
    @classmethod
    def complete(cls, values: Any, handler: ModelWrapValidatorHandler[Config]) -> Config:
        """Check each key, then the rules, and put values where the keys leave them open."""
        given = handler(values)
        check(given)
        return handler({**dict(given), **given._resolved()})

    def _resolved(self) -> dict[str, Any]:
        rises = self.models[0] in ("lvae", "lvae-conditioned") and self.target_rates is None
        return {
            "model": self.models[0] if len(self.models) == 1 else self.models,
            "warm_up": (0.2 if rises else 0.0) if self.warm_up is None else self.warm_up,
            "blocks": self.blocks and min(self.blocks, self.most_blocks),
        }

    @property
    def models(self) -> list[str]:
        """The names of the models, also where it is one."""
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def model_kind(self) -> str:
        """``hierarchical``, ``conditioned``, ``families`` or ``toy``."""
        return model_kind(self.models[0])

    @property
    def kind(self) -> Kind:
        """What is made of the run."""
        if isinstance(self.target_rates, FixedTotal):
            return KINDS["shares"]
        if self.target_rates:
            return KINDS["targets"]
        return KINDS["deep" if self.layers > 2 else self.model_kind]

    @property
    def layers(self) -> int:
        """L."""
        return len(self.latent_sizes) if self.latent_sizes else LAYERS[self.models[0]]

    @property
    def options(self) -> dict[str, Any]:
        """The options of `hvae_core.models.build` that these models have."""
        options: dict[str, dict[str, Any]] = {
            "hierarchical": {"sigma_x": self.sigma_x},
            "conditioned": {"sigma_x": self.sigma_x},
            "families": {
                "width": self.width,
                "pseudo_inputs": self.pseudo_inputs,
                "encoder_context": self.encoder_context,
            },
            "toy": {},
        }
        sizes = {"latent_sizes": tuple(self.latent_sizes)} if self.latent_sizes else {}
        return options[self.model_kind] | sizes

    @property
    def plan(self) -> Plan:
        """How the models are trained."""
        return Plan(
            epochs=self.epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            warm_up=self.warm_up or 0.0,
            normalise_gradients=self.normalise_gradients,
            precision=self.precision,
        )

    @property
    def bin_sizes(self) -> list[int]:
        """How many layers have each beta."""
        return self.bins or [1] * self.layers

    @property
    def knobs(self) -> list[list[float]]:
        """The betas of each bin of layers."""
        betas: Any = self.betas.values() if isinstance(self.betas, BetaRange) else self.betas
        return betas if isinstance(betas[0], list) else [betas] * len(self.bin_sizes)

    @property
    def settings(self) -> list[Setting]:
        """Betas and target rates of every grid point."""
        return settings(self.knobs, self.bin_sizes, self.target_rates)

    @property
    def block_count(self) -> int:
        """In how many blocks the run is trained."""
        return self.blocks or 1

    @property
    def most_blocks(self) -> int:
        """How many parts of the run can be trained apart."""
        return len(self.members()) // self._together

    @property
    def _together(self) -> int:
        """How many members cannot be trained apart: all points of one conditioned network."""
        return len(self.settings) if self.model_kind == "conditioned" else 1

    def members(self) -> list[Member]:
        """Every model of the run, in the order of all its tables.

        By name, seed, then betas and targets, top layer slowest.
        """
        points = self.settings
        return [
            Member(betas, seed, name, targets)
            for name in self.models
            for seed in range(self.seeds)
            for betas, targets in points
        ]

    def block_members(self) -> range:
        """The indices into `members` that this execution trains."""
        parts, together = self.most_blocks, self._together
        if self.block is None:
            return range(parts * together)
        start, stop = (parts * edge // self.block_count * together for edge in (self.block, self.block + 1))
        return range(start, stop)

    def dump(self) -> dict[str, Any]:
        """As plain values, for YAML, JSON and papermill."""
        return self.model_dump(mode="json")

    @classmethod
    def make(cls, values: Mapping[str, Any], source: str = "configuration") -> Config:
        """A configuration from plain values.

        Raises:
            InputError: one line with the first key that is unknown or whose value is not allowed.

        Example:
            >>> Config.make({"epoch": 3})
            Traceback (most recent call last):
            hvae_core.errors.InputError: configuration: unknown key 'epoch'; did you mean 'epochs'?
        """
        for key in values:
            if key not in cls.model_fields:
                close = get_close_matches(str(key), cls.model_fields, 1)
                hint = f"did you mean '{close[0]}'?" if close else f"allowed are {', '.join(cls.model_fields)}"
                raise InputError(f"{source}: unknown key '{key}'; {hint}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise InputError(f"{source}: {_first_line(error)}") from None


def _holds_truth(value: Any) -> bool:
    """Whether there is a true or a false in it, which Python takes for 1 and 0."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, bool) or any(map(_holds_truth, parts))


def _is_rates(rates: Any) -> bool:
    return rates is None or (isinstance(rates, list) and bool(rates) and None not in rates)


def _first_line(error: ValidationError) -> str:
    # A union (betas) reports one error a branch; the one about the value itself says the most.
    details = error.errors()
    detail = next((d for d in details if not d["type"].endswith("_type")), details[0])
    key = ".".join(str(part) for part in detail["loc"][:1])
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return message
    if detail["type"] == "extra_forbidden":
        return f"{key}: it has no part '{detail['loc'][-1]}'"
    if detail["type"] == "string_pattern_mismatch":
        message = "allowed are letters from a to z or A to Z, digits and ._-, a letter or digit first"
    if detail["type"] == "model_type":
        message = "a range {low: 0.1, high: 100, points: 5}, a list such as [0.1, 1], or one list a layer"
    return f"{key} = {shortened(str(detail['input']))}: {message[0].lower()}{message[1:]}"


def shortened(text: str, most: int = 60) -> str:
    """A text of so many letters at most.

    Example:
        >>> shortened("a long value", 9)
        'a long...'
    """
    return text if len(text) <= most else text[: most - 3] + "..."
