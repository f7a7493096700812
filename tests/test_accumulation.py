"""The gradient of a step does not depend on how the step is split. See `test_distributed.py` for several processes."""

import pytest
import torch
from one_step import EXAMPLES, SURROGATES, gradient


@pytest.mark.parametrize("kind", SURROGATES)
@pytest.mark.parametrize("phase", ["cross_entropy", "surrogate"])
@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (3, 3)])
def test_accumulated_batches_are_one_batch_of_eight(kind, phase, batch_size, accumulation, tmp_path):
    whole, _ = gradient(kind, phase, EXAMPLES, 1, tmp_path)
    accumulated, _ = gradient(kind, phase, batch_size, accumulation, tmp_path)
    assert whole.abs().max() > 5e-3
    torch.testing.assert_close(accumulated, whole, atol=1e-5, rtol=0)
