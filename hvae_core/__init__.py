"""Hierarchical variational autoencoders with one Lagrange multiplier per layer.

A companion to two papers:

    A  Xiao & Bamler, Trading Information between Latents in Hierarchical Variational Autoencoders, ICLR 2023
    B  Alemi et al., Fixing a Broken ELBO, ICML 2018

All rates, distortions and information are in nats per image. From the papers' symbols to names:

    ===========================  ======================================  ==========================================
    paper                        meaning                                 here
    ===========================  ======================================  ==========================================
    x, y                         image, class label                      ``x``, ``y``
    L                            number of latent layers; z_L on top     ``model.layers``
    z_2, z_1                     latents of L = 2                        ``z2``, ``z1``; lists of them top first
    p(z_l | z_>l)                prior                                   ``model.prior(z_above)``
    q(z_l | z_>l, x)             posterior, same order as the prior      ``model.posterior(x, z_above)``
    p(x | z)                     likelihood                              ``model.likelihood(z)``
    sigma_x                      its fixed standard deviation            ``sigma_x``
    D                            distortion E_q[-log p(x | z)]           ``terms.distortion``, ``distortion``
    R(z_L), R(z_l | z_>l)        layer-wise rates (A, Eq. 7)             ``terms.rates``, ``rate_2``, ``rate_1``
    R                            total rate (A, Eq. 6)                   ``terms.rate(...)``, ``rate``
    ELBO                         -(D + R)                                ``terms.elbo(...)``, ``elbo``
    beta_L ... beta_1            one multiplier a layer (A, Eq. 8)       ``betas``; ``beta_2``, ``beta_1``
    L_beta                       objective (A, Eq. 8)                    ``objective.lagrangian``
    r_L ... r_1                  rates asked for; not in the papers      ``target_rates``; ``target_2``, ``target_1``
    mu_2, mu_1                   modes of the posteriors                 ``mu2``, ``mu1`` in column names
    IS                           Inception Score (A, Eq. 12)             ``inception_score``
    I_q(y; z_2)                  mutual information (A, Eq. 10)          ``mi_z2``
    I_q of permuted labels       what it gives by chance; ours           ``mi_z2_permuted``
    I(y; z_2) >= ...             lower bounds by a classifier; ours      ``mi_z2_lower``, ``mi_z2_fano``
    f, f^-1                      accuracy bound (A, Eq. 11)              ``bounds.information``, ``.accuracy_bound``
    H[p_data]                    entropy of the data (A, Eqs. 3, 9)      ``bounds.entropy_bound``
    e(z|x), d(x|z), m(z)         B's encoder, decoder, marginal          posterior, likelihood, prior
    -/+, -/+, -/+/v              B's families: encoder, decoder, m(z)    ``build("-+v", ...)``, ``names.FAMILIES``
    R*                           B's target rate                         ``objective.target_rate``
    E, G                         bounds on I_gen (B, appendix C)         ``mi_lower``, ``mi_upper``
    IWAE                         importance-weighted bound, K samples    ``iwae_5``, ``iwae_500``
    ===========================  ======================================  ==========================================

What a reader uses is here::

    build, train, Member, Plan                       a model by its name; many of them trained together
    load                                             a data set
    load_results, load_model, load_network           what a finished run holds
    recommend, dial, best                            which betas for a task; for rates; of a network for all betas

The rooms, from the ground up; each imports only what stands before it::

    terms objective randomness errors names files progress      one idea each
    data models training coding evaluation                      the engine: it knows no run
    runs analysis figures pages                 what a run is; tables to answers; tables to pictures; all to a page
    pipeline claims                                             the batch; the papers' statements beside results
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvae_core.analysis.dial import best, dial
    from hvae_core.analysis.guidance import recommend
    from hvae_core.data.readers import load
    from hvae_core.models import build
    from hvae_core.runs.results import load_results
    from hvae_core.runs.weights import load_model, load_network
    from hvae_core.training.plan import Member, Plan
    from hvae_core.training.population import train

_PLACES = {
    "Member": "training.plan",
    "Plan": "training.plan",
    "best": "analysis.dial",
    "build": "models",
    "dial": "analysis.dial",
    "load": "data.readers",
    "load_model": "runs.weights",
    "load_network": "runs.weights",
    "load_results": "runs.results",
    "recommend": "analysis.guidance",
    "train": "training.population",
}
__all__ = [
    "Member",
    "Plan",
    "best",
    "build",
    "dial",
    "load",
    "load_model",
    "load_network",
    "load_results",
    "recommend",
    "train",
]

if "OMP_WAIT_POLICY" not in os.environ:
    # Two threads that wait for each other soon give way: beside other work they would take three times as long as one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # read when PyTorch is imported


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: PyTorch takes seconds."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
