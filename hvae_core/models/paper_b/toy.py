"""The toy model of Paper B (Section 4, Fig. 2, Appendix E): thirty observed states, thirty latent ones, exact sums.

::

    truth:     z* ~ Ber  -->  h | z* ~ N(mu_z*, sigma)  -->  x = the bin that h falls into        I(x; z*) = 0.5 nats
    model: x --> z by e(z|x) ; z ~ m(z) ; z --> x by d(x|z) all tables of 30 states

No sample is ever drawn: every expectation is a sum over states, all in nats.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor, nn

from hvae_core.models.hierarchy import HierarchicalVAE
from hvae_core.names import SPREADS
from hvae_core.terms import Terms

STATES = 30  # of x and of z
CLASSES = (0.7, 0.3)  # p(z* = 0), p(z* = 1)
INFORMATION = 0.5  # I(x; z*), nats
REACH = 4.0  # sigmas from the mean of a class to the outer end of the bins


# --- the truth ----------------------------------------------------------------------------------------------


def mutual_information(joint: Tensor) -> float:
    """I in nats of a table of joint probabilities, whatever its two sides are.

    Example:
        >>> mutual_information(torch.tensor([[0.25, 0.25], [0.25, 0.25]]))
        0.0
    """
    independent = joint.sum(0, keepdim=True) * joint.sum(1, keepdim=True)
    return float((torch.xlogy(joint, joint) - torch.xlogy(joint, independent)).sum())


def joint(separation: float) -> Tensor:
    """p(z*, x), ``(2, 30)`` float64, for class means that are ``separation`` sigmas apart.

    The bins have one width and reach from `REACH` sigmas below the lower mean to as many above the upper one; what
    lies beyond, 3e-5 of a class on each side, belongs to the outermost bins.
    """
    edges = np.linspace(-REACH, separation + REACH, STATES + 1)
    edges[[0, -1]] = -np.inf, np.inf
    h = edges - np.array([[0.0], [separation]])  # in sigmas from the mean of each class
    # Differences of what is small: those of the distribution function round to 0 in its upper tail.
    within = np.where(h[:, 1:] <= 0, np.diff(ndtr(h)), -np.diff(ndtr(-h)))
    return torch.from_numpy(np.array(CLASSES)[:, None] * within)


@cache
def truth() -> Tensor:
    """The true joint distribution p(z*, x), ``(2, 30)`` float64.

    The paper prints neither mu nor sigma, only what they were chosen for: I(x; z*) = 0.5 nats. Up to the unit of h that
    leaves one number, the distance of the means in sigmas, and it is solved for. The paper's z* ~ Ber(0.7) does not say
    which class has 70 %; by its text of Fig. 2 it is class 0, which has the lower mean here.

    Example:
        >>> round(mutual_information(truth()), 9)
        0.5
    """
    # Between these ends the information rises from nearly none to nearly H(z*) = 0.61 nats.
    return joint(brentq(lambda separation: mutual_information(joint(separation)) - INFORMATION, 0.1, 10.0))


def p_x() -> Tensor:
    """The data distribution p*(x), ``(30,)`` float64."""
    return truth().sum(0)


def entropy() -> float:
    """H, the entropy of the data, in nats; D + R is never less."""
    return float(-torch.xlogy(p_x(), p_x()).sum())


def data() -> Tensor:
    """All of p*(x) as the training set: ``(30, 30)``, row j is 30 p*(x_j) times the one-hot vector of state j.

    Terms are linear in x, so their plain mean over these thirty rows is the exact expectation under p*. The whole
    set is one batch (``batch_size=30``); the mean of a smaller one would be of other states at every step.
    """
    return torch.diag(STATES * p_x()).to(torch.get_default_dtype())


# --- tables -------------------------------------------------------------------------------------------------


class Tables(NamedTuple):
    """A model as tables of probabilities, float64, and all that Paper B, Fig. 2 shows of it.

    Attributes:
        encoder: ``(30, 30)``, e(z|x); a row for each x.
        decoder: ``(30, 30)``, d(x|z); a row for each z.
        marginal: ``(30,)``, m(z).

    Example:
        >>> best = hand_made()
        >>> round(best.rate, 6), round(best.distortion + best.rate - entropy(), 6)
        (0.5, 0.0)
    """

    encoder: Tensor
    decoder: Tensor
    marginal: Tensor

    @property
    def generated(self) -> Tensor:
        """g(x) = sum_z m(z) d(x|z), ``(30,)``."""
        return self.marginal @ self.decoder

    @property
    def aggregate(self) -> Tensor:
        """e(z) = sum_x p*(x) e(z|x), ``(30,)``: the marginal with the lowest rate."""
        return p_x() @ self.encoder

    @property
    def with_class(self) -> Tensor:
        """The joint distribution p(z*) e(z|z*), ``(2, 30)``, with e(z|z*) = sum_x p(x|z*) e(z|x); adds up to e(z)."""
        return truth() @ self.encoder

    @property
    def reconstruction(self) -> Tensor:
        """p(x'|x) = sum_z e(z|x) d(x'|z), ``(30, 30)``; a row for each x."""
        return self.encoder @ self.decoder

    @property
    def reconstructed(self) -> Tensor:
        """d(x') = sum_x p*(x) p(x'|x), ``(30,)``."""
        return self.aggregate @ self.decoder

    @property
    def rate(self) -> float:
        """R, nats (Paper B, Eq. 2)."""
        against = torch.xlogy(self.encoder, self.encoder) - torch.xlogy(self.encoder, self.marginal)
        return float(p_x() @ against.sum(1))

    @property
    def distortion(self) -> float:
        """D, nats (Paper B, Eq. 3)."""
        return float(-(p_x() @ torch.xlogy(self.encoder, self.decoder.T).sum(1)))

    @property
    def information(self) -> float:
        """I(x; z) under p*(x) e(z|x), nats: H - D <= I <= R."""
        return mutual_information(p_x()[:, None] * self.encoder)

    @property
    def kl_to_data(self) -> float:
        """KL[p* || g], nats: how far from the data are those that the model generates?"""
        return float(torch.xlogy(p_x(), p_x() / self.generated).sum())

    @property
    def class_0_states(self) -> Tensor:
        """Which latent states say "class 0", as is likelier of their data; ``(30,)`` bool."""
        lower, upper = self.with_class
        return lower > upper

    @property
    def class_0_mass(self) -> float:
        """The share of e(z) in the states of class 0: 0.7 where the two clusters are those of the truth."""
        return float(self.aggregate[self.class_0_states].sum())


def hand_made() -> Tables:
    """The optimum at R = I(x; z*), made from the truth and outside the model's family (Paper B, Fig. 2, left).

    Half of the latent states stand for each class, all alike: e(z|x) = p(z*|x) / 15, d(x|z) = p(x|z*), m(z) = p(z*) /
    15. So R = 0.5, D = H - 0.5 and g = p*.
    """
    half = STATES // 2
    of_class = torch.eye(2, dtype=torch.float64).repeat_interleave(half, 1)  # (2, 30)
    classes, states = truth().sum(1, keepdim=True), truth().sum(0)
    return Tables(
        (truth() / states).T @ of_class / half, of_class.T @ (truth() / classes), classes.squeeze(1) @ of_class / half
    )


# --- the model ----------------------------------------------------------------------------------------------


class Conditional(nn.Module):
    r"""A distribution over thirty states given another state, with two parameters for each of the thirty.

    .. math:: e(z_i | x_j) \propto \exp(-(w_i x_j - b_i)^2)

    The paper calls x_j a one-hot vector and counts 60 parameters; both w_i and b_i are then numbers, and so is x_j.
    Here the given state has one of thirty codes, evenly from -1 to 1.

    Arguments:
        spread: standard deviation of w and b in a fresh module. The wider, the more the given state says at first.
    """

    codes: Tensor

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.w = nn.Parameter(spread * torch.randn(STATES))
        self.b = nn.Parameter(spread * torch.randn(STATES))
        self.register_buffer("codes", torch.linspace(-1, 1, STATES), persistent=False)

    def forward(self) -> Tensor:
        """The logits, ``(30, 30)``; a row for each given state."""
        return -(self.w * self.codes[:, None] - self.b).square()


class Toy(HierarchicalVAE):
    """The model of Paper B, Appendix E: 60 parameters of e(z|x), 60 of d(x|z) and 30 logits of m(z); L = 1.

    Its noise is empty, for nothing is sampled. Of what a `HierarchicalVAE` does it does the terms; `tables` has the
    rest.

    Arguments:
        spread: of the initial parameters. To start near R = 0 would settle what the ELBO ends at: it is about the same
            for all R.

    Example:
        >>> from hvae_core.training.plan import Member, Plan
        >>> from hvae_core.objective import target_rate
        >>> from hvae_core.training.population import train
        >>> plan = Plan(epochs=1000, batch_size=30, learning_rate=0.02)
        >>> population = train(Toy, [Member((0.5,), seed=0)], data(), plan, objective=target_rate)
        >>> round(population.member(0).tables().rate, 1)
        0.5
    """

    image_shape = (1, 1, STATES)
    latent_shapes = ((0,),)

    def __init__(self, spread: float = SPREADS[0]) -> None:
        super().__init__()
        self.spread = spread
        self.encoder = Conditional(spread)
        self.decoder = Conditional(spread)
        self.marginal = nn.Parameter(torch.zeros(STATES))

    def forward(self, x: Tensor, noise: Sequence[Tensor]) -> Terms:
        """Exact distortion and rate, nats.

        Arguments:
            x: ``(batch, 30)``, weights of the thirty states in each row, such as one-hot vectors or `data`.
            noise: not used.
        """
        log_e, log_d = self.encoder().log_softmax(1), self.decoder().log_softmax(1)
        e = log_e.exp()
        rates = (e * (log_e - self.marginal.log_softmax(0))).sum(1)
        distortions = -(e * log_d.T).sum(1)
        x = x.flatten(1)
        return Terms(x @ distortions, (x @ rates).unsqueeze(1))

    @torch.no_grad()
    def tables(self) -> Tables:
        """The model's three distributions as tables, on the CPU."""
        logits = (self.encoder(), self.decoder(), self.marginal)
        return Tables(*(value.double().softmax(-1).cpu() for value in logits))
