"""The command `reloss` diagnoses losses, and learns, describes and shares surrogates.

A command imports its modules when it runs, so help and errors in arguments appear at once.
"""

import argparse
import json
import shlex
import shutil
import sys
import textwrap
import warnings
from pathlib import Path

from . import __version__

_EXAMPLES = """examples:
  reloss diagnose out/predictions --metric sacrebleu
      Does cross-entropy order my predictions as BLEU does? A table, a verdict, and report/report.html.
  reloss learn out/predictions --metric sacrebleu --output out/surrogate
      Learn a loss that orders them better.
  reloss diagnose other/predictions --metric sacrebleu --surrogate out/surrogate
      Does it order the predictions of another model, too?
  reloss push out/surrogate me/reloss-sacrebleu-en-de
      Share it, with a model card of what was measured.

A run with save_predictions=True saves predictions. Every checkpoint of a ReLoss trainer holds some, too.
"""
_PREDICTIONS_HELP = (
    "a folder of predictions: OUTPUT_DIR/predictions of a run with save_predictions=True, CHECKPOINT/reloss_state, or "
    "what Predictions.save wrote"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 if the user has to change something, 2 for wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    command = shlex.join(["reloss", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"reloss: warning: {message}", file=sys.stderr)
            options.run(options, command)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        print(f"reloss: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "reloss",
        description="Is a loss aligned with a metric? Diagnose, learn and share relational surrogate losses.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"reloss_hf {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_diagnose(commands)
    _add_learn(commands)
    _add_push(commands)
    _add_card(commands)
    return parser


def _add_diagnose(commands) -> None:
    command = _add(
        commands,
        "diagnose",
        _diagnose,
        "is my loss aligned with my metric?",
        "Compares the loss before the switch, the hand-made losses of the task, and surrogates. Measures how each one "
        "orders groups of predictions: Spearman with the metric, over all groups and within one candidate (the model "
        "at one time of its training). Shows which targets they ask for. Prints a table and a verdict, and writes a "
        "report that opens offline.",
        "reloss diagnose out/predictions --metric sacrebleu --surrogate out/surrogate --output report",
    )
    command.add_argument("folder", help=_PREDICTIONS_HELP)
    _add_metric(command)
    command.add_argument(
        "--surrogate", nargs="+", default=[], metavar="FOLDER|ID", help="surrogates to compare: folders or hub ids"
    )
    command.add_argument("--output", default="report", help="folder of the report (default: %(default)s)")
    command.add_argument("--resamples", type=int, default=1000, help="draws of the bootstrap (default: %(default)s)")
    _add_groups(command)


def _add_learn(commands) -> None:
    command = _add(
        commands,
        "learn",
        _learn,
        "learn a surrogate from saved predictions",
        "Learns a surrogate that orders groups of predictions as the metric does, and measures it on held-out groups. "
        "Saves it with a model card.",
        "reloss learn out/predictions --metric sacrebleu --output out/surrogate",
    )
    command.add_argument("folder", help=_PREDICTIONS_HELP)
    _add_metric(command)
    command.add_argument("--output", required=True, help="folder of the surrogate")
    command.add_argument(
        "--surrogate-class", help="class to learn, such as NgramSurrogate (default: the default of the task)"
    )
    _add_groups(command)


def _add_push(commands) -> None:
    command = _add(
        commands,
        "push",
        _push,
        "upload a surrogate to the hub",
        "Uploads a surrogate with its model card. The card is merged with FOLDER/README.md, or else with the one on "
        "the hub. The token is that of `hf auth login`, or HF_TOKEN.",
        "reloss push out/surrogate me/reloss-sacrebleu-en-de --private",
    )
    command.add_argument("folder", help="what `reloss learn` or save_pretrained wrote")
    command.add_argument("repo_id", help="repository, such as me/reloss-sacrebleu-en-de; made if it is missing")
    command.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    command.add_argument("--revision", help="branch (default: main)")
    command.add_argument("--message", default="Upload surrogate", help="message of the commit (default: %(default)s)")


def _add_card(commands) -> None:
    command = _add(
        commands,
        "card",
        _card,
        "write or update the model card of a surrogate",
        "Writes FOLDER/README.md and a plot from the measurements of the learning. Your own text outside of the "
        "generated part stays.",
        "reloss card out/surrogate",
    )
    command.add_argument("folder", help="what `reloss learn` or save_pretrained wrote")
    command.add_argument("--repo-id", help="hub id for the lines that show how to load it")


def _add(commands, name, run, summary, description, example) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name,
        help=summary,
        description=textwrap.fill(description, 80),
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _add_metric(command) -> None:
    command.add_argument(
        "--metric",
        required=True,
        help="sacrebleu, chrf, ter, squad, squad_v2, seqeval, or one of scikit-learn such as f1, without a download; "
        "or another name that evaluate.load takes, or the path of a metric script",
    )
    command.add_argument("--metric-key", help="which number of the metric's result to use, if it has several")
    command.add_argument(
        "--metric-options", type=_json_object, metavar="JSON", help="settings of the metric: '{\"lowercase\": true}'"
    )
    command.add_argument(
        "--lower-is-better",
        action=argparse.BooleanOptionalAction,
        help="whether lower values of the metric are better (default: decided by its name; wer, cer and ter are error "
        "rates)",
    )


def _json_object(text: str) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        value = error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object such as '{{\"lowercase\": true}}'")
    return value


def _add_groups(command) -> None:
    command.add_argument(
        "--group-size",
        type=int,
        help="predictions in a group that the metric scores at once (default: that of the task, 8 for text)",
    )
    command.add_argument("--seed", type=int, default=0, help="seed of groups and draws (default: %(default)s)")
    command.add_argument("--quiet", action="store_true", help="show no progress bars")


def _diagnose(options: argparse.Namespace, command: str) -> None:
    from .diagnosis.diagnosis import diagnose
    from .diagnosis.report import heading, table, write_report
    from .diagnosis.verdict import verdict
    from .learning.predictions import Predictions

    predictions = Predictions.load(options.folder)
    loaded = {name: _load(name) for name in options.surrogate}
    surrogates = {f"{type(surrogate).__name__} ({_short(name)})": surrogate for name, surrogate in loaded.items()}
    diagnosis = diagnose(
        predictions,
        _metric(options, predictions),
        surrogates,
        options.group_size,
        options.resamples,
        options.seed,
        progress=not options.quiet,
    )
    print(f"\n{heading(diagnosis)}\n")
    print(table(diagnosis))
    print()
    for sentence in verdict(diagnosis):
        print(textwrap.fill(sentence, shutil.get_terminal_size().columns))
    print(f"\nReport: {write_report(diagnosis, options.output, options.folder, command)}")


def _learn(options: argparse.Namespace, command: str) -> None:
    from .learner import learner_for
    from .learning.predictions import Predictions
    from .sharing.model_card import write_model_card
    from .tasks import task_of_features

    predictions = Predictions.load(options.folder)
    learner = learner_for(
        task_of_features(predictions.features),
        _metric(options, predictions),
        options.surrogate_class,
        options.group_size,
        options.seed,
        progress=not options.quiet,
    )
    report = learner.learn(predictions)
    learner.surrogate.save_pretrained(options.output)
    write_model_card(learner.surrogate, options.output)
    base = learner.surrogate.base_loss_name
    if report.same_examples:
        print(f"\nSpearman with {report.metric} among {report.held_out_groups} candidates of held-out examples")
        print(f"{report.surrogate:<28}{report.spearman:.3f}\n{base:<28}{report.spearman_cross_entropy:.3f}")
    else:
        print(f"\nSpearman with {report.metric} over {report.held_out_groups} held-out groups (within a candidate)")
        print(f"{report.surrogate:<28}{report.spearman:.3f} ({report.spearman_within:.3f})")
        print(f"{base:<28}{report.spearman_cross_entropy:.3f} ({report.spearman_cross_entropy_within:.3f})")
    print(f"\nSurrogate: {options.output}")
    if report.objection:
        warnings.warn(f"the surrogate should not replace {base}: {report.objection}", stacklevel=1)


def _push(options: argparse.Namespace, command: str) -> None:
    from .sharing.model_card import CARD_NAME

    card = Path(options.folder) / CARD_NAME
    url = _load(options.folder).push_to_hub(
        options.repo_id,
        private=options.private,
        revision=options.revision,
        commit_message=options.message,
        card=card.read_text(encoding="utf-8") if card.exists() else None,
    )
    print(url)


def _card(options: argparse.Namespace, command: str) -> None:
    from .sharing.model_card import write_model_card

    print(write_model_card(_load(options.folder), options.folder, options.repo_id))


def _metric(options: argparse.Namespace, predictions):
    from .learner import group_metric
    from .tasks import task_of_features

    return group_metric(
        task_of_features(predictions.features),
        predictions,
        options.metric,
        options.metric_key,
        options.lower_is_better,
        options.metric_options,
    )


def _load(name_or_path: str):
    from .tasks import SurrogateLoss  # registers the classes of all tasks

    return SurrogateLoss.from_pretrained(name_or_path)


def _short(name: str) -> str:
    return "/".join(Path(name).parts[-2:])
