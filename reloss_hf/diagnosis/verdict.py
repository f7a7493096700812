"""What a diagnosis means, in plain words."""

from .results import Diagnosis, Interval, LossDiagnosis


def verdict(diagnosis: Diagnosis) -> list[str]:
    """What it means, in plain words: a few sentences, the most important first."""
    metric, (baseline, *others) = diagnosis.metric_name, diagnosis.losses
    base = baseline.name
    if diagnosis.same_examples:
        return _of_same_examples(diagnosis)
    if diagnosis.metric.std() == 0:
        return [f"Every group has the same {metric}: nothing can be said, and nothing learned. Use larger groups."]
    if baseline.overall.high < 0:
        return [
            f"{_capitalised(base)} orders the predictions opposite to {metric}. If lower values of {metric} are "
            "better, say so with --lower-is-better; if higher ones are, although it is called like an error rate, with "
            "--no-lower-is-better. Else the predictions do not fit their references."
        ]
    sentences = []
    better = [loss for loss in others if loss.gain.low > 0 and not (loss.weights and loss.weights.flagged)]
    if better:
        best = max(better, key=lambda loss: loss.gain.value)
        sentences.append(
            f"{best.name} orders predictions of one and the same model more as {metric} does than {base}: "
            f"Spearman {best.within.value:.2f} instead of {baseline.within.value:.2f}, a gain of {_signed(best.gain)}. "
            f"It is worth training on, once {base} gains slowly; whether that raises the metric, only training tells."
        )
    else:
        sentences.append(
            f"None of these losses orders predictions of one and the same model better than {base}, beyond chance: "
            f"stay on {base}, or learn a surrogate of {metric} (reloss learn)."
        )
    sentences.append(
        f"{_capitalised(base)} follows {metric} {_degree(baseline.overall.value)} over the whole training "
        f"({baseline.overall.value:.2f}), which every loss does that falls while the metric rises, and "
        f"{_degree(baseline.within.value)} within one candidate ({baseline.within.value:.2f}), which is what counts "
        "for the steps that come next."
    )
    sentences += _warnings(others)
    if diagnosis.groups_left_out:
        sentences.append(f"{diagnosis.groups_left_out} groups that {metric} could not score are left out.")
    if any(loss.gain.high < 0 for loss in others):
        sentences.append(f"Worse than {base} within a candidate: {_worse(others)}.")
    return sentences


def _of_same_examples(diagnosis: Diagnosis) -> list[str]:
    metric, (baseline, *others) = diagnosis.metric_name, diagnosis.losses
    base, correlation = baseline.name, baseline.within
    if diagnosis.metric.std() == 0:
        return [
            f"Every candidate of the same examples has the same {metric}: nothing can be said, and nothing learned. "
            "Use larger sets of examples."
        ]
    interval = f"{correlation.value:.2f} (95 % interval {correlation.low:.2f} to {correlation.high:.2f})"
    if correlation.high < 0:
        first = f"{base} orders predictions of the same examples against {metric}: Spearman {interval}.".upper()
        sentences = [
            f"{first} What lowers {base} here lowers {metric}, too, more often than not: there is something to be "
            f"gained by another loss. If lower values of {metric} are better, say so with --lower-is-better."
        ]
    else:
        sentences = [
            f"{_capitalised(base)} follows {metric} {_degree(correlation.value)} among predictions of the same "
            f"examples: Spearman {interval}."
        ]
    better = [loss for loss in others if loss.gain.low > 0 and not (loss.weights and loss.weights.flagged)]
    if better:
        best = max(better, key=lambda loss: loss.gain.value)
        sentences.append(
            f"{best.name} follows it most: Spearman {best.within.value:.2f}, a gain of {_signed(best.gain)} over "
            f"{base}. It is worth training on, once {base} gains slowly; whether that raises {metric}, only training "
            "tells."
        )
        if len(better) > 1:
            names = ", ".join(f"{loss.name} {loss.within.value:.2f}" for loss in better if loss is not best)
            sentences.append(f"Better than {base}, too: {names}.")
    else:
        sentences.append(
            f"None of these losses follows {metric} better than {base}, beyond chance: stay on {base}, or learn a "
            f"surrogate of {metric} (reloss learn)."
        )
    sentences += _warnings(others)
    if diagnosis.groups_left_out:
        sentences.append(f"{diagnosis.groups_left_out} candidates that {metric} could not score are left out.")
    if any(loss.gain.high < 0 for loss in others):
        sentences.append(f"Worse than {base}: {_worse(others)}.")
    return sentences


def _warnings(losses: list[LossDiagnosis]) -> list[str]:
    return [
        f"Warning: {loss.name} rewards a lower probability of the target at {100 * loss.weights.rewards_lower:.0f} % "
        "of the targets. However well it orders, training on it may unlearn them."
        for loss in losses
        if loss.weights is not None and loss.weights.flagged
    ]


def _worse(losses: list[LossDiagnosis]) -> str:
    return ", ".join(loss.name for loss in losses if loss.gain.high < 0)


def _degree(correlation: float) -> str:
    for least, words in ((0.9, "closely"), (0.7, "fairly well"), (0.4, "loosely")):
        if correlation >= least:
            return words
    return "hardly"


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} (95 % interval {interval.low:+.2f} to {interval.high:+.2f})"
