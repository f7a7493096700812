"""Learn a surrogate that comes with the package, and measure how it orders predictions that it never saw.

    python benchmarks/shipped_surrogates.py --name bleu --metric sacrebleu --surrogate_class LogNgramSurrogate \
        --learn_from "Multi30k en-de=out/en-de/warm_start/checkpoint-3269/reloss_state" \
        --transfer "Multi30k de-en=out/de-en/warm_start/checkpoint-1294/reloss_state" \
            "CLDR phrases en-de=out/translation/warm_start/checkpoint-1488/reloss_state"

The predictions are those that the examples' warm starts leave in their checkpoints; `benchmarks/README.md` has the
commands. The surrogate, its card and its plot go to `reloss_hf/shipped/NAME`.
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from reloss_hf import GroupMetric, Predictions, SurrogateLearner, SurrogateLoss
from reloss_hf.diagnosis.diagnosis import diagnose
from reloss_hf.sharing.hub import SHIPPED
from reloss_hf.sharing.model_card import write_model_card


@dataclass
class Arguments:
    name: str = field(metadata={"help": "Of the surrogate."})
    metric: str = field(metadata={"help": "Its metric."})
    learn_from: str = field(metadata={"help": "NAME=FOLDER of the predictions to learn from."})
    surrogate_class: str = field(metadata={"help": "What is learned."})
    transfer: list[str] = field(metadata={"help": "NAME=FOLDER of predictions to measure it on."})


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    metric = GroupMetric(args.metric)
    source, _, folder = args.learn_from.rpartition("=")
    predictions = own(folder)
    learner = SurrogateLearner(metric, args.surrogate_class, steps=1000)
    report = learner.learn(predictions)
    surrogate = learner.surrogate
    surrogate.info |= {
        "training": {"dataset": source},
        "transfer": [transfer(surrogate, metric, named) for named in args.transfer],
    }
    surrogate.held_out = None  # the card has no picture: the package stays small
    for row in [report.as_dict(), *surrogate.info["transfer"]]:
        print({name: value for name, value in row.items() if name.startswith(("spearman", "predictions"))})
    surrogate.save_pretrained(SHIPPED / args.name)
    write_model_card(surrogate, SHIPPED / args.name, repo_id=args.name)


def own(folder: str) -> Predictions:
    """The model's own predictions, without corruptions of them."""
    predictions = Predictions.load(folder)
    return predictions.select((predictions.candidates >= 0).nonzero().flatten())


def transfer(surrogate: SurrogateLoss, metric: GroupMetric, named: str) -> dict:
    name, _, folder = named.rpartition("=")
    baseline, *_, learned = diagnose(own(folder), metric, {"surrogate": surrogate}).losses
    return {
        "predictions": name,
        "spearman": learned.overall.value,
        "spearman_within": learned.within.value,
        "spearman_cross_entropy": baseline.overall.value,
        "spearman_cross_entropy_within": baseline.within.value,
    }


if __name__ == "__main__":
    main()
