"""What a surrogate costs, as ratios measured in one run: learning it, a training step on it, and its parts.

    python benchmarks/speed.py --predictions path/to/reloss_state

`--predictions`, of a translation run, is what learning is timed on; the rest makes its own inputs. What is compared
takes turns, so that other work on the machine slows both sides down. Seconds are those of the clock, medians over
`--rounds`; memory is the peak of what is allocated beyond what was there before.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from speed_classification import time_classification
from speed_learning import time_learning
from speed_steps import time_own_output, time_questions, time_translation
from timing import DEVICE, peak_memory, timed

from reloss_hf import Predictions, soft_rank, sorting_network_rank, spearman_correlation
from reloss_hf.learning.store import PredictionStore

PARTS = {
    "learning": lambda options: time_learning(options.predictions, options.patience),
    "translation": lambda options: time_translation(options.rounds),
    "own_output": lambda options: time_own_output(options.rounds),
    "question_answering": lambda options: time_questions(options.rounds),
    "classification": lambda options: time_classification(options.shared, options.rounds),
    "soft_rank": lambda options: time_ranks(options.largest_rank),
    "store": lambda options: measure_store(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--predictions", help="a folder of predictions of a translation run")
    parser.add_argument("--shared", type=Path, default="../shared/data", help="the folder of the data sets")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to measure")
    parser.add_argument("--rounds", type=int, default=9, help="how often each step is timed")
    parser.add_argument("--patience", type=float, default=600, help="seconds that the reference may take to learn")
    parser.add_argument("--largest_rank", type=int, default=4096, help="how many values are ranked at most")
    parser.add_argument("--results", default="benchmarks/results/speed.json", help="where they go, beside older ones")
    options = parser.parse_args()
    if "learning" in options.parts and options.predictions is None:
        parser.error("learning needs --predictions")
    measured = {}
    for part in options.parts:
        measured |= PARTS[part](options)
    path = Path(options.results)
    results = json.loads(path.read_text()) if path.exists() else {}
    results |= measured | {"device": DEVICE.type, "torch": torch.__version__}
    command = f"OMP_NUM_THREADS={torch.get_num_threads()} python {' '.join(sys.argv)}"
    results.setdefault("commands", {})[" ".join(options.parts)] = command
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")
    for name, value in measured.items():
        print(f"{name:45} {value}")


def time_ranks(largest: int) -> dict:
    """Forward and backward of Spearman's correlation by a pairwise soft rank and by the paper's sorting network."""
    measured = {}
    sizes = [size for size in (64, 256, 1024, 4096) if size <= largest]
    for size in sizes:
        scores, targets = torch.randn(2, size, device=DEVICE)

        def step(rank, scores=scores, targets=targets):
            spearman_correlation(scores.clone().requires_grad_(), targets, rank=rank).backward()

        seconds, memory = {}, {}
        for rank in (soft_rank, sorting_network_rank):
            step(rank)
            seconds[rank] = statistics.median(timed(lambda rank=rank: step(rank)) for _ in range(3))
            memory[rank] = peak_memory(lambda rank=rank: step(rank))
        measured[f"soft_rank_speedup_{size}"] = round(seconds[sorting_network_rank] / seconds[soft_rank], 1)
        measured[f"soft_rank_memory_ratio_{size}"] = round(memory[soft_rank] / memory[sorting_network_rank], 4)
    return measured


def measure_store() -> dict:
    """Bytes that the store of one process holds after so many examples were offered to it."""
    store, held = PredictionStore(512, 0, 1), {}
    for seen in range(64, 64_001, 64):
        snapshot = 0 if seen <= 32_000 else 1
        places = store.reserve(snapshot, 64)
        if places:
            rows = len(places)
            features = {"target_log_probs": torch.zeros(rows, 16), "target_mask": torch.ones(rows, 16).bool()}
            store.add(Predictions(features, ["text"] * rows, ["text"] * rows, torch.full((rows,), snapshot)))
        if seen in (3_200, 32_000, 35_200, 64_000):
            held[seen] = sum(value.nbytes for value in store.predictions().features.values())
    return {
        "store_growth_within_a_snapshot": held[32_000] / held[3_200],
        "store_growth_by_a_snapshot": held[64_000] / held[32_000],
    }


if __name__ == "__main__":
    main()
