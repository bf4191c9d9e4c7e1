"""The GHVAE with more than two layers; not in the paper.

::

    x --> z_L --> z_{L-1} --> ... --> z_2 --> z_1 --> x        each layer given the one above it

z_1 and the image are the paper's; the layers of q(z_2 | x) are here those of q(z_L | x).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Gaussian
from hvae_core.models.ghvae import GHVAE
from hvae_core.models.heads import SIZES, WIDE, Parts, heads_fc
from hvae_core.names import check_sizes


class Between(nn.Module):
    """A vector z_l between the top layer and z_1: q(z_l | z_{l+1}, x) and p(z_l | z_{l+1}).

    q sees x through three convolutions like the paper's q(z_2 | x), z_{l+1} through one FC, both through another;
    p is its p(z_1 | z_2) with another number of latents.

    Arguments:
        colours: C of the images.
        channels, narrow: see `hvae_core.models.heads.Sizes`.
        above, size: numbers of latents of z_{l+1} and of z_l.
    """

    def __init__(self, colours: int, channels: int, narrow: tuple[int, int, int], above: int, size: int) -> None:
        super().__init__()
        c = channels
        self.q_conv1 = nn.Conv2d(colours, c, *WIDE)
        self.q_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q_conv3 = nn.Conv2d(c, c, *narrow)
        self.q_fc = nn.Linear(above, c * 8)
        self.q_joint = nn.Linear(c * 16 + c * 8, c * 8)
        self.q_heads = heads_fc(c * 8, (size,))
        self.p_fc = nn.Linear(above, c * 8)
        self.p_heads = heads_fc(c * 8, (size,))

    def posterior(self, x: Tensor, z_above: Tensor) -> Gaussian:
        on_x = F.relu(self.q_conv3(F.relu(self.q_conv2(F.relu(self.q_conv1(x)))))).flatten(1)
        on_z = F.relu(self.q_fc(z_above))
        return self.q_heads(F.relu(self.q_joint(torch.cat([on_x, on_z], 1))))

    def prior(self, z_above: Tensor) -> Gaussian:
        return self.p_heads(F.relu(self.p_fc(z_above)))


class DeepGHVAE(GHVAE):
    """A GHVAE of any number of layers, each given the one above it.

    Arguments:
        image_shape, sigma_x: see `hvae_core.models.ghvae.GHVAE`.
        latent_sizes: numbers of latents of z_L, ..., z_1. z_1 is maps of 4x4, so its number is a multiple of 16.

    Raises:
        InputError: for sizes that cannot be.

    Example:
        >>> DeepGHVAE((1, 28, 28), latent_sizes=[8, 20, 256]).latent_shapes
        ((8,), (20,), (16, 4, 4))
    """

    def __init__(
        self, image_shape: tuple[int, int, int], sigma_x: float = 0.71, latent_sizes: Sequence[int] = (20, 256)
    ) -> None:
        check_sizes(latent_sizes)
        *vectors, z1 = latent_sizes
        super().__init__(image_shape, sigma_x, (*((size,) for size in vectors), (z1 // 16, 4, 4)))
        sizes = SIZES[image_shape]
        self.between = nn.ModuleDict(
            {
                f"z_{self.layers - i}": Between(image_shape[0], sizes.channels, sizes.narrow, above, size)
                for i, (above, size) in enumerate(pairwise(vectors), start=1)
            }
        )

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian:
        layer = self._between(z_above)
        return layer.posterior(x, z_above[-1]) if layer else super().posterior(x, z_above, features)

    def prior(self, z_above: Sequence[Tensor]) -> Gaussian:
        layer = self._between(z_above)
        return layer.prior(z_above[-1]) if layer else super().prior(z_above)

    def _between(self, z_above: Sequence[Tensor]) -> Any:
        """The networks of the layer below ``z_above``; None for z_L and z_1, which have the paper's."""
        number = self.layers - len(z_above)
        return self.between[f"z_{number}"] if 1 < number < self.layers else None

    @property
    def parts(self) -> Parts:
        paper = super().parts
        posteriors: Parts = {f"q(z_{self.layers}|x)": paper.pop("q(z_2|x)")}
        priors: Parts = {}
        for number in range(self.layers - 1, 1, -1):
            z, above = f"between.z_{number}", f"z_{number + 1}"
            posteriors[f"q(z_{number}|{above},x)"] = {
                "on x": (f"{z}.q_conv1", f"{z}.q_conv2", f"{z}.q_conv3"),
                f"on {above}": (f"{z}.q_fc",),
                "on both": (f"{z}.q_joint",),
                "mean": (f"{z}.q_heads.mean",),
                "std": (f"{z}.q_heads.std",),
            }
            priors[f"p(z_{number}|{above})"] = {
                f"on {above}": (f"{z}.p_fc",),
                "mean": (f"{z}.p_heads.mean",),
                "std": (f"{z}.p_heads.std",),
            }
        posteriors["q(z_1|z_2,x)"] = paper.pop("q(z_1|z_2,x)")
        return posteriors | priors | paper
