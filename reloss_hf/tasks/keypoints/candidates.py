"""Candidates of the same images: a model's heatmaps, perturbed as another training might change them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...surrogate import Features
from ..functional import copied
from .heatmaps import bumps, without_tiny
from .joints import left_and_right, mirrored_order
from .losses import targets_of

# How far a training moves heatmaps: steps and noise in heights of their peaks, shifts and blurs in their pixels.
_STEP, _NOISE, _SHIFT, _BLUR = 0.3, 0.1, 0.3, 1.0
# The share of the images whose left and right are mixed up in a copy, and of the joints that lose their peak.
_MIXED, _MOVED = 0.1, 0.1
_PEAK = 2.0  # standard deviation of a peak in pixels of the heatmap
_COARSE = 4  # pixels of the heatmap between the values of the noise


def perturbed(
    features: Features, count: int, generator: torch.Generator, strength: float = 1.0, names: Sequence[str] = ()
) -> Features:
    """`count` copies of some heatmaps, one after the other.

    Each copy has a shift, and a blur or its opposite, of each joint, and a step to the targets or away from them, which
    differs by joint and by image. In some images left and right are mixed up, some heatmaps lose their peak so that a
    rival takes its place, and all have smooth noise.

    Args:
        features: those of `n` images; see `losses`.
        count: number of copies.
        generator: draws the perturbations.
        strength: factor of the perturbations. It is 1, or more if 1 changes no prediction.
        names: the names of the joints, which tell left from right.

    Returns:
        The features of `count · n` images.
    """
    heatmaps, visible = features["heatmaps"].float(), features["visible"]
    images, joints, height, width = heatmaps.shape
    scale = heatmaps.amax((2, 3))[visible].mean().clamp(min=1e-6) if visible.any() else torch.ones(())

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def some(share: float, *shape: int) -> Tensor:
        """Random factors from 0 to 1 for a share of the entries, 0 for the others."""
        chosen = torch.rand(shape, generator=generator) < min(1.0, strength * share)
        return chosen * torch.rand(shape, generator=generator)

    shift, blur = strength * _SHIFT * normal(count, joints, 2), strength * normal(count, joints).clamp(-2, 2) / 2
    rows, columns = _blurs(shift[..., 1], blur, height), _blurs(shift[..., 0], blur, width)
    copies = torch.einsum("cjab,njbd,cjed->cnjae", rows, heatmaps, columns)

    step = normal(count, 1, 1) + normal(count, 1, joints) + normal(count, images, 1)
    step = (strength * _STEP / 2 * step * visible)[..., None, None]
    copies = copies.mul_(1 - step).add_(step * (scale * targets_of(features)))

    names = names if len(names) == joints else [str(place) for place in range(joints)]
    order = mirrored_order(left_and_right(names), joints)
    share = some(_MIXED, count, images)
    mixed = copies[share > 0]
    copies[share > 0] = mixed.lerp(mixed[:, order], share[share > 0][:, None, None, None])

    share = some(_MOVED, count, images, joints)
    moved = copies[share > 0]
    highest = moved.flatten(1).argmax(1)
    highest = torch.stack([highest % width, highest.div(width, rounding_mode="floor")], 1)
    rows, columns = bumps(highest, torch.full((), _PEAK), (height, width))
    peaks = share[share > 0][:, None, None] * rows.unsqueeze(2) * columns.unsqueeze(1)
    copies[share > 0] = moved * (1 - peaks)

    coarse = normal(count, images, joints, 1 + height // _COARSE, 1 + width // _COARSE)
    coarse *= strength * _NOISE * scale * normal(count, 1, 1, 1, 1).abs()
    rows, columns = (_upsampling(size, 1 + size // _COARSE) for size in (height, width))
    copies += rows @ coarse @ columns.T
    others = copied(features, count)
    return others | {"heatmaps": copies.flatten(0, 1)}


def _blurs(shift: Tensor, blur: Tensor, count: int) -> Tensor:
    """Matrices that shift a row of pixels, and blur it, or sharpen it where `blur` is negative, of the shape
    `(*shape of shift, count, count)`."""
    places = torch.arange(count)
    squares = (places.view(-1, 1) - places - shift[..., None, None]).square()
    plain, blurred = (without_tiny((-squares / (2 * spread**2)).softmax(-1)) for spread in (0.3, _BLUR))
    return plain + blur[..., None, None] * (blurred - plain)


def _upsampling(count: int, knots: int) -> Tensor:
    """The matrix that interpolates between knots at equal distances, shape `(count, knots)`."""
    places = torch.linspace(0, knots - 1, count).unsqueeze(1)
    return (1 - (places - torch.arange(knots)).abs()).clamp(min=0)
