"""The generalised top-down hierarchical VAE (GHVAE) of Paper A, Table 2, from top to bottom."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Bernoulli, Gaussian
from hvae_core.models.heads import SIZES, WIDE, Parts, heads_conv, heads_fc
from hvae_core.models.hierarchy import HierarchicalVAE


class GHVAE(HierarchicalVAE):
    """GHVAE: q(z_1 | z_2, x) is an explicit network on both x and z_2 (Paper A, Fig. 2c and Table 2).

    475,811 parameters for ``(3, 32, 32)``, 122,713 for ``(1, 28, 28)``. With more layers: `hvae_core.models.deep`.

    Arguments:
        image_shape: ``(1, 28, 28)`` (binary images, Bernoulli likelihood) or ``(3, 32, 32)`` (Gaussian likelihood).
        sigma_x: standard deviation of the Gaussian likelihood, fixed.
        latent_shapes: of z_2 and z_1; None: the paper's.

    Example:
        >>> model = GHVAE((1, 28, 28))
        >>> from hvae_core.randomness import Noise
        >>> terms = model(torch.zeros(5, 1, 28, 28), model.noise(5, Noise(0)))
        >>> terms.distortion.shape, terms.rates.shape
        (torch.Size([5]), torch.Size([5, 2]))
    """

    sigma_x: Tensor
    zero: Tensor
    one: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        sigma_x: float = 0.71,
        latent_shapes: tuple[tuple[int, ...], ...] | None = None,
    ) -> None:
        super().__init__()
        sizes = SIZES[image_shape]
        colours, c, narrow = image_shape[0], sizes.channels, sizes.narrow
        self.image_shape = image_shape
        self.latent_shapes = latent_shapes or ((sizes.z2,), (c, 4, 4))
        (top,), (z2,), (maps, *_) = self.latent_shapes[0], self.latent_shapes[-2], self.latent_shapes[-1]
        self.register_buffer("sigma_x", torch.tensor(sigma_x))
        self.register_buffer("zero", torch.zeros(1, top), persistent=False)
        self.register_buffer("one", torch.ones(1, top), persistent=False)

        # q(z_2 | x)
        self.q2_conv1 = nn.Conv2d(colours, c, *WIDE)
        self.q2_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q2_conv3 = nn.Conv2d(c, c, *narrow)
        self.q2_heads = heads_fc(c * 16, (top,))
        # p(z_1 | z_2)
        self.p1_fc = nn.Linear(z2, c * 8)
        self.p1_heads = heads_fc(c * 8, (maps, 4, 4))
        # p(x | z_1)
        self.px_conv1 = nn.ConvTranspose2d(maps, c, *narrow)
        self.px_conv2 = nn.ConvTranspose2d(c, c, *WIDE)
        self.px_conv3 = nn.ConvTranspose2d(c, colours, *WIDE)
        # q(z_1 | z_2, x)
        self.q1_conv1 = nn.Conv2d(colours, c, *WIDE)
        self.q1_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q1_fc = nn.Linear(z2, c * 16)
        self.q1_up = nn.ConvTranspose2d(c, c, *narrow)
        # Table 2 prints ConvTransp here; only a convolution fits the shapes, with the same number of parameters.
        self.q1_joint = nn.Conv2d(2 * c, c, *narrow)
        self.q1_heads = heads_conv(c, maps)

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian:
        if not z_above:  # q(z_2 | x)
            h = F.relu(self.q2_conv2(F.relu(self.q2_conv1(x))))
            return self.q2_heads(F.relu(self.q2_conv3(h)).flatten(1))
        # q(z_1 | z_2, x)
        on_x = F.relu(self.q1_conv2(F.relu(self.q1_conv1(x))))
        on_z2 = F.relu(self.q1_up(F.relu(self.q1_fc(z_above[-1])).unflatten(1, (-1, 4, 4))))
        return self.q1_heads(F.relu(self.q1_joint(torch.cat([on_x, on_z2], 1))))

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
            "q(z_1|z_2,x)": {
                "on x": ("q1_conv1", "q1_conv2"),
                "on z_2": ("q1_fc", "q1_up"),
                "on both": ("q1_joint",),
                "mean": ("q1_heads.mean",),
                "std": ("q1_heads.std",),
            },
            "p(z_1|z_2)": {"on z_2": ("p1_fc",), "mean": ("p1_heads.mean",), "std": ("p1_heads.std",)},
            "p(x|z_1)": {"on z_1": ("px_conv1", "px_conv2", "px_conv3")},
        }
