"""The generalised top-down hierarchical VAE (GHVAE) of Paper A, Table 2."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Gaussian
from hvae_core.models.layers import GENERATIVE_PARTS, TOP_POSTERIOR_PARTS, WIDE, PaperVAE, Parts, heads_conv


def check_sizes(latent_sizes: Sequence[int]) -> None:
    """Whether a GHVAE can have latent layers of these sizes.

    Raises:
        ValueError: if not.
    """
    if len(latent_sizes) < 2 or latent_sizes[-1] % 16:
        raise ValueError(f"latent_sizes: {list(latent_sizes)}; at least two layers, the last a number of 4x4 maps, so a multiple of 16")


class GHVAE(PaperVAE):
    """GHVAE: q(z_1 | z_2, x) is an explicit network on both x and z_2 (Paper A, Fig. 2c and Table 2).

    475,811 parameters for ``(3, 32, 32)``, 122,713 for ``(1, 28, 28)``.

    Example:
        >>> model = GHVAE((1, 28, 28))
        >>> terms = model(torch.zeros(5, 1, 28, 28), model.noise(5, torch.Generator().manual_seed(0)))
        >>> terms.distortion.shape, terms.rates.shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    parts: ClassVar[Parts] = {
        "q(z_2|x)": TOP_POSTERIOR_PARTS,
        "q(z_1|z_2,x)": {
            "on x": ("q1_conv1", "q1_conv2"),
            "on z_2": ("q1_fc", "q1_up"),
            "on both": ("q1_joint",),
            "mean": ("q1_heads.mean",),
            "std": ("q1_heads.std",),
        },
        **GENERATIVE_PARTS,
    }

    def __init__(self, image_shape: tuple[int, int, int], sigma_x: float = 0.71) -> None:
        super().__init__(image_shape, sigma_x)
        c, narrow = self.sizes.channels, self.sizes.narrow
        self.q1_conv1 = nn.Conv2d(image_shape[0], c, *WIDE)
        self.q1_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q1_fc = nn.Linear(self.sizes.z2, c * 16)
        self.q1_up = nn.ConvTranspose2d(c, c, *narrow)
        # Table 2 prints ConvTransp here; only a convolution fits the shapes, with the same number of parameters.
        self.q1_joint = nn.Conv2d(2 * c, c, *narrow)
        self.q1_heads = heads_conv(c)

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian:
        if not z_above:
            return self.q2_top(self.q2_trunk(x))
        on_x = F.relu(self.q1_conv2(F.relu(self.q1_conv1(x))))
        on_z2 = F.relu(self.q1_up(F.relu(self.q1_fc(z_above[0])).unflatten(1, (-1, 4, 4))))
        return self.q1_heads(F.relu(self.q1_joint(torch.cat([on_x, on_z2], 1))))
