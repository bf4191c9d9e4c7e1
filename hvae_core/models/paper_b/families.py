"""The twelve model families of Paper B, Section 4 and Appendix F: every mix of encoder, decoder and marginal."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hvae_core.errors import InputError
from hvae_core.models.distributions import (
    AutoregressiveBernoulli,
    Bernoulli,
    Distribution,
    Gaussian,
    Mixture,
    PushedWithPrior,
    Pushforward,
)
from hvae_core.models.heads import Parts, heads_fc
from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.models.paper_b.flows import IAF, MAF, Given
from hvae_core.models.paper_b.pixelcnn import Gated, PixelCNN
from hvae_core.names import without_context

LATENT = 64
SMALLEST = 8  # a narrow model keeps at least so many features and hidden units


def gated_conv(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Gated:
    return Gated(nn.Conv2d(inputs, 2 * outputs, kernel, stride, padding))


def gated_deconv(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Gated:
    # Of the stride's possible sizes the largest: 7 -> 14 -> 28. Without padding the map has one pixel.
    layer = nn.ConvTranspose2d(inputs, 2 * outputs, kernel, stride, padding, output_padding=stride - 1)
    return Gated(layer, inputs * (kernel / stride) ** 2 if padding else inputs)


class PseudoInputs(nn.Module):
    """What the VampPrior learns: images in pixel space, and the logits of their weights."""

    def __init__(self, count: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.rand(count, *image_shape))
        self.logits = nn.Parameter(torch.zeros(count))
        self.notation = f"PseudoInputs({count}, {'x'.join(map(str, image_shape))})"


class Family(HierarchicalVAE):
    """One of the twelve families, L = 1, for binary images of 28x28 pixels.

    ::

        encoder    -  convolutions, Gaussian          +  the same, then 4 steps of IAF
        decoder    -  deconvolutions, Bernoulli       +  gated PixelCNN
        marginal   -  N(0, I)    +  4 steps of MAF    v  VampPrior: sum_k w_k q(z | pseudo-input k)

    The paper's text names MADEs on z alone, without a context. Such a flow says nothing of the image: a strong encoder
    is then the plain one with another marginal, and with marginal ``v`` the flow drops out of the rate. With
    ``encoder_context`` "image" the encoder's features enter every MADE, as in Kingma et al. (2016); means alone are
    shifted in both. Pseudo-inputs are not bounded, of which the text is silent, too.

    Arguments:
        family: the three signs, in this order.
        width: multiplies all numbers of features and hidden units, which stay 8 or more; z keeps its 64 dimensions.
        pseudo_inputs: of marginal v; the others have none.
        encoder_context: what the flow of a strong encoder sees besides z: "none", or "image", which families with a
            strong encoder and marginal v cannot have: each density would take an inversion for every pseudo-input.

    Example:
        >>> model = Family((1, 28, 28), "-+v", width=0.1, pseudo_inputs=5)
        >>> from hvae_core.randomness import Noise
        >>> terms = model(torch.zeros(2, 1, 28, 28), model.noise(2, Noise(0)))
        >>> terms.distortion.shape, terms.rates.shape
        (torch.Size([2]), torch.Size([2, 1]))
    """

    zero: Tensor
    one: Tensor

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        family: str,
        width: float = 1.0,
        pseudo_inputs: int = 500,
        encoder_context: str = "none",
    ) -> None:
        super().__init__()
        if not (isinstance(width, int | float) and 0 < width < math.inf):
            raise InputError(f"model {family}: width is {width!r}; allowed are numbers above 0")
        if not (isinstance(pseudo_inputs, int) and pseudo_inputs > 0):
            raise InputError(f"model {family}: pseudo_inputs is {pseudo_inputs!r}; allowed are whole numbers from 1")
        if encoder_context not in ("none", "image"):
            raise InputError(f"model {family}: encoder_context is {encoder_context!r}; allowed are none and image")
        if without_context(family, encoder_context):
            raise InputError(without_context(family, encoder_context))
        self.image_shape, self.family = image_shape, family
        self.latent_shapes = ((LATENT,),)
        self.encoder_sign, self.decoder_sign, self.marginal_sign = tuple(family)
        self.register_buffer("zero", torch.zeros(1, LATENT), persistent=False)
        self.register_buffer("one", torch.ones(1, LATENT), persistent=False)

        def wide(features: int) -> int:
            return max(SMALLEST, round(width * features))

        hidden = (wide(640),) * 3
        # q(z | x)
        self.q_trunk = nn.Sequential(
            gated_conv(1, wide(32), 5, 1, 2),
            gated_conv(wide(32), wide(32), 5, 2, 2),
            gated_conv(wide(32), wide(64), 5, 1, 2),
            gated_conv(wide(64), wide(64), 5, 2, 2),
            gated_conv(wide(64), wide(256), 7, 1, 0),
        )
        self.q_heads = heads_fc(wide(256), (LATENT,))
        if self.encoder_sign == "+":
            self.q_flow = IAF(LATENT, hidden, context=wide(256) if encoder_context == "image" else 0)
        self.with_context = encoder_context == "image"
        # m(z)
        if self.marginal_sign == "+":
            self.m_flow = MAF(LATENT, hidden)
        if self.marginal_sign == "v":
            self.m_pseudo = PseudoInputs(pseudo_inputs, image_shape)
        # d(x | z)
        if self.decoder_sign == "-":
            self.d_layers = nn.Sequential(
                gated_deconv(LATENT, wide(64), 7, 1, 0),
                gated_deconv(wide(64), wide(64), 5, 1, 2),
                gated_deconv(wide(64), wide(64), 5, 2, 2),
                gated_deconv(wide(64), wide(32), 5, 1, 2),
                gated_deconv(wide(32), wide(32), 5, 2, 2),
                gated_deconv(wide(32), wide(32), 4, 1, 1),
            )
            self.d_last = nn.Conv2d(wide(32), 1, 5, 1, 2)
        else:
            self.d_dense = Gated(nn.Linear(LATENT, 2 * 28 * 28))
            self.d_pixels = PixelCNN(wide(64))

    @property
    def parts(self) -> Parts:
        convolutions = tuple(f"q_trunk.{i}" for i in range(5))
        steps = tuple(f"steps.{i}" for i in range(4))
        parts = {"e(z|x)": {"on x": convolutions, "mean": ("q_heads.mean",), "variance": ("q_heads.std",)}}
        if self.encoder_sign == "+":
            parts["e(z|x)"]["flow"] = tuple(f"q_flow.{step}" for step in steps)
        if self.marginal_sign == "+":
            parts["m(z)"] = {"flow": tuple(f"m_flow.{step}" for step in steps)}
        if self.marginal_sign == "v":
            parts["m(z)"] = {"VampPrior": ("m_pseudo",)}
        if self.decoder_sign == "-":
            parts["d(x|z)"] = {"on z": tuple(f"d_layers.{i}" for i in range(6)), "logits": ("d_last",)}
        else:
            parts["d(x|z)"] = {
                "on z": ("d_dense",),
                **{step: tuple(f"d_pixels.{name}" for name in names) for step, names in PixelCNN.parts.items()},
            }
        return parts

    def encode(self, x: Tensor) -> tuple[Gaussian, Tensor]:
        """The Gaussian part of q(z | x), before the flow, and the features of the images that it is made of."""
        h = self.q_trunk(2 * x - 1).flatten(1)
        mean, variance = self.q_heads(h)
        return Gaussian(mean, variance.sqrt()), h

    def posterior(self, x: Tensor, z_above: Sequence[Tensor], features: Any = None) -> Gaussian | Pushforward:
        q, h = self.encode(x)
        if self.encoder_sign == "-":
            return q
        if self.with_context:
            return Pushforward(q, Given(self.q_flow, h))
        # The VampPrior is a mixture of posteriors, so it goes through the same flow.
        return (PushedWithPrior if self.marginal_sign == "v" else Pushforward)(q, self.q_flow)

    def prior(self, z_above: Sequence[Tensor]) -> Gaussian | Mixture | Pushforward:
        if self.marginal_sign == "v":
            q, _ = self.encode(self.m_pseudo.images)
            mixture = Mixture(q.mean, q.std, self.m_pseudo.logits.log_softmax(0))
            return Pushforward(mixture, self.q_flow) if self.encoder_sign == "+" else mixture
        normal = Gaussian(self.zero, self.one)
        return Pushforward(normal, self.m_flow) if self.marginal_sign == "+" else normal

    def likelihood(self, z: Sequence[Tensor]) -> Distribution:
        if self.decoder_sign == "+":
            return AutoregressiveBernoulli(self.d_pixels, self.d_dense(z[-1]).unflatten(1, self.image_shape))
        h = self.d_layers(z[-1][:, :, None, None])
        return Bernoulli(self.d_last(h[:, :, :28, :28]))  # an even window leaves one row and column too many
