"""Rank correlation and the gradient penalty: pure, differentiable functions.

Source: Huang et al., *Relational Surrogate Loss Learning*, ICLR 2022, section 3 (arXiv 2202.13197).
"""

from collections.abc import Callable

import torch
from torch import Tensor


def soft_rank(values: Tensor, temperature: float = 0.1) -> Tensor:
    """Differentiable ascending ranks along the last dimension.

    The rank of `x_i` is `1 + Σ_{j≠i} σ((x_i - x_j) / temperature)`. As the temperature goes to zero, it becomes the
    rank of `scipy.stats.rankdata`, in which ties share their average.

    Args:
        values: shape `(..., n)`, floating point. Their scale matters, so `spearman_correlation` standardises first.
        temperature: width of the sigmoid, in units of `values`; above 0.

    Returns:
        Ranks between 1 and `n`, shape `(..., n)`.
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    differences = values.unsqueeze(-1) - values.unsqueeze(-2)
    return torch.sigmoid(differences / temperature).sum(-1) + 0.5


def average_rank(values: Tensor) -> Tensor:
    """Ascending ranks along the last dimension. Tied values share their average rank. Not differentiable.

    Args:
        values: shape `(..., n)`.

    Returns:
        Ranks between 1 and `n`, shape `(..., n)`, in the floating-point type of `values`, or in the default type for
        integers.
    """
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    values = values.contiguous()
    ordered = values.sort(-1).values
    smaller, not_larger = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (smaller + not_larger + 1).to(dtype) / 2


def hard_rank(values: Tensor, temperature: float) -> Tensor:
    """`average_rank` with the signature of a soft rank."""
    return average_rank(values)


def sorting_network_rank(values: Tensor, temperature: float = 0.2) -> Tensor:
    """The paper's soft rank: a bitonic sorting network with logistic swaps (Petersen et al., ICML 2021).

    It needs the optional dependency `diffsort`. The paper's steepness of 5 is a temperature of 0.2.

    Args:
        values: shape `(n,)` or `(batch, n)`.
        temperature: inverse steepness of the swaps; above 0.

    Returns:
        Ranks between 1 and `n`, of the shape of `values`.
    """
    try:
        from diffsort import DiffSortNet
    except ImportError as error:
        raise ImportError("sorting_network_rank needs diffsort: pip install 'reloss_hf[sorting-network]'") from error
    rows = values.reshape(-1, values.shape[-1])
    network = DiffSortNet(
        "bitonic", rows.shape[1], values.device, steepness=1 / temperature, distribution="logistic_phi"
    )
    _, permutation = network(rows)
    places = torch.arange(1, rows.shape[1] + 1, dtype=permutation.dtype, device=values.device)
    return (permutation @ places).reshape(values.shape)


def spearman_correlation(
    scores: Tensor,
    targets: Tensor,
    temperature: float = 0.1,
    rank: Callable[[Tensor, float], Tensor] = soft_rank,
) -> Tensor:
    """Spearman's ρ along the last dimension, differentiable in `scores`.

    `scores` are standardised, then ranked softly. `targets` get hard ranks, and ties share their average. If either
    side is constant, ρ is 0 and its gradient is finite.

    Args:
        scores: shape `(..., n)`, floating point, of any scale and offset.
        targets: shape `(..., n)`, broadcast against `scores`.
        temperature: temperature of the soft rank, in standard deviations of `scores`.
        rank: a soft rank, called as `rank(scores, temperature)`: `soft_rank` or `sorting_network_rank`.

    Returns:
        Shape `(...)`, between -1 and 1.
    """
    if scores.shape[-1] != targets.shape[-1]:
        raise ValueError(f"scores {tuple(scores.shape)} and targets {tuple(targets.shape)} differ in length")
    soft = _standardise(rank(_standardise(scores), temperature))
    hard = _standardise(average_rank(targets).to(soft))
    return (soft * hard).mean(-1)


def gradient_penalty(losses: Tensor, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """`mean_i (‖∂losses_i/∂inputs_i‖ - 1)²`: keeps the gradient of a surrogate well scaled.

    The norm of an example is taken over all its inputs together. The graph is kept, so that the penalty can be
    minimised. The surrogate must therefore allow a double backward.

    Args:
        losses: one loss per example, shape `(n,)`. `losses[i]` may depend on `inputs[i]` alone.
        inputs: one or several tensors of shape `(n, ...)` that `losses` was computed from, with gradients.

    Returns:
        A scalar, 0 or more.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    return (example_gradient_norms(losses, inputs, create_graph=True) - 1).square().mean()


def example_gradient_norms(losses: Tensor, inputs: tuple[Tensor, ...], create_graph: bool = False) -> Tensor:
    """`‖∂losses_i/∂inputs_i‖` of every example, shape `(n,)`."""
    gradients = torch.autograd.grad(losses.sum(), inputs, create_graph=create_graph, allow_unused=True)
    squares = sum(gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients if gradient is not None)
    return (squares + torch.finfo(squares.dtype).tiny).sqrt() if create_graph else squares.sqrt()


def _standardise(values: Tensor) -> Tensor:
    """Mean 0 and variance 1 along the last dimension; constant rows become 0 instead of NaN."""
    centred = values - values.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    noise = (torch.finfo(values.dtype).eps * values.detach().abs().amax(-1, keepdim=True)).square()
    constant = variance <= noise
    deviation = torch.where(constant, torch.ones_like(variance), variance).sqrt()
    return torch.where(constant, torch.zeros_like(centred), centred / deviation)
