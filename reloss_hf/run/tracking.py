"""Numbers that are logged as their mean since the last log."""

import torch
from accelerate import Accelerator
from torch import Tensor


class Means:
    """Means of named numbers over micro-batches and processes, each of which counts by its weight."""

    def __init__(self):
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

    def add(self, values: dict[str, Tensor], weight: Tensor) -> None:
        """Those of a micro-batch.

        Args:
            values: scalars.
            weight: how much the micro-batch counts.
        """
        for name, value in values.items():
            total, weights = self._sums.get(name, (0, 0))
            self._sums[name] = total + value.detach() * weight, weights + weight

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """The means since this was called last; all processes have to call it."""
        means = {}
        for name, (total, weights) in self._sums.items():
            total, weights = accelerator.gather(torch.stack([total, weights.to(total)])).view(-1, 2).sum(0)
            means[name] = (total / weights.clamp(min=1)).item()
        self._sums = {}
        return means
