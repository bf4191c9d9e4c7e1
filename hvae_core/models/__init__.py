"""The architectures, by name. Each has a file of its own; `build` imports it when it is asked for.

::

    distributions.py   what posteriors, priors and likelihoods can do
    hierarchy.py       what every model here is: a chain of conditional distributions
    contract.py        whether it is: asked of a model before it is trained
    ghvae.py, lvae.py  Paper A, Tables 2 and 3
    deep.py            the GHVAE with more than two layers; not in the paper
    conditioning.py    one network for all betas; not in the paper
    paper_b/           the twelve families and the toy model of Paper B
    table.py           an architecture as a table
"""

import importlib
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hvae_core.errors import InputError
from hvae_core.names import CONDITIONED, FAMILIES, HIERARCHICAL, LAYERS

if TYPE_CHECKING:  # PyTorch takes seconds to import, and to know the names takes none of it
    from hvae_core.models.hierarchy import HierarchicalVAE

REGISTRY = {
    "ghvae": "hvae_core.models.ghvae:GHVAE",
    "lvae": "hvae_core.models.lvae:LVAE",
    **dict.fromkeys(FAMILIES, "hvae_core.models.paper_b.families:Family"),
    "toy": "hvae_core.models.paper_b.toy:Toy",
}
"""Where the class of each model is."""
DEEP = "hvae_core.models.deep:DeepGHVAE"
IMAGE_SHAPES = {
    **dict.fromkeys(HIERARCHICAL, ((1, 28, 28), (3, 32, 32))),
    **dict.fromkeys(FAMILIES, ((1, 28, 28),)),
}
"""The images that each model is made for, (C, H, W)."""


def module_of(model: str, deep: bool = False) -> str:
    """The module that a model's class is in; ``deep`` for a GHVAE of more than two layers."""
    return (DEEP if deep else REGISTRY[CONDITIONED.get(model, model)]).partition(":")[0]


def build(model: str, image_shape: tuple[int, int, int], **options: Any) -> "HierarchicalVAE":
    """The model called ``model`` for images of ``image_shape`` (C, H, W), with fresh random weights.

    Arguments:
        model: ``ghvae``, ``lvae``, or one of Paper B's twelve families, such as ``-+v``. Of ``ghvae-conditioned`` and
            ``lvae-conditioned`` it is the model that is conditioned, which is also what it is at given betas.
        image_shape: ``(1, 28, 28)``; for ``ghvae`` and ``lvae`` also ``(3, 32, 32)``.
        options: ``sigma_x`` (``ghvae``, ``lvae``), the fixed standard deviation of the Gaussian likelihood (default
            0.71). ``latent_sizes`` (``ghvae``), the numbers of latents of z_L, ..., z_1 (default: the paper's two
            layers). ``width`` (families), a factor on the numbers of features and hidden units (default 1), and
            ``encoder_context`` (families), "none" or "image": what the flow of a strong encoder sees besides z;
            ``pseudo_inputs`` (families), the number of components of the VampPrior (default 500), which marginals
            - and + do without.

    Raises:
        InputError: for a model, shape or option that is not there.

    Example:
        >>> sum(p.numel() for p in build("ghvae", (3, 32, 32)).parameters())
        475811
        >>> sum(p.numel() for p in build("---", (1, 28, 28)).parameters())
        2998177
    """
    check_shape(model, image_shape)
    model = CONDITIONED.get(model, model)
    if model not in REGISTRY:
        raise InputError(f"model {model}: it has a name, and no class: REGISTRY in hvae_core/models/__init__.py")
    if options.get("latent_sizes") is None:
        options.pop("latent_sizes", None) if model == "ghvae" else None
    make = _named(DEEP if model == "ghvae" and "latent_sizes" in options else REGISTRY[model])
    allowed = [name for name in inspect.signature(make).parameters if name not in ("image_shape", "family")]
    for name in options:
        if name not in allowed:
            raise InputError(f"model {model}: no option is called {name!r}; there are {', '.join(allowed)}")
    return make(tuple(image_shape), *([model] if model in FAMILIES else []), **options)


def check_shape(model: str, image_shape: tuple[int, int, int]) -> None:
    """Whether there is such a model for such images.

    Raises:
        InputError: if not.
    """
    if model == "toy":
        raise InputError("model toy: it is no model of images; 70_toy is its notebook, ./run_all.sh rd-toy its profile")
    if model not in LAYERS:
        raise InputError(f"model: no model is called {model!r}; there are {', '.join([*HIERARCHICAL, *FAMILIES])}")
    shapes = IMAGE_SHAPES[CONDITIONED.get(model, model)]
    if tuple(image_shape) not in shapes:
        allowed = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise InputError(f"model {model}: images of {'x'.join(map(str, image_shape))}; it is made for {allowed}")


def _named(place: str) -> Callable[..., "HierarchicalVAE"]:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{place}, as REGISTRY in hvae_core/models/__init__.py has it: {error}") from error
