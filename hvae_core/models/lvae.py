"""The ladder VAE (LVAE, Sønderby et al. 2016) of Paper A, Table 3."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Gaussian, Product
from hvae_core.models.layers import GENERATIVE_PARTS, TOP_POSTERIOR_PARTS, PaperVAE, Parts, heads_conv


class LVAE(PaperVAE):
    """LVAE: q(z_1 | z_2, x) is the precision-weighted product of N(mu_hat(x), var_hat(x)) and p(z_1 | z_2).

    d_1, the output of the second convolution of q(z_2 | x), feeds both posteriors (Paper A, Fig. 2b and Table 3).
    408,131 parameters for ``(3, 32, 32)``, 104,745 for ``(1, 28, 28)``.
    """

    parts: ClassVar[Parts] = {
        "q(z_2|x)": TOP_POSTERIOR_PARTS,
        "q(z_1|z_2,x)": {"on d_1": ("q1_conv",), "mean": ("q1_heads.mean",), "variance": ("q1_heads.std",)},
        **GENERATIVE_PARTS,
    }

    def __init__(self, image_shape: tuple[int, int, int], sigma_x: float = 0.71) -> None:
        super().__init__(image_shape, sigma_x)
        c = self.sizes.channels
        self.q1_conv = nn.Conv2d(c, c, *self.sizes.narrow)
        self.q1_heads = heads_conv(c, c)

    def features(self, x: Tensor) -> Tensor:
        """d_1."""
        return self.q2_trunk(x)

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian | Product:
        d_1 = self.features(x) if features is None else features
        if not z_above:
            return self.q2_top(d_1)
        mu_hat, var_hat = self.q1_heads(F.relu(self.q1_conv(d_1)))  # here the softplus gives the variance
        return Product(Gaussian(mu_hat, var_hat.sqrt()), self.prior(z_above))
