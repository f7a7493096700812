import subprocess
import sys

import pytest
from places import ROOT

EXAMPLE = ROOT / "examples" / "trl" / "run_sft.py"


@pytest.mark.parametrize("packing", [[], ["--packing", "--max_length", "256", "--per_device_train_batch_size", "4"]])
def test_the_example_with_trl_runs_to_its_table(tmp_path, packing):
    pytest.importorskip("trl")
    pytest.importorskip("babel")
    command = [
        *(sys.executable, str(EXAMPLE), "--output_dir", str(tmp_path), "--max_train_samples", "64"),
        *("--max_eval_samples", "8", "--num_train_epochs", "1", "--further_epochs", "1", "--vocab_size", "300"),
        *("--layers", "1", "--width", "32", "--logging_steps", "1", "--use_cpu"),
        *packing,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    rows = [line.split(" | ")[0] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert done.stdout.count("'surrogate_in_force': '1'") >= 1
    assert "compute_loss_func" not in done.stderr
    assert rows == ["| arm", "| warm start", "| cross-entropy", "| surrogate"]
