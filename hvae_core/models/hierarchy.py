"""What every hierarchical VAE here is: a chain of conditional distributions, from the top layer down to the image.

::

    infer:     x --> z_L ;  (x, z_L) --> z_{L-1} ; ... ; (x, z_{>=2}) --> z_1      posterior(x, z_above)
    generate:  z_L --> z_{L-1} --> ... --> z_1 --> x                               prior(z_above), likelihood(z)

Inference and generation factorise in the same order (Paper A, Eqs. 1 and 4). That is what lets the rate split into
layers (Eqs. 6 and 7).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvae_core.models.distributions import Distribution, Posterior, Prior
from hvae_core.randomness import Noise
from hvae_core.terms import Terms


class HierarchicalVAE(nn.Module):
    """A hierarchical VAE with L >= 1 layers of latents. A subclass gives the three conditional distributions.

    It gives `parts`, too, and in ``__init__`` the shapes below; `hvae_core.models.contract` asks for all of it.

    Everything else is written here once: training terms, reconstruction, sampling and latents, each a pure function
    of the parameters, the images and the noise. ``noise`` holds standard-normal draws, one tensor a layer, top
    layer first, of shape ``(batch, *latent_shapes[i])``. A model knows nothing of betas.

    Attributes:
        image_shape: ``(C, H, W)``.
        latent_shapes: of z_L, ..., z_1.
    """

    image_shape: tuple[int, int, int]
    latent_shapes: tuple[tuple[int, ...], ...]

    @property
    def parts(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """The layers that make each distribution, ``{distribution: {step: names of modules}}``, for the tables."""
        raise NotImplementedError  # each architecture gives its own

    def features(self, x: Tensor) -> Any:
        """Deterministic features of ``x`` that the posteriors of several layers share; computed once a pass."""
        return None

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Posterior:
        """q(z_l | z_{>l}, x) for the layer below ``z_above`` (top layer first; empty for z_L)."""
        raise NotImplementedError  # each architecture gives its own

    def prior(self, z_above: Sequence[Tensor]) -> Prior:
        """p(z_l | z_{>l}) for the layer below ``z_above``; for the empty sequence p(z_L), without a batch."""
        raise NotImplementedError  # each architecture gives its own

    def likelihood(self, z: Sequence[Tensor]) -> Distribution:
        """p(x | z), of all layers' latents, top layer first."""
        raise NotImplementedError  # each architecture gives its own

    def conditionals(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> tuple[Posterior, Prior]:
        """q(z_l | z_{>l}, x) and p(z_l | z_{>l}) for the layer below ``z_above``."""
        return self.posterior(x, z_above, features), self.prior(z_above)

    @property
    def layers(self) -> int:
        """L, the number of layers of latents."""
        return len(self.latent_shapes)

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Terms:
        """The distortion and the layer-wise rates of ``x``, nats per image (Paper A, Eqs. 7 and 8).

        A rate is in closed form where posterior and prior are Gaussian; elsewhere it is log q(z) - log p(z) at the
        one sample z (Paper B, Section 2), which has the rate as its mean and may be negative.

        Arguments:
            x: ``(batch, C, H, W)`` in [0, 1].
            noise: one standard-normal tensor a layer, top layer first.
        """
        features = self.features(x)
        z: list[Tensor] = []
        rates = []
        for epsilon in noise:
            q, p = self.conditionals(x, z, features)
            sample, rate = q.rate(p, epsilon)
            z.append(sample)
            rates.append(rate)
        return Terms(-self.likelihood(z).log_prob(x), torch.stack(rates, 1))

    def infer(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> list[Posterior]:
        """The posteriors of all layers, top layer first, each given the layers above it.

        With ``noise`` the layers above are samples, without it they are modes.
        """
        features = self.features(x)
        z: list[Tensor] = []
        posteriors: list[Posterior] = []
        for layer in range(self.layers):
            q = self.posterior(x, z, features)
            posteriors.append(q)
            z.append(q.mode if noise is None else q.sample(noise[layer]))
        return posteriors

    def reconstruct(self, x: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """x -> z_L -> ... -> z_1 -> x' (Paper A, Eq. 5), by modes, or with ``noise`` by samples; in [0, 1].

        The image is the mode of p(x | z) in any case; see `generate`.
        """
        posteriors = self.infer(x, noise)
        z = [q.mode if noise is None else q.sample(noise[layer]) for layer, q in enumerate(posteriors)]
        return self.likelihood(z).mode

    def generate(self, noise: Sequence[Tensor]) -> Tensor:
        """New images: all latents sampled from their priors, the image is the mode of p(x | z).

        That is the mean of independent pixels; what it is of others, their class says. Images sampled to the end
        are ``likelihood(z).sample(noise of the image's shape)``.
        """
        z: list[Tensor] = []
        for epsilon in noise:
            z.append(self.prior(z).sample(epsilon))
        return self.likelihood(z).mode

    def noise(self, batch: int, source: Noise) -> list[Tensor]:
        """Standard-normal draws for ``batch`` images, one tensor a layer, on the device of their source."""
        return [source.normal(batch, *shape) for shape in self.latent_shapes]
