"""Places are read from heatmaps as the image processor of transformers reads them, and targets are not rounded."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reloss_hf import decode_poses
from reloss_hf.tasks.keypoints.heatmaps import bumps
from reloss_hf.tasks.keypoints.joints import COCO_17, LSP_14, left_and_right, mirrored_order

SIZE = (64, 48)


def heatmaps_of(places, noise=0.0, shape=(16, 12), sigma=1.5):
    rows, columns = bumps(places, torch.tensor(sigma), shape)
    found = rows.unsqueeze(3) * columns.unsqueeze(2)
    return found + noise * torch.rand(found.shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def places():
    draw = torch.Generator().manual_seed(0)
    inside = torch.rand(5, 6, 2, generator=draw) * torch.tensor([11.0, 15.0])
    inside[0, :4] = torch.tensor([[0.0, 0.0], [11.0, 15.0], [0.2, 14.9], [10.9, 0.1]])
    return inside


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_places_equal_those_of_the_image_processor(places, noise):
    pytest.importorskip("scipy")
    processors = pytest.importorskip("transformers.models.vitpose.image_processing_pil_vitpose")
    heatmaps = heatmaps_of(places, noise)
    height, width = SIZE
    # The processor widens a box by a quarter; this one then covers the input, from the first pixel to the last.
    box = [0.0, 0.0, (width - 1) / 1.25, (height - 1) / 1.25]
    processor = processors.VitPoseImageProcessorPil(size={"height": height - 1, "width": width - 1})
    results = processor.post_process_pose_estimation(SimpleNamespace(heatmaps=heatmaps), boxes=[[box]] * 5)
    expected = torch.stack([result[0]["keypoints"] for result in results])
    corner = torch.tensor([(1 - 1.25) / 2.5 * (width - 1), (1 - 1.25) / 2.5 * (height - 1)])
    torch.testing.assert_close(decode_poses(heatmaps, SIZE), expected - corner.float(), atol=1e-3, rtol=0)


def test_places_between_pixels_are_found_again(places):
    found = decode_poses(heatmaps_of(places), SIZE)
    pixels = torch.tensor([47 / 11, 63 / 15])
    away_from_edges = ((places > 2) & (places < torch.tensor([9.0, 13.0]))).all(2)
    assert away_from_edges.sum() > 8
    torch.testing.assert_close(found[away_from_edges], (places * pixels)[away_from_edges], atol=0.1, rtol=0)


def test_a_heatmap_that_is_nowhere_positive_has_its_arg_max():
    heatmaps = -torch.ones(1, 1, 8, 8)
    heatmaps[0, 0, 3, 5] = -0.5
    assert decode_poses(heatmaps, (8, 8)).tolist() == [[[5.0, 3.0]]]


def test_flat_and_tiny_heatmaps_have_finite_places():
    for heatmaps in (torch.zeros(2, 3, 8, 6), torch.full((1, 2, 4, 4), 80.0), torch.rand(2, 2, 1, 1)):
        assert decode_poses(heatmaps, SIZE).isfinite().all()


def test_left_and_right_are_known_by_name():
    for names in (LSP_14, COCO_17, ("Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear")):
        pairs = left_and_right(names)
        assert len(pairs) == sum("eft" in name or name.startswith("L_") for name in names)
        order = mirrored_order(pairs, len(names))
        assert np.array(order)[order].tolist() == list(range(len(names)))
    assert left_and_right(("joint_0", "joint_1")) == []


@pytest.mark.parametrize("pairs", [[(0, 4)], [(0, 1), (1, 2)], [(1, 1)], [(0, 1, 2)]])
def test_pairs_that_do_not_fit_are_refused(pairs):
    with pytest.raises(ValueError, match="do not fit 4 joints: pass pairs of two numbers from 0 to 3"):
        mirrored_order(pairs, 4)
