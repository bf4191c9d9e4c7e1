"""The models by name and their layers: what a configuration is checked against.

Without PyTorch, which takes seconds to import, so that the processes of a batch that train nothing do without.
"""

from collections.abc import Sequence
from itertools import product

from hvae_core.errors import InputError

HIERARCHICAL = ("ghvae", "lvae")  # Paper A; their classes are in `hvae_core.models.REGISTRY`
CONDITIONED = {
    f"{name}-conditioned": name for name in HIERARCHICAL
}  # on their betas: see `hvae_core.models.conditioning`
FAMILIES = tuple("".join(signs) for signs in product("-+", "-+", "-+v"))  # Paper B: encoder, decoder, marginal
LAYERS = {
    **dict.fromkeys(HIERARCHICAL, 2),
    **dict.fromkeys(CONDITIONED, 2),
    **dict.fromkeys(FAMILIES, 1),
    "toy": 1,
}  # L of each
SPREADS = (1.0, 3.0)  # of the toy model's parameters before training: it starts at about 0.2 and at 1 nats
PROBES = ("logistic", "linear_svm", "rbf_svm", "knn")  # the classifiers of Paper A, Section 5.6
PROBE_NAMES = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))
DATASETS = ("digits", "digits-colour", "mnist", "mnist-mini", "static-mnist", "omniglot", "svhn", "cifar10")


def check_sizes(latent_sizes: Sequence[int]) -> None:
    """Whether a GHVAE can have latent layers of these sizes.

    Raises:
        InputError: if not.
    """
    if len(latent_sizes) < 2 or min(latent_sizes) < 1 or latent_sizes[-1] % 16:
        raise InputError(
            f"latent_sizes: {list(latent_sizes)}; at least two layers, the last a number of 4x4 maps, so a "
            "multiple of 16"
        )


def without_context(family: str, encoder_context: str) -> str:
    """Why a family cannot have this context of its encoder's flow; "" where it can."""
    if encoder_context == "none" or not (family[0] == "+" and family[2] == "v"):
        return ""
    return (
        f"model {family}: encoder_context = {encoder_context}: not with a strong encoder and marginal v, "
        "whose density would take an inversion of the flow for every pseudo-input"
    )
