"""Heatmaps of keypoints: their targets, and how a place is read from them.

Places are `(x, y)`. A heatmap and the input of the model show the same rectangle: the centres of their corner pixels
coincide, as in Huang et al., *The Devil Is in the Details: Delving into Unbiased Data Processing for Human Pose
Estimation*, CVPR 2020.
"""

import torch
from torch import Tensor

# Of the blur before a place is refined, in heatmap pixels, as `VitPoseImageProcessor` has it.
_BLUR, _RADIUS = 0.8, 5
_LOWEST, _HIGHEST = 1e-3, 50.0


def decode_poses(heatmaps: Tensor, size: tuple[int, int]) -> Tensor:
    """The place of each joint in the input of the model.

    It is the arg-max of the heatmap, refined by the slope and the curvature of the logarithm of the blurred heatmap.
    `VitPoseImageProcessor.post_process_pose_estimation` gives the same places. A heatmap that is nowhere positive has
    its arg-max.

    Args:
        heatmaps: shape `(n, joints, h, w)`.
        size: height and width of the input in pixels.

    Returns:
        `(x, y)` in pixels of the input, float32 of shape `(n, joints, 2)`.

    References:
        Zhang et al., *Distribution-Aware Coordinate Representation for Human Pose Estimation*, CVPR 2020.
    """
    return (peaks(heatmaps) * pixels_of_heatmap(heatmaps, torch.tensor(size).flip(0))).float()


def peaks(heatmaps: Tensor) -> Tensor:
    """The same in pixels of the heatmap, float64 of shape `(n, joints, 2)`."""
    flat = heatmaps.detach().float().flatten(0, 1)
    height, width = flat.shape[1:]
    highest = flat.flatten(1).argmax(1)
    row, column = highest.div(width, rounding_mode="floor"), highest % width
    reach = torch.arange(-_RADIUS - 1, _RADIUS + 2, device=flat.device)
    rows, columns = _mirrored(row.unsqueeze(1) + reach, height), _mirrored(column.unsqueeze(1) + reach, width)
    around = flat[torch.arange(len(flat), device=flat.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    blur = (-(torch.arange(-_RADIUS, _RADIUS + 1, device=flat.device).double() / _BLUR).square() / 2).exp()
    blur = torch.stack([torch.nn.functional.pad(blur / blur.sum(), (place, 2 - place)) for place in range(3)])
    near = (blur @ around.double() @ blur.T).clamp(_LOWEST, _HIGHEST).log()  # 3 x 3 pixels
    place = torch.stack([column, row], 1).double() - _newton_step(near)
    return place.unflatten(0, heatmaps.shape[:2])


def pixels_of_heatmap(heatmaps: Tensor, input_size: Tensor) -> Tensor:
    """How many pixels of the input a pixel of the heatmap is wide and high.

    Args:
        heatmaps: shape `(..., h, w)`.
        input_size: width and height of the input, shape `(..., 2)`.
    """
    size = torch.tensor(heatmaps.shape[:-3:-1], device=heatmaps.device)
    return (input_size.to(heatmaps.device) - 1) / (size - 1).clamp(min=1)


def bumps(places: Tensor, widths: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Gaussian bumps of height 1, `exp(-distance² / (2 width²))`, as their factors in y and x. Their centre is not
    rounded to a pixel.

    Args:
        places: `(x, y)` of the centres in pixels, shape `(..., 2)`.
        widths: standard deviations in pixels, shape `(...)`.
        shape: height and width in pixels.

    Returns:
        The factors, shapes `(..., h)` and `(..., w)`; the bumps are their outer products.
    """
    factors = []
    for axis, count in ((1, shape[0]), (0, shape[1])):
        distance = torch.arange(count, device=places.device) - places[..., axis, None]
        factors.append(without_tiny((-(distance / widths.unsqueeze(-1)).square() / 2).exp()))
    return factors[0], factors[1]


def without_tiny(values: Tensor) -> Tensor:
    """Values with 0 in place of those below 1e-8. Products of tiny floats may be subnormal, and a matrix product of
    such takes ten times as long."""
    return torch.nn.functional.threshold(values, 1e-8, 0.0)


def _newton_step(near: Tensor) -> Tensor:
    """The step from the middle of 3 x 3 values to the top of their parabola, with the opposite sign, shape `(n, 2)`."""
    middle, left, right = near[:, 1, 1], near[:, 1, 0], near[:, 1, 2]
    above, below = near[:, 0, 1], near[:, 2, 1]
    tiny = torch.finfo(torch.float32).eps
    dx, dy = (right - left) / 2, (below - above) / 2
    dxx, dyy = right - 2 * middle + left + tiny, below - 2 * middle + above + tiny
    dxy = (near[:, 2, 2] - right - below + 2 * middle - left - above + near[:, 0, 0]) / 2
    step = torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], 1) / (dxx * dyy - dxy.square()).unsqueeze(1)
    return torch.where(step.isfinite(), step, torch.zeros_like(step))


def _mirrored(places: Tensor, count: int) -> Tensor:
    """Places beyond the ends, mirrored at the outer edges of the first and last pixel."""
    places = places % (2 * count)
    return torch.where(places < count, places, 2 * count - 1 - places)
