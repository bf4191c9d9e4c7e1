"""One strict configuration. The same keys stand in a profile, in a notebook's parameters cell and in a run folder."""

import itertools
import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from hvae_core.errors import InputError
from hvae_core.names import CONDITIONED, HIERARCHICAL, LAYERS, check_sizes

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "profiles"

_EVERY_MODEL = ("terms", "models.distributions", "models.hierarchy")
_TRAINING = ("objective", "population", "evaluation.rates", "evaluation.blocks")


class Kind(NamedTuple):
    """What is made of a run, by the kind of its models. Batch, store and Snakefile read it here.

    Attributes:
        stages: each makes a table, in the notebook of that name.
        figures, tables: what `notebook` draws.
        code: the modules of `hvae_core` that a stage's results are computed by. When what they do changes, the stage
            is out of date.
    """

    stages: tuple[str, ...]
    notebook: str
    figures: tuple[str, ...]
    tables: tuple[str, ...]
    code: dict[str, tuple[str, ...]]


_APPLICATIONS = ("reconstruction", "generation", "representation")
_HIERARCHICAL_CODE = {
    "training": (*_EVERY_MODEL, "models.layers", "models.convolutions", "models.ghvae", "models.lvae", *_TRAINING),
    "reconstruction": ("evaluation.blocks", "evaluation.reconstruction"),
    "generation": ("evaluation.blocks", "evaluation.generation", "evaluation.classifier"),
    "representation": ("evaluation.blocks", "evaluation.representation", "evaluation.bounds"),
}
_TARGET_CODE = {**_HIERARCHICAL_CODE, "training": (*_HIERARCHICAL_CODE["training"], "target_rates")}

