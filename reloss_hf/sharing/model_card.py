"""Model cards of surrogates: the measurements in words, as metadata for the hub, and in a picture."""

import json
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub import EvalResult, ModelCardData, metadata_load, metadata_save

from ..report import HeldOutGroups, LearningReport
from .plots import plot_held_out, to_png

CARD_NAME = "README.md"
PLOT_NAME = "held_out_groups.png"
_BEGIN = "<!-- reloss_hf: this part is rewritten; write above or below it -->"
_END = "<!-- reloss_hf: end -->"

_CITATION = """@inproceedings{huang2022relational,
  title     = {Relational Surrogate Loss Learning},
  author    = {Huang, Tao and Li, Zekang and Lu, Hua and Shan, Yong and Yang, Shusheng and Feng, Yang and Wang, Fei
               and You, Shan and Xu, Chang},
  booktitle = {International Conference on Learning Representations},
  year      = {2022},
  url       = {https://arxiv.org/abs/2202.13197}
}"""


_ABOUT_GROUPS = (
    "A candidate is the model at one time of its training. The order within it counts for the rest of a training."
)
_ABOUT_SETS = (
    "A candidate is the model's prediction for the same held-out examples, perturbed as the next steps of a training "
    "might change it. Candidates of the same set are ranked among themselves."
)


class Described(Protocol):
    """The attributes of a `SurrogateLoss` that a card needs."""

    task: str
    reads: tuple[str, ...]
    base_loss_name: str
    about: str
    limits: tuple[str, ...]
    config: dict[str, Any]
    info: dict[str, Any]
    held_out: HeldOutGroups | None


def write_model_card(surrogate: Described, folder: str | Path, repo_id: str | None = None) -> Path:
    """Write `README.md` into `folder`. If held-out groups are known and matplotlib is installed, write their plot, too.

    An existing `README.md` is merged: its text outside of the generated part stays, and so do its licence, its tags and
    all metadata that is not generated.

    Args:
        surrogate: the surrogate. All facts of the card come from its `info` and `held_out`.
        folder: the folder that `save_pretrained` wrote.
        repo_id: the hub id for the lines that show how to load it.

    Returns:
        The path of the card.
    """
    folder = Path(folder)
    has_plot = surrogate.held_out is not None and find_spec("matplotlib") is not None
    if has_plot:
        report = report_of(surrogate)
        (folder / PLOT_NAME).write_bytes(to_png(plot_held_out(surrogate.held_out, report, surrogate.base_loss_name)))
    path = folder / CARD_NAME
    old = path.read_text(encoding="utf-8") if path.exists() else None
    text, metadata = merge_card(old, generated_part(surrogate, repo_id, has_plot), metadata_of(surrogate))
    path.write_text(text, encoding="utf-8")
    metadata_save(path, metadata)
    return path


def report_of(surrogate: Described) -> LearningReport:
    """The learning report, from `info`."""
    fields = LearningReport.__dataclass_fields__
    return LearningReport(**{name: value for name, value in surrogate.info.items() if name in fields})


def metadata_of(surrogate: Described) -> dict[str, Any]:
    """The metadata block of the card; Spearman correlations are results of its `model-index`."""
    info, task = surrogate.info, surrogate.task.replace("_", "-")
    metric = info.get("metric")
    tags = ["reloss", "relational-surrogate-loss", *([_tag(metric)] if metric else []), task]
    dataset = info.get("training", {}).get("dataset") or "unknown"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=f"{dataset}, {_groups_of(info)}",
            metric_type="spearmanr",
            metric_name=f"Spearman of {loss} with {metric}, {where}",
            metric_value=round(info[key], 4),
        )
        for suffix, where in _correlations(info).items()
        for key, loss in (
            (f"spearman{suffix}", "the surrogate"),
            (f"spearman_cross_entropy{suffix}", surrogate.base_loss_name),
        )
        if key in info
    ]
    data = ModelCardData(license="apache-2.0", library_name="reloss_hf", tags=tags)
    if dataset != "unknown":
        data.datasets = [dataset]
    if results:
        data.model_name, data.eval_results = f"{type(surrogate).__name__} of {metric}", results
    return data.to_dict()


def generated_part(surrogate: Described, repo_id: str | None = None, has_plot: bool = False) -> str:
    """The generated part of the card, in Markdown."""
    info, name = surrogate.info, type(surrogate).__name__
    metric = info.get("metric")
    about = f", and {surrogate.about}" if surrogate.about else ""
    parts = [f"# {name}" + (f", a loss that orders as {metric} does" if metric else "")]
    parts.append(
        f"A relational surrogate loss for the task `{surrogate.task}`, of the class `{name}` of "
        "[reloss_hf](https://pypi.org/project/reloss_hf/). Models train on it instead of "
        f"{surrogate.base_loss_name}. It reads {_listed(surrogate.reads)}{about}."
    )
    if "spearman" in info:
        parts.append("## Measured\n\n" + _measured(surrogate, has_plot))
    parts.append("## Use\n\n" + _usage(surrogate, repo_id))
    rows = _facts(surrogate)
    if rows:
        parts.append("## How it was learned\n\n| | |\n|---|---|\n" + "\n".join(f"| {k} | {v} |" for k, v in rows))
    limits = _limits(surrogate)
    if limits:
        parts.append("## Limits\n\n" + limits)
    parts.append(f"## Citation\n\n```bibtex\n{_CITATION}\n```")
    return "\n\n".join(parts)


