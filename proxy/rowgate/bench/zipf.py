"""Zipf's law: few things are asked for often, many hardly ever. How statements of an application are distributed."""

import random
from bisect import bisect_left
from itertools import accumulate


class Zipf:
    """Draws ranks 0 … count - 1, rank r with a probability in proportion to 1 / (r + 1) ** exponent."""

    def __init__(self, count: int, exponent: float, rng: random.Random) -> None:
        if count < 1 or exponent <= 0:
            raise ValueError(f"Zipf's law needs at least one rank and an exponent above 0: {count}, {exponent}")
        self._cumulative = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
        self._rng = rng

    def draw(self) -> int:
        """Return the next rank."""
        return bisect_left(self._cumulative, self._rng.random() * self._cumulative[-1])
