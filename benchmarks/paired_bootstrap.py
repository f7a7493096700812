"""Whether two arms of `translation.py` differ: sacreBLEU's paired bootstrap over the test sentences, for each seed.

    python benchmarks/paired_bootstrap.py --runs out/multi30k --file test.jsonl.gz --target_lang de \
        --arms cross_entropy surrogate --seeds 0 1 2
"""

import argparse
from pathlib import Path

import datasets
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", required=True, type=Path, help="the output folder of translation.py")
    parser.add_argument("--file", required=True, help="what was translated, as JSON lines")
    parser.add_argument("--target_lang", required=True, help="key of the target in 'translation'")
    parser.add_argument("--split", default="test", help="which translations: test or validation")
    parser.add_argument("--arms", required=True, nargs=2, help="their folders; the first is the baseline")
    parser.add_argument("--seeds", required=True, nargs="+", type=int)
    options = parser.parse_args()
    rows = datasets.load_dataset("json", data_files=options.file, split="train")
    references = [pair[options.target_lang] for pair in rows["translation"]]
    print("| decoding | seed | " + " | ".join(options.arms) + " | difference | p |\n|---|---|---|---|---|---|")
    for decoding in ("greedy", "beam5"):
        for seed in options.seeds:
            print(f"| {decoding} | {seed} {_compare(options, f'{options.split}_{decoding}.txt', seed, references)}")


def _compare(options: argparse.Namespace, name: str, seed: int, references: list[str]) -> str:
    systems = [(arm, (options.runs / f"seed-{seed}" / arm / name).read_text().splitlines()) for arm in options.arms]
    test = PairedTest(systems, {"BLEU": BLEU(references=[references])}, references=None, test_type="bs")
    _, scores = test()
    baseline, other = scores["BLEU"]
    return f"| {baseline.score:.2f} | {other.score:.2f} | {other.score - baseline.score:+.2f} | {other.p_value:.3f} |"


if __name__ == "__main__":
    main()
