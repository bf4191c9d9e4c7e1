"""The grid of a run: the betas and the target rates of its models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
FEW = 9  # values of each beta that are scored by classifiers


class BetaRange(BaseModel):
    """Betas from ``low`` to ``high`` in equal steps of the logarithm; that nearest to 1 is replaced by 1.

    The paper's 21 points from 0.1 to 100 have no 1 among them (the nearest is 1.122), yet the VAE is one of
    the models it marks; hence the replacement, for which 1 must lie within the range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: Positive = 0.1
    high: Positive = 100.0
    points: Annotated[int, Field(ge=1)] = 21

    @model_validator(mode="after")
    def ordered(self) -> BetaRange:
        if self.low > self.high or (self.points == 1) != (self.low == self.high):
            raise ValueError(f"low {self.low:g}, high {self.high:g} and points {self.points} make no range")
        return self

    def values(self) -> list[float]:
        """The betas of one layer, rising.

        Example:
            >>> [round(beta, 3) for beta in BetaRange(low=0.1, high=100, points=5).values()]
            [0.1, 1.0, 3.162, 17.783, 100.0]
        """
        if self.points == 1:
            return [self.low]
        start, length = math.log10(self.low), math.log10(self.high / self.low)
        exponents = [start + k * length / (self.points - 1) for k in range(self.points)]
        values = [float(f"{10**exponent:.12g}") for exponent in exponents]
        if self.low <= 1 <= self.high:
            values[min(range(self.points), key=lambda k: abs(exponents[k]))] = 1.0
        return values


class FixedTotal(BaseModel):
    """Target rates that share a fixed total: ``{total: [40], shares: [0, 0.5, 1]}``.

    A share is that of z_L; the other layers have equal parts of the rest. Or it is a list, one share a layer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    total: Annotated[list[Positive], Field(min_length=1)]
    shares: Annotated[list[Fraction | list[Fraction]], Field(min_length=1)]

    def points(self, layers: int) -> list[tuple[float, ...]]:
        """The target rates, top layer first.

        Example:
            >>> FixedTotal(total=[40], shares=[0.25, 1]).points(layers=2)
            [(10.0, 30.0), (40.0, 0.0)]
        """
        splits = [_split(share, layers) for share in self.shares]
        return [tuple(total * part for part in split) for total in self.total for split in splits]


def _split(share: float | list[float], layers: int) -> list[float]:
    others = layers - 1
    split = share if isinstance(share, list) else [share, *[(1 - share) / max(1, others)] * others]
    if len(split) != layers or abs(sum(split) - 1) > 1e-6:
        raise ValueError(f"target_rates: shares {split} are not {layers} numbers that add up to 1")
    return split


Targets = FixedTotal | list[list[float] | None] | None
Setting = tuple[tuple[float, ...], tuple[float | None, ...]]


def settings(knobs: Sequence[Sequence[float]], bins: Sequence[int], targets: Targets) -> list[Setting]:
    """Betas and target rates of every point of a grid, one a layer, top layer first and slowest.

    Args:
        knobs: the betas of each bin of layers.
        bins: how many layers each has.
        targets: as in a configuration.

    Example:
        >>> settings([[0.1], [1.0, 2.0]], bins=[1, 2], targets=None)
        [((0.1, 1.0, 1.0), ()), ((0.1, 2.0, 2.0), ())]
    """
    betas = [
        tuple(beta for beta, count in zip(values, bins, strict=True) for _ in range(count))
        for values in itertools.product(*knobs)
    ]
    return list(itertools.product(betas, _rates(targets, sum(bins))))


def _rates(targets: Targets, layers: int) -> Sequence[tuple[float | None, ...]]:
    if targets is None:
        return [()]
    if isinstance(targets, FixedTotal):
        return targets.points(layers)
    none: list[float | None] = [None]
    return list(itertools.product(*[rates or none for rates in targets]))


def few(betas: Iterable[float], most: int = FEW) -> set[float]:
    """Of the betas of one layer those nearest to ``most`` even steps of the logarithm, ends and 1 among them.

    All of them if there are no more.

    Example:
        >>> [round(beta, 2) for beta in sorted(few(BetaRange(points=21).values()))]
        [0.1, 0.2, 0.56, 1.0, 3.16, 6.31, 17.78, 50.12, 100.0]
    """
    there = sorted(set(betas))
    if len(there) <= most:
        return set(there)
    steps = BetaRange(low=there[0], high=there[-1], points=most).values()
    return {min(there, key=lambda beta: abs(math.log(beta / step))) for step in steps}