KINDS = {
    "hierarchical": Kind(  # Paper A
        _APPLICATIONS, "50_figures",
        tuple(f"fig{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9)), ("table1", "table2", "table3"), _HIERARCHICAL_CODE,
    ),
    "deep": Kind(  # Paper A, Section 3.2, with more than two layers
        _APPLICATIONS, "90_deep_hierarchies",
        ("layers", *(f"fig{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9))), ("table1", "table2"), _HIERARCHICAL_CODE,
    ),
    "conditioned": Kind(  # one network for all betas
        _APPLICATIONS, "95_conditioned",
        ("surface", "sliding", *(f"fig{n}" for n in (1, 3, 4, 5, 6, 7, 8, 9))), ("table1",),
        {**_HIERARCHICAL_CODE, "training": (*_HIERARCHICAL_CODE["training"], "models.conditioning", "conditioned")},
    ),
    "targets": Kind(_APPLICATIONS, "80_target_rates", ("targets",), ("targets_table",), _TARGET_CODE),
    "shares": Kind(_APPLICATIONS, "80_target_rates", ("targets", "shares"), ("targets_table", "shares_table"), _TARGET_CODE),
    "families": Kind(  # Paper B, Appendix F
        ("likelihood",), "60_rate_distortion", ("b_fig3", "b_fig4"), ("b_table1",),
        {
            "training": (*_EVERY_MODEL, "models.layers", "models.convolutions", "models.flows", "models.pixelcnn", "models.families", *_TRAINING),
            "likelihood": ("evaluation.likelihood",),
        },
    ),
    "toy": Kind((), "70_toy", ("b_fig2",), (), {"training": (*_EVERY_MODEL, "models.toy", *_TRAINING)}),  # Paper B, Appendix E
}  # fmt: skip
NOTEBOOKS = {"reconstruction": "20_reconstruction", "generation": "30_generation",
             "representation": "40_representation", "likelihood": "45_likelihood"}  # fmt: skip

Beta = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Width = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class Member(NamedTuple):
    """One model of a population.

    Attributes:
        betas: one a layer, top layer first; where a layer has a target, the beta that it starts from.
        seed: of weights, order of images and noise.
        model: its name, in a run of several models.
        targets: the rate to hold, nats per image, or None, one a layer; empty where no layer has one.
    """

    betas: tuple[float, ...]
    seed: int
    model: str = ""
    targets: tuple[float | None, ...] = ()


class BetaRange(BaseModel):
    """Betas from ``low`` to ``high`` in equal steps of the logarithm; the point nearest to 1 is replaced by 1.

    The paper's 21 points from 0.1 to 100 have no 1 among them (the nearest is 1.122), yet the VAE is one of the
    models it marks; hence the replacement, for which 1 must lie within the range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    high: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 100.0
    points: Annotated[int, Field(ge=1)] = 21

    @model_validator(mode="after")
    def ordered(self) -> "BetaRange":
        if self.low > self.high or (self.points == 1) != (self.low == self.high):
            raise ValueError(f"low {self.low:g}, high {self.high:g} and points {self.points} make no range")
        return self

    def values(self) -> list[float]:
        """The betas of one layer, rising.

        Example:
            >>> [round(beta, 3) for beta in BetaRange(low=0.1, high=100, points=5).values()]
            [0.1, 1.0, 3.162, 17.783, 100.0]
        """
        if self.points == 1:
            return [self.low]
        exponents = [math.log10(self.low) + k * math.log10(self.high / self.low) / (self.points - 1)
                     for k in range(self.points)]  # fmt: skip
        values = [float(f"{10**exponent:.12g}") for exponent in exponents]
        if self.low <= 1 <= self.high:
            values[min(range(self.points), key=lambda k: abs(exponents[k]))] = 1.0
        return values


class FixedTotal(BaseModel):
    """Target rates that share a fixed total: ``{total: [40], shares: [0, 0.5, 1]}``.

    A share is that of z_L; the other layers have equal parts of the rest. Or it is a list, one share a layer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=1)]
    shares: Annotated[list[Share | list[Share]], Field(min_length=1)]

    def points(self, layers: int) -> list[tuple[float, ...]]:
        """The target rates, top layer first.

        Example:
            >>> FixedTotal(total=[40], shares=[0.25, 1]).points(layers=2)
            [(10.0, 30.0), (40.0, 0.0)]
        """
        points = []
        for total in self.total:
            for share in self.shares:
                split = share if isinstance(share, list) else [share, *[(1 - share) / max(1, layers - 1)] * (layers - 1)]
                if len(split) != layers or abs(sum(split) - 1) > 1e-6:
                    raise ValueError(f"target_rates: shares {split} are not {layers} numbers that add up to 1")
                points.append(tuple(total * part for part in split))
        return points


class Config(BaseModel):
    """What a run is. Two runs with equal configurations and seeds on one device have equal results."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)] = "quick"
    """The run: results go to runs/<name>, figures to figures/<name>."""
    dataset: Annotated[str, Field(min_length=1)] = "digits"
    """digits, mnist, static-mnist, omniglot, svhn, cifar10, or a path to an .npz file or a folder of images."""
    train_images: Annotated[int, Field(ge=1)] | None = None
    """Use only the first so many training images; null: all."""
    test_images: Annotated[int, Field(ge=1)] | None = None
    """Use only the first so many test images; null: all."""
    model: str | Annotated[list[str], Field(min_length=1)] = "ghvae"
    """ghvae or lvae (Paper A), or either with -conditioned, one network for all betas; a family of Paper B, such as "-+v", or a list of families; toy."""
    latent_sizes: Annotated[list[Count], Field(min_length=1)] | None = None
    """Numbers of latents of z_L, ..., z_1, such as [10, 20, 256] (ghvae only); null: the paper's two layers."""
    width: Width = 1.0
    """Factor on the layers' widths (families only)."""
    pseudo_inputs: Annotated[int, Field(ge=1)] = 500
    """Of the VampPrior (families ending in v)."""
    sigma_x: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.71
    """Standard deviation of the Gaussian likelihood (32x32x3 images only)."""
    betas: BetaRange | Annotated[list[Beta], Field(min_length=1)] | Annotated[
        list[Annotated[list[Beta], Field(min_length=1)]], Field(min_length=1)
    ] = BetaRange(points=5)  # fmt: skip
    """{low, high, points}, or a list of values for every layer, or one list a layer or bin, top layer first; 0 for families only."""
    bins: Annotated[list[Count], Field(min_length=1)] | None = None
    """How many layers share each beta, top first, such as [1, 3]; null: a beta for every layer."""
    target_rates: FixedTotal | Annotated[list[Annotated[list[Rate], Field(min_length=1)] | None], Field(min_length=1)] | None = None
    """Rates to hold, nats per image: one list a layer, top first, or null for a layer that keeps its betas; or {total, shares}."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Models at each grid point, with seeds 0, 1, ..."""
    epochs: Annotated[int, Field(ge=1)] = 200
    batch_size: Annotated[int, Field(ge=1)] = 256
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-4
    schedule: Literal["constant", "two-phase"] = "constant"
    """two-phase: the learning rate stays for half of the steps, then falls linearly to 0 (Paper B)."""
    normalise_gradients: bool = False
    """Divide the gradient of each parameter tensor by its norm before Adam (Paper B)."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which a network's layers are computed in training; distributions, parameters and Adam stay in float32 (ghvae and lvae only)."""
    warm_up: Annotated[float, Field(ge=0, le=1)] | None = None
    """The fraction of training over which all betas rise from 0; null: 0.2 for lvae, none for ghvae or with target rates."""
    generated_samples: Annotated[int, Field(ge=10)] = 10_000
    """Images generated a model for the Inception Score."""
    classifier_epochs: Annotated[int, Field(ge=1)] | None = None
    """Training of the classifier behind the Inception Score; null: as its architecture needs."""
    likelihood_images: Annotated[int, Field(ge=1)] | None = None
    """Test images for the 500-sample bound, and generated ones for the information (families only); null: all, and 100."""
    blocks: Annotated[int, Field(ge=1)] = 1
    """The grid is trained in so many notebook executions, in parallel as cores or GPUs allow; no result depends on it."""
    block: Annotated[int, Field(ge=0)] | None = None
    """Which block this execution trains; null: all."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

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
        lists = isinstance(value, list) and all(v is None or (isinstance(v, list) and v and None not in v) for v in value)
        if not lists:
            raise ValueError("one list a layer, top first, such as [[5, 10], [20]], null for a layer without; or {total: [40], shares: [0, 0.5, 1]}")
        return value

    @model_validator(mode="after")
    def consistent(self) -> "Config":
        for name in self.models:
            if name not in LAYERS:
                raise ValueError(f"model: no model is called '{name}'; there are {', '.join(LAYERS)}")
        if len(set(self.models)) < len(self.models):
            raise ValueError("model: a model stands there twice; use seeds for several of a kind")
        if len({_kind(name) for name in self.models}) > 1 or (len(self.models) > 1 and _kind(self.models[0]) != "families"):
            raise ValueError(f"model: {', '.join(self.models)} make no run together; only families of Paper B do")
        if len(self.models) == 1:
            object.__setattr__(self, "model", self.models[0])
        if self.latent_sizes is not None:
            if self.model != "ghvae":
                raise ValueError("latent_sizes: only ghvae is made of any number of layers")
            check_sizes(self.latent_sizes)
        if self.bins is not None and sum(self.bins) != self.layers:
            raise ValueError(f"bins: {self.bins} hold {sum(self.bins)} layers, {self.models[0]} has {self.layers}")
        knobs = len(self._bins)
        if isinstance(self.betas, list) and isinstance(self.betas[0], list) and len(self.betas) != knobs:
            raise ValueError(f"betas: {len(self.betas)} lists for the {knobs} {'bins' if self.bins else 'layers'} of {self.models[0]}")
        if self.target_rates is not None:
            self._check_targets()
        if _kind(self.models[0]) == "toy" and (self.dataset, self.betas) != ("toy", [[1.0]]):
            raise ValueError("model toy: it has a data set of its own, toy, and betas [[1.0]]")
        if _kind(self.models[0]) == "toy" and self.batch_size < 30:
            raise ValueError(f"batch_size = {self.batch_size}: the toy model's thirty states are one batch")
        if _kind(self.models[0]) in ("hierarchical", "conditioned") and any(0 in member.betas for member in self.members()):
            raise ValueError("betas: 0 is for families of Paper B; the hierarchical models are drawn over log beta")
        if _kind(self.models[0]) == "conditioned" and self.normalise_gradients:
            raise ValueError("normalise_gradients: not for conditioned models")
        if _kind(self.models[0]) == "conditioned" and self.bins:
            raise ValueError("bins: a conditioned network has a beta for every layer")
        if _kind(self.models[0]) == "conditioned" and self.sigma_x < 0.4:
            raise ValueError(f"sigma_x = {self.sigma_x:g}: at least 0.4 for conditioned models, which take the logarithm of L; below, D may be negative")
        if len(self.members()) // self._together < self.blocks:
            object.__setattr__(self, "blocks", len(self.members()) // self._together)
        if self.block is not None and self.block >= self.blocks:
            raise ValueError(f"block: {self.block} of {self.blocks} blocks; they are counted from 0")
        if self.precision != "float32" and _kind(self.models[0]) not in ("hierarchical", "conditioned"):
            raise ValueError(f"precision = {self.precision}: for the hierarchical models, ghvae and lvae, not {self.models[0]}")
        if self.warm_up is None:
            object.__setattr__(self, "warm_up", 0.2 if self.model in ("lvae", "lvae-conditioned") and not self.target_rates else 0.0)
        return self

    @property
    def models(self) -> list[str]:
        """The names of the models, also where it is one."""
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def kind(self) -> Kind:
        """What is made of the run."""
        return KINDS[self._kind_name]

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
            "families": {"width": self.width, "pseudo_inputs": self.pseudo_inputs},
            "toy": {},
        }
        sizes = {"latent_sizes": tuple(self.latent_sizes)} if self.latent_sizes else {}
        return options[_kind(self.models[0])] | sizes

    @property
    def _kind_name(self) -> str:
        if isinstance(self.target_rates, FixedTotal):
            return "shares"
        if self.target_rates:
            return "targets"
        return "deep" if self.layers > 2 else _kind(self.models[0])

    @property
    def _together(self) -> int:
        """How many members cannot be trained apart: all points of one conditioned network."""
        return len(list(self._points())) if _kind(self.models[0]) == "conditioned" else 1

    @property
    def _bins(self) -> list[int]:
        return self.bins or [1] * self.layers

    def _knobs(self) -> list[list[float]]:
        """The betas of each bin of layers."""
        betas: Any = self.betas.values() if isinstance(self.betas, BetaRange) else self.betas
        return betas if isinstance(betas[0], list) else [betas] * len(self._bins)

    def _check_targets(self) -> None:
        if _kind(self.models[0]) != "hierarchical":
            raise ValueError(f"target_rates: for the hierarchical models, ghvae and lvae, not {self.models[0]}")
        if isinstance(self.target_rates, FixedTotal):
            held = [True] * self.layers
            self.target_rates.points(self.layers)
        else:
            held = [values is not None for values in self.target_rates or []]
            if len(held) != self.layers:
                raise ValueError(f"target_rates: {len(held)} entries for the {self.layers} layers of {self.models[0]}; null for a layer without")
            if not any(held):
                raise ValueError("target_rates: no layer has one; leave the key out")
        if self.bins is not None:
            raise ValueError("bins: with target rates every layer has a multiplier of its own")
        for number, betas, is_held in zip(range(self.layers, 0, -1), self._knobs(), held, strict=True):
            if is_held and (len(betas) > 1 or betas[0] == 0):
                raise ValueError(f"betas: z_{number} has a target rate, so it takes one beta, above 0, to start from; "
                                 "such as betas: [[0.1], [0.1]]")  # fmt: skip
        points = list(self._points())
        if len(set(points)) < len(points):
            raise ValueError("target_rates: a setting stands there twice; use seeds for several models at one point")
        if self.warm_up:
            raise ValueError("warm_up: with target rates the multipliers follow the rates; set it to 0")

    def _points(self) -> Iterator[tuple[tuple[float, ...], tuple[float | None, ...]]]:
        """Betas and targets of every setting."""
        bins = self._bins
        for values in itertools.product(*self._knobs()):
            betas = tuple(beta for beta, count in zip(values, bins, strict=True) for _ in range(count))
            if self.target_rates is None:
                yield betas, ()
            elif isinstance(self.target_rates, FixedTotal):
                yield from ((betas, targets) for targets in self.target_rates.points(self.layers))
            else:
                none: list[float | None] = [None]
                yield from ((betas, targets) for targets in itertools.product(*[rates or none for rates in self.target_rates]))

    def members(self) -> list[Member]:
        """Every model of the run, in the order of all its tables: by name, seed, then betas and targets, top layer slowest."""
        points = list(self._points())
        return [Member(betas, seed, name, targets) for name in self.models for seed in range(self.seeds) for betas, targets in points]

    def block_members(self) -> range:
        """The indices into `members` that this execution trains."""
        together = self._together
        count = len(self.members()) // together
        if self.block is None:
            return range(count * together)
        return range(count * self.block // self.blocks * together, count * (self.block + 1) // self.blocks * together)

    def dump(self) -> dict[str, Any]:
        """As plain values, for YAML, JSON and papermill."""
        return self.model_dump(mode="json")

    @classmethod
    def make(cls, values: Mapping[str, Any], source: str = "configuration") -> "Config":
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

    @classmethod
    def from_parameters(cls, namespace: Mapping[str, Any]) -> "Config":
        """The configuration in a notebook's parameters cell: ``Config.from_parameters(globals())``."""
        return cls.make({key: namespace[key] for key in cls.model_fields}, source="parameters cell")


def _kind(model: str) -> str:
    kinds = {**dict.fromkeys(HIERARCHICAL, "hierarchical"), **dict.fromkeys(CONDITIONED, "conditioned"), "toy": "toy"}
    return kinds.get(model, "families")


def _first_line(error: ValidationError) -> str:
    # A union (betas) reports one error a branch; the one about the value itself says the most.
    details = error.errors()
    detail = next((d for d in details if not d["type"].endswith("_type")), details[0])
    key = ".".join(str(part) for part in detail["loc"][:1])
    message = detail["msg"].removeprefix("Value error, ")
    if not key:
        return message
    value = str(detail["input"])
    value = value if len(value) <= 60 else value[:57] + "..."
    return f"{key} = {value}: {message[0].lower()}{message[1:]}"


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: when the file cannot be read or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a profile is a list of 'key: value' lines")
    return values


def profiles() -> list[str]:
    """The names of the profiles."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(profile: str, changes: list[str] | None = None, name: str | None = None) -> Config:
    """The configuration of a profile, with ``key=value`` changes (dotted keys reach into ``betas``).

    Raises:
        InputError: for an unknown profile or key, or a value that is not allowed.

    Example:
        >>> load_profile("quick", ["epochs=5"], name="short").epochs
        5
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        raise InputError(f"no profile '{profile}'; there are {', '.join(profiles())}, or give a path to a .yaml file")
    values = {"name": path.stem, **read_yaml(path)}
    for change in changes or []:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: write key=value")
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # such as 2024-13-45, a date that there is not
            raise InputError(f"--set {change}: '{text}' is not a value") from None
        if key == "model" and value is None:
            value = text  # the family --- is the mark of a document's start to YAML
        outer, dot, inner = key.partition(".")
        if dot:
            if not isinstance(values.get(outer), dict):
                raise InputError(f"--set {change}: '{outer}' has no parts in this profile")
            values[outer] = {**values[outer], inner: value}
        else:
            values[key] = value
    if name is not None:
        values["name"] = name
    dataset = values.get("dataset")
    if isinstance(dataset, str):
        try:
            given = Path(dataset).expanduser()
        except RuntimeError as error:  # no such user's home
            raise InputError(f"dataset = {dataset}: {error}") from None
        if given.exists():
            from hvae_core.data import NAMES  # takes PyTorch: only for what may be a path

            if dataset not in NAMES:
                values["dataset"] = str(given.resolve())  # the jobs run in another folder
    return Config.make(values, source=f"profile {path.stem}")