def merge_card(old: str | None, generated: str, metadata: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text of a card with its generated part replaced, or appended if it has none, and its new metadata."""
    block = f"{_BEGIN}\n\n{generated}\n\n{_END}"
    if old is None:
        return block + "\n", metadata
    before, begin, rest = old.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    text = before + block + after if begin and end else f"{old.rstrip()}\n\n{block}\n"
    return text, _merge_metadata(_metadata_in(old), metadata)


def _metadata_in(card: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CARD_NAME
        path.write_text(card, encoding="utf-8")
        return metadata_load(path) or {}


def _merge_metadata(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = old | new
    for name in ("tags", "datasets"):
        values = [*(old.get(name) or []), *new.get(name, [])]
        if values:
            merged[name] = list(dict.fromkeys(values))
    if "license" in old:
        merged["license"] = old["license"]
    names = [model["name"] for model in new.get("model-index", [])]
    others = [model for model in old.get("model-index") or [] if model["name"] not in names]
    if others or names:
        merged["model-index"] = new.get("model-index", []) + others
    return merged


def _measured(surrogate: Described, has_plot: bool) -> str:
    info, base = surrogate.info, surrogate.base_loss_name
    about, correlations = _ABOUT_SETS if info.get("same_examples") else _ABOUT_GROUPS, _correlations(info)
    lines = [
        f"Spearman correlation of the negative loss with {info['metric']}, over {info['held_out_groups']} "
        f"{_groups_of(info)}. {about} A correlation below {info['chance']:.2f} may be chance.",
        "",
        f"| | {' | '.join(correlations.values())} |",
        "|---" * (len(correlations) + 1) + "|",
        *(
            f"| {name} | {' | '.join(f'{info[key + suffix]:.3f}' for suffix in correlations)} |"
            for name, key in (("this surrogate", "spearman"), (base, "spearman_cross_entropy"))
        ),
    ]
    if has_plot:
        lines += ["", f"![{info['metric']} of held-out predictions against both losses]({PLOT_NAME})"]
    if "transfer" in info:
        lines += ["", *_transfer(info["transfer"], base)]
    return "\n".join(lines)


def _groups_of(info: dict[str, Any]) -> str:
    if info.get("same_examples"):
        return f"candidates of sets of up to {info['group_size']} held-out examples"
    return f"groups of {info['group_size']} held-out predictions"


def _correlations(info: dict[str, Any]) -> dict[str, str]:
    """The scope of each correlation, by the ending of its key in `info`."""
    if info.get("same_examples"):
        return {"": "candidates of the same examples"}
    return {"": "all groups", "_within": "within a candidate"}


def _transfer(rows: list[dict[str, Any]], base_loss_name: str) -> list[str]:
    """A table of how it orders predictions that it was not learned from: over all groups / within a candidate."""
    return [
        "On predictions that it was not learned from:",
        "",
        f"| predictions | this surrogate | {base_loss_name} |",
        "|---|---|---|",
        *(
            f"| {row['predictions']} | {row['spearman']:.3f} / {row['spearman_within']:.3f} | "
            f"{row['spearman_cross_entropy']:.3f} / {row['spearman_cross_entropy_within']:.3f} |"
            for row in rows
        ),
    ]


def _usage(surrogate: Described, repo_id: str | None) -> str:
    return f"""```python
from reloss_hf import ReLossTrainer, ReLossTrainingArguments  # or ReLossSeq2Seq…

args = ReLossTrainingArguments(output_dir="out", surrogate_start=0.7)  # 0 for a model that is warmed up already
trainer = ReLossTrainer(model=model, args=args, ..., surrogate="{repo_id or "path/or/hub-id"}")
trainer.train()
```

Outside of a trainer, `SurrogateLoss.from_pretrained("{repo_id or "path/or/hub-id"}")(features)` gives the loss of each
example."""


def _facts(surrogate: Described) -> list[tuple[str, str]]:
    info, training = surrogate.info, surrogate.info.get("training", {})
    facts = [
        ("metric", info.get("metric")),
        ("its settings", info.get("metric_signature") and f"`{info['metric_signature']}`"),
        ("its options", json.dumps(info["metric_options"]) if info.get("metric_options") else None),
        ("its direction", "lower is better; negated" if info.get("lower_is_better") else None),
        ("source model", _of(training.get("model"), training.get("model_class"))),
        ("source data", _of(training.get("dataset"), training.get("dataset_config"), training.get("split"))),
        ("predictions", _of(info.get("examples"), training.get("predictions"))),
        ("held-out candidates" if info.get("same_examples") else "held-out groups", info.get("held_out_groups")),
        ("groups it could not score", info.get("groups_left_out") or None),
        ("group size", info.get("group_size")),
        ("stopped at step", info.get("steps")),
        ("seed", info.get("seed")),
        *((name.replace("_", " "), value) for name, value in info.get("hyperparameters", {}).items()),
        *((f"`{name}`", json.dumps(value)) for name, value in surrogate.config.items()),
    ]
    return [(name, str(value)) for name, value in facts if value is not None]


def _limits(surrogate: Described) -> str:
    lines = [f"- {limit}" for limit in surrogate.limits]
    info, name = surrogate.info, surrogate.base_loss_name
    over = "On candidates of the same examples" if info.get("same_examples") else "Over all held-out groups"
    for suffix in _correlations(info):
        where = "Within a candidate" if suffix else over
        if info.get(f"spearman{suffix}", 1) <= info.get(f"spearman_cross_entropy{suffix}", 0):
            lines.append(f"- {where} it orders **no better than {name}** does.")
    return "\n".join(lines)


def _of(*parts: Any) -> str | None:
    return ", ".join(str(part) for part in parts if part) or None


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _tag(metric: str) -> str:
    return metric.replace(":", "-").lower()
