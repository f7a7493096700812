"""Averages numbers since the last log."""

import torch
from accelerate import Accelerator
from torch import Tensor


class Means:
    """Weighted means of named numbers over micro-batches and processes."""

    def __init__(self):
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, values: dict[str, Tensor], weight: Tensor) -> None:
        """Add the numbers of a micro-batch.

        Args:
            values: scalars, by name.
            weight: the weight of the micro-batch.
        """
        for name, value in values.items():
            total, weights = self._sums.get(name, (0, 0))
            self._sums[name] = total + value.detach() * weight, weights + weight

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means since the last call. All processes have to call this."""
        means = {}
        for name, (total, weights) in self._sums.items():
            total, weights = accelerator.gather(torch.stack([total, weights.to(total)])).view(-1, 2).sum(0)
            means[name] = (total / weights.clamp(min=1)).item()
        self._sums = {}
        return means
