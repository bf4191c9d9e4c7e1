"""The generalised top-down hierarchical VAE (GHVAE) of Paper A, Table 2, and the same with more layers."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvae_core.models.distributions import Gaussian
from hvae_core.models.layers import (
    GENERATIVE_PARTS,
    TOP_POSTERIOR_PARTS,
    WIDE,
    PaperVAE,
    Parts,
    heads_conv,
    heads_fc,
)
from hvae_core.names import check_sizes


class Between(nn.Module):
    """A vector z_l between the top layer and z_1: q(z_l | z_{l+1}, x) and p(z_l | z_{l+1}).

    Not in the paper. q sees x through three convolutions like its q(z_2 | x), z_{l+1} through one FC, both through another;
    p is its p(z_1 | z_2) with another number of latents.

    Arguments:
        colours: C of the images.
        channels, narrow: see `hvae_core.models.layers.Sizes`.
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


class GHVAE(PaperVAE):
    """GHVAE: q(z_1 | z_2, x) is an explicit network on both x and z_2 (Paper A, Fig. 2c and Table 2).

    With the paper's two layers 475,811 parameters for ``(3, 32, 32)``, 122,713 for ``(1, 28, 28)``. With more, each layer
    is conditioned on the one above it: p(z_l | z_{l+1}), q(z_l | z_{l+1}, x); see `Between`.

    Example:
        >>> model = GHVAE((1, 28, 28))
        >>> terms = model(torch.zeros(5, 1, 28, 28), model.noise(5, torch.Generator().manual_seed(0)))
        >>> terms.distortion.shape, terms.rates.shape
        (torch.Size([5]), torch.Size([5, 2]))
        >>> GHVAE((1, 28, 28), latent_sizes=[8, 20, 256]).latent_shapes
        ((8,), (20,), (16, 4, 4))
    """

    def __init__(
        self, image_shape: tuple[int, int, int], sigma_x: float = 0.71, latent_sizes: Sequence[int] | None = None
    ) -> None:
        if latent_sizes is not None:
            check_sizes(latent_sizes)
        super().__init__(image_shape, sigma_x, latent_sizes)
        c, narrow = self.sizes.channels, self.sizes.narrow
        *sizes, maps = (shape[0] for shape in self.latent_shapes)
        self.q1_conv1 = nn.Conv2d(image_shape[0], c, *WIDE)
        self.q1_conv2 = nn.Conv2d(c, c, *WIDE)
        self.q1_fc = nn.Linear(sizes[-1], c * 16)
        self.q1_up = nn.ConvTranspose2d(c, c, *narrow)
        # Table 2 prints ConvTransp here; only a convolution fits the shapes, with the same number of parameters.
        self.q1_joint = nn.Conv2d(2 * c, c, *narrow)
        self.q1_heads = heads_conv(c, maps)
        self.between = nn.ModuleDict({
            f"z_{self.layers - i}": Between(image_shape[0], c, narrow, sizes[i - 1], sizes[i])
            for i in range(1, len(sizes))
        })  # fmt: skip

    @property
    def parts(self) -> Parts:
        posteriors: Parts = {f"q(z_{self.layers}|x)": TOP_POSTERIOR_PARTS}
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
                f"on {above}": (f"{z}.p_fc",), "mean": (f"{z}.p_heads.mean",), "std": (f"{z}.p_heads.std",)
            }  # fmt: skip
        posteriors["q(z_1|z_2,x)"] = {
            "on x": ("q1_conv1", "q1_conv2"),
            "on z_2": ("q1_fc", "q1_up"),
            "on both": ("q1_joint",),
            "mean": ("q1_heads.mean",),
            "std": ("q1_heads.std",),
        }
        return posteriors | priors | GENERATIVE_PARTS

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian:
        if not z_above:
            return self.q2_top(self.q2_trunk(x))
        if layer := self._between(z_above):
            return layer.posterior(x, z_above[-1])
        on_x = F.relu(self.q1_conv2(F.relu(self.q1_conv1(x))))
        on_z2 = F.relu(self.q1_up(F.relu(self.q1_fc(z_above[-1])).unflatten(1, (-1, 4, 4))))
        return self.q1_heads(F.relu(self.q1_joint(torch.cat([on_x, on_z2], 1))))

    def prior(self, z_above: Sequence[Tensor]) -> Gaussian:
        layer = self._between(z_above)
        return layer.prior(z_above[-1]) if layer else super().prior(z_above)

    def _between(self, z_above: Sequence[Tensor]) -> Any:
        """The networks of the layer below ``z_above``; None for z_L and z_1, which have the paper's."""
        number = self.layers - len(z_above)
        return self.between[f"z_{number}"] if 1 < number < self.layers else None
