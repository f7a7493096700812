"""Splits examples into those to learn from and held-out ones, and draws groups of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .predictions import Predictions

# The number of groups of a candidate that are ranked together in one step.
_GROUPS_OF_A_CANDIDATE = 16


@dataclass
class Groups:
    """Scored groups by candidate. `rows` has shape `(candidates, groups, size)`, `metric` has shape `(candidates,
    groups)` and is NaN if the metric could not score a group."""

    rows: Tensor
    metric: Tensor

    def of_scored_candidates(self) -> "Groups":
        """The groups without the candidates that the metric could score less than half of.

        Raises:
            RuntimeError: no candidate is left.
        """
        kept = self.metric.isfinite().float().mean(1) >= 0.5
        if not kept.any():
            raise RuntimeError(
                "the metric could score less than half of the groups of every candidate: pass larger groups or another "
                "metric"
            )
        return Groups(self.rows[kept], self.metric[kept])

    def scored(self) -> "Groups":
        """The groups, with each unscored group replaced by another of its candidate, so that candidates keep equally
        many."""
        kept = self.of_scored_candidates()
        order = torch.arange(kept.metric.shape[1])
        places = [row.isfinite().nonzero().flatten() for row in kept.metric]
        places = torch.stack([place if len(place) == len(order) else place[order % len(place)] for place in places])
        chosen = torch.arange(len(places)).unsqueeze(1)
        return Groups(kept.rows[chosen, places], kept.metric[chosen, places])

    def sample(self, count: int, generator: torch.Generator) -> "Groups":
        """About `count` of the groups, several of each of some candidates."""
        candidates, groups = self.metric.shape
        of_each = min(groups, max(_GROUPS_OF_A_CANDIDATE, count // candidates))
        chosen = torch.randperm(candidates, generator=generator)[: max(1, count // of_each)]
        places = torch.rand(len(chosen), groups, generator=generator).argsort(1)[:, :of_each]
        chosen = chosen.unsqueeze(1)
        return Groups(self.rows[chosen, places], self.metric[chosen, places])


def smallest_data_set(group_size: int, held_out: float) -> int:
    """The number of different examples for one group to learn from, one to stop by, and one to report on."""
    return math.ceil(group_size / (held_out / 2))


def split_examples(
    predictions: Predictions, group_size: int, held_out: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows to learn from, to stop by and to report on. All rows of one example are in the same part.

    Args:
        predictions: the predictions to split.
        group_size: examples in a group. Each part has at least as many.
        held_out: the share of the examples that is kept for stopping and reporting, half for each.
        generator: draws the parts.

    Raises:
        ValueError: there are too few different examples.
    """
    keys = predictions.example_keys()
    distinct = sorted(set(keys))
    smallest = smallest_data_set(group_size, held_out)
    if len(distinct) < smallest:
        raise ValueError(
            f"there are predictions of {len(distinct)} different examples, but group_size={group_size} and "
            f"held_out={held_out} need {smallest}: save more predictions, or pass a smaller group size"
        )
    half = max(group_size, round(len(distinct) * held_out / 2))
    order = torch.randperm(len(distinct), generator=generator).tolist()
    part = {distinct[place]: (1 if i < half else 2 if i < 2 * half else 0) for i, place in enumerate(order)}
    parts = torch.tensor([part[key] for key in keys])
    return tuple((parts == number).nonzero().flatten() for number in range(3))


def draw_groups(
    predictions: Predictions, rows: Tensor, group_size: int, count: int, generator: torch.Generator
) -> Tensor:
    """About `count` groups of `rows`, shape `(candidates, groups, group_size)`. Every candidate with enough examples
    for one group gets the same number of groups.

    If a candidate has too few examples for so many groups, they are drawn again in another order.

    Raises:
        ValueError: no candidate has enough examples.
    """
    candidates = predictions.candidates[rows]
    pools = [rows[candidates == candidate] for candidate in candidates.unique()]
    pools = [pool for pool in pools if len(pool) >= group_size]
    if not pools:
        raise ValueError(
            f"no candidate has predictions of group_size={group_size} different examples: save more predictions, or "
            "pass a smaller group size"
        )
    wanted = math.ceil(count / len(pools))
    groups = []
    for pool in pools:
        whole = len(pool) // group_size
        rounds = [torch.randperm(len(pool), generator=generator) for _ in range(math.ceil(wanted / whole))]
        order = torch.cat([places[: whole * group_size] for places in rounds])
        groups.append(pool[order.view(-1, group_size)[:wanted]])
    return torch.stack(groups)
