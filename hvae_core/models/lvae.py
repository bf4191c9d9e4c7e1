"""The ladder VAE (LVAE, Sønderby et al. 2016) of Paper A, Table 3, from top to bottom."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Bernoulli, Gaussian, Prior, Product
from hvae_core.models.heads import SIZES, WIDE, Parts, heads_conv, heads_fc
from hvae_core.models.hierarchy import HierarchicalVAE


class LVAE(HierarchicalVAE):
    """LVAE: q(z_1 | z_2, x) is the precision-weighted product of N(mu_hat(x), var_hat(x)) and p(z_1 | z_2).

    d_1, the output of the second convolution of q(z_2 | x), feeds both posteriors (Paper A, Fig. 2b and Table 3).
    408,131 parameters for ``(3, 32, 32)``, 104,745 for ``(1, 28, 28)``.

    Arguments:
        image_shape: ``(1, 28, 28)`` (binary images, Bernoulli likelihood) or ``(3, 32, 32)`` (Gaussian likelihood).
        sigma_x: standard deviation of the Gaussian likelihood, fixed.
    """

    sigma_x: Tensor
    zero: Tensor
    one: Tensor

    def __init__(self, image_shape: tuple[int, int, int], sigma_x: float = 0.71) -> None:
        super().__init__()
        sizes = SIZES[image_shape]
        colours, c, narrow = image_shape[0], sizes.channels, sizes.narrow
        self.image_shape = image_shape
        self.latent_shapes = ((sizes.z2,), (c, 4, 4))
        self.register_buffer("sigma_x", torch.tensor(sigma_x))
        self.register_buffer("zero", torch.zeros(1, sizes.z2), persistent=False)
        self.register_buffer("one", torch.ones(1, sizes.z2), persistent=False)

        # q(z_2 | x); the first two convolutions give d_1
        self.q2_conv1 = nn.Conv2d(colours, c, *WIDE)
        self.q2_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q2_conv3 = nn.Conv2d(c, c, *narrow)
        self.q2_heads = heads_fc(c * 16, (sizes.z2,))
        # p(z_1 | z_2)
        self.p1_fc = nn.Linear(sizes.z2, c * 8)
        self.p1_heads = heads_fc(c * 8, (c, 4, 4))
        # p(x | z_1)
        self.px_conv1 = nn.ConvTranspose2d(c, c, *narrow)
        self.px_conv2 = nn.ConvTranspose2d(c, c, *WIDE)
        self.px_conv3 = nn.ConvTranspose2d(c, colours, *WIDE)
        # N(mu_hat, var_hat), of d_1
        self.q1_conv = nn.Conv2d(c, c, *narrow)
        self.q1_heads = heads_conv(c, c)

    def features(self, x: Tensor) -> Tensor:
        """d_1."""
        return F.relu(self.q2_conv2(F.relu(self.q2_conv1(x))))

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian | Product:
        d_1 = self.features(x) if features is None else features
        if not z_above:  # q(z_2 | x)
            return self.q2_heads(F.relu(self.q2_conv3(d_1)).flatten(1))
        # q(z_1 | z_2, x); here the softplus of the second head gives the variance
        mu_hat, var_hat = self.q1_heads(F.relu(self.q1_conv(d_1)))
        return Product(Gaussian(mu_hat, var_hat.sqrt()), self.prior(z_above))

    def conditionals(
        self, x: Tensor, z_above: Sequence[Tensor], features: Any = None
    ) -> tuple[Gaussian | Product, Prior]:
        q: Any = self.posterior(x, z_above, features)
        return q, q.prior if z_above else self.prior(z_above)  # p(z_1 | z_2) is in the product

    def prior(self, z_above: Sequence[Tensor]) -> Gaussian:
        if not z_above:  # p(z_2)
            return Gaussian(self.zero, self.one)
        return self.p1_heads(F.relu(self.p1_fc(z_above[-1])))  # p(z_1 | z_2)

    def likelihood(self, z: Sequence[Tensor]) -> Gaussian | Bernoulli:
        h = F.relu(self.px_conv2(F.relu(self.px_conv1(z[-1]))))
        mean = self.px_conv3(h).to(self.px_conv3.weight.dtype)  # under autocast too
        return Bernoulli(mean) if self.image_shape[0] == 1 else Gaussian(mean, self.sigma_x)

    @property
    def parts(self) -> Parts:
        return {
            "q(z_2|x)": {
                "on x": ("q2_conv1", "q2_conv2", "q2_conv3"),
                "mean": ("q2_heads.mean",),
                "std": ("q2_heads.std",),
            },
            "q(z_1|z_2,x)": {"on d_1": ("q1_conv",), "mean": ("q1_heads.mean",), "variance": ("q1_heads.std",)},
            "p(z_1|z_2)": {"on z_2": ("p1_fc",), "mean": ("p1_heads.mean",), "std": ("p1_heads.std",)},
            "p(x|z_1)": {"on z_1": ("px_conv1", "px_conv2", "px_conv3")},
        }
