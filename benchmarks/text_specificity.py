"""What each metric of texts says of losses that were learned from each of them, and what a sceptic would train instead.

    python benchmarks/text_specificity.py --shared ../shared/data --seeds 0

The recipe is that of `translation.py`: the German of Multi30k's English, by a model from scratch. With the same --runs
folder as its --output_dir, both continue the same warm starts. One run at a time is trained, and added to the results
at once; what is there is skipped. Within a seed all arms resume one warm start, with its optimizer and schedule; losses
are learned from validation. The control is learned from shuffled BLEU. `--table` prints the tables.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from arms import LearningRateFactor, experiment_of, run_of, scaled
from one_by_one import ShuffledControl, run_all, shared_flags
from results_file import Results
from sacrebleu.metrics import BLEU, CHRF, TER

from reloss_hf import NgramSurrogate, ReLossSeq2SeqTrainer

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples" / "translation"))
import run_translation

NAME = "multi30k"
CUT = "BLEU, cut at the source's length"
METRICS = {"BLEU": "bleu", "chrF": "chrf", "TER": "ter", CUT: "cut"}
NAMES = {"BLEU": "sacrebleu", "chrF": "chrf", "TER": "ter"}
BEAMS = 5
BY_METRIC = ("surrogate", "shuffled_control")
ARMS = ("cross_entropy", "as_written", *BY_METRIC)
# Those of `translation.py` in README.md.
FLAGS = (
    "--from_scratch --vocab_size 6000 --layers 3 --width 192 --dropout 0.2 --per_device_train_batch_size 128 "
    "--per_device_eval_batch_size 256 --num_train_epochs 20 --surrogate_start 0.8 --learning_rate 2e-3 "
    "--warmup_steps 800 --train_sampling_strategy group_by_length --save_strategy steps --save_steps 454"
)


class ShuffledSeq2SeqControl(ShuffledControl, ReLossSeq2SeqTrainer):
    pass


def main() -> None:
    parser = shared_flags(__doc__, ARMS, "out/multi30k")
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=list(METRICS), help="to learn losses of")
    parser.add_argument("--flags", default=FLAGS, help="of the example's script, in one string")
    parser.set_defaults(factors=[1.0])  # the schedule of the warm start goes on
    options = parser.parse_args()
    tables = {f"{NAME}, greedy": (NAME, ""), f"{NAME}, beam {BEAMS}": (NAME, f"_beam{BEAMS}")}
    path = options.results / "text_specificity.json"
    results = Results(path, ARMS, {NAME: METRICS}, BY_METRIC, lower_is_better=("TER",), specificity_of=tables)
    if options.table:
        results.print_arms()
        return results.print_specificity()

    def load(name: str, seed: int) -> dict:
        return {"experiment": make_experiment(seed, options)}

    def skipped(name: str, metric: str, arm: str, seed: int) -> bool:
        return metric not in options.metrics or (arm == "shuffled_control" and metric != next(iter(METRICS)))

    return run_all(options, results, [NAME], load, run_arm, skipped=skipped)


def make_experiment(seed: int, options) -> run_translation.Experiment:
    parts = {"train": "train", "validation": "validation", "test": "test_2016"}
    files = [f"--{part}_file={options.shared / 'multi30k-en-de' / name}.jsonl.gz" for part, name in parts.items()]
    flags = [f"--output_dir={options.runs}/seed-{seed}", f"--seed={seed}", "--use_cpu", "--disable_tqdm=True"]
    return experiment_of(run_translation, [*files, *flags, *options.flags.split()])


def run_arm(
    arm: str, metric: str | None, variant: dict, name: str, seed: int, experiment: run_translation.Experiment
) -> dict:
    """Train, and measure on validation and test."""
    _, checkpoint = experiment.warm_start()
    # From the warm start on, so that the warm start is that of `translation.py`.
    experiment.tokenized["surrogate"] = experiment.tokenized["validation"]
    changes = {"callbacks": [LearningRateFactor(variant["factor"])]} if variant["factor"] != 1 else {}
    if arm == "cross_entropy":
        changes["surrogate_start"] = None
    elif arm == "as_written":
        changes["surrogate"] = scaled(NgramSurrogate(), checkpoint)
    else:
        judged = NAMES.get(metric) or cut_bleu(experiment, "validation")
        changes |= {"surrogate_class": "ClosingNgrams", "metric": judged}
    if arm == "shuffled_control":
        changes["cls"] = ShuffledSeq2SeqControl
    folder = "-".join(part for part in ("closing", arm, NAMES.get(metric, metric and "cut")) if part)
    row = experiment.arm(folder, checkpoint, **changes)
    return run_of(row) | {part: scores(experiment, experiment.out / folder, part) for part in ("validation", "test")}


def scores(experiment: run_translation.Experiment, folder: Path, part: str) -> dict[str, float]:
    """The metrics of translations that are stored with the model."""
    references, found = experiment.references(part), {}
    judges, cut = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}, cut_bleu(experiment, part)
    for decoding, suffix in (("greedy", ""), (f"beam{BEAMS}", f"_beam{BEAMS}")):
        texts = (folder / f"{part}_{decoding}.txt").read_text().split("\n")[:-1]
        for name, judge in judges.items():
            found[name + suffix] = round(judge.corpus_score(texts, [references]).score, 2)
        found["cut" + suffix] = round(cut(texts, references), 2)
        found["words" + suffix] = sum(len(text.split()) for text in texts)
    return found


def cut_bleu(experiment: run_translation.Experiment, part: str) -> Callable:
    """BLEU of texts that are cut to as many words as their source has; if the source is not known, as the reference."""
    sources = [len(pair[experiment.data_args.source_lang].split()) for pair in experiment.raw[part]["translation"]]
    labels = experiment.tokenizer.batch_decode(experiment.tokenized[part]["labels"][:], skip_special_tokens=True)
    words = dict(zip((text.strip() for text in labels), sources, strict=True))
    words |= dict(zip(experiment.references(part), sources, strict=True))

    def cut(predictions, references):
        lengths = [words.get(gold, len(gold.split())) for gold in references]
        texts = [" ".join(text.split()[:most]) for text, most in zip(predictions, lengths, strict=True)]
        return BLEU(force=True).corpus_score(texts, [list(references)]).score

    return cut


if __name__ == "__main__":
    main()
