"""Puts a diagnosis into plain words."""

from .results import Diagnosis, Interval, LossDiagnosis


def verdict(diagnosis: Diagnosis) -> list[str]:
    """The meaning of a diagnosis in a few plain sentences, the most important first."""
    metric, (baseline, *others) = diagnosis.metric_name, diagnosis.losses
    base = baseline.name
    if diagnosis.same_examples:
        return _of_same_examples(diagnosis)
    if diagnosis.metric.std() == 0:
        return [f"Every group has the same {metric}, so nothing can be said or learned. Use larger groups."]
    if baseline.overall.high < 0:
        return [
            f"{_capitalised(base)} orders the predictions opposite to {metric}. If lower values of {metric} are "
            "better, pass --lower-is-better. If higher values are better, although it has the name of an error rate, "
            "pass --no-lower-is-better. Otherwise the predictions do not fit their references."
        ]
    sentences = []
    better = _better(others)
    if better:
        best = better[0]
        sentences.append(
            f"{best.name} orders predictions of the same model more like {metric} than {base} does: "
            f"Spearman {best.within.value:.2f} instead of {baseline.within.value:.2f}, a gain of {_signed(best.gain)}. "
            f"It is worth training on, once {base} gains slowly. Only training tells whether that raises the metric."
        )
    else:
        sentences.append(
            f"None of these losses orders predictions of the same model better than {base} does, beyond chance. "
            f"Stay on {base}, or learn a surrogate of {metric} (reloss learn)."
        )
    sentences.append(
        f"{_capitalised(base)} follows {metric} {_degree(baseline.overall.value)} over the whole training "
        f"({baseline.overall.value:.2f}), as does every loss that falls while the metric rises. Within one "
        f"candidate it follows {metric} {_degree(baseline.within.value)} ({baseline.within.value:.2f}), and this "
        "counts for the next steps."
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
            f"Every candidate of the same examples has the same {metric}, so nothing can be said or learned. "
            "Use larger sets of examples."
        ]
    interval = f"{correlation.value:.2f} (95 % interval {correlation.low:.2f} to {correlation.high:.2f})"
    if correlation.high < 0:
        first = f"{base} orders predictions of the same examples against {metric}: Spearman {interval}.".upper()
        sentences = [
            f"{first} A step that lowers {base} here mostly lowers {metric}, too, so another loss can gain. If lower "
            f"values of {metric} are better, pass --lower-is-better."
        ]
    else:
        sentences = [
            f"{_capitalised(base)} follows {metric} {_degree(correlation.value)} among predictions of the same "
            f"examples: Spearman {interval}."
        ]
    better = _better(others)
    if better:
        best = better[0]
        sentences.append(
            f"{best.name} follows it most: Spearman {best.within.value:.2f}, a gain of {_signed(best.gain)} over "
            f"{base}. It is worth training on, once {base} gains slowly. Only training tells whether that raises "
            f"{metric}."
        )
        if len(better) > 1:
            names = ", ".join(f"{loss.name} {loss.within.value:.2f}" for loss in better[1:])
            sentences.append(f"These are better than {base}, too: {names}.")
    else:
        sentences.append(
            f"None of these losses follows {metric} better than {base} does, beyond chance. Stay on {base}, or learn a "
            f"surrogate of {metric} (reloss learn)."
        )
    sentences += _warnings(others)
    if diagnosis.groups_left_out:
        sentences.append(f"{diagnosis.groups_left_out} candidates that {metric} could not score are left out.")
    if any(loss.gain.high < 0 for loss in others):
        sentences.append(f"Worse than {base}: {_worse(others)}.")
    return sentences


def _better(losses: list[LossDiagnosis]) -> list[LossDiagnosis]:
    """The losses whose gain is above chance and that no warning is about, the one with the largest gain first."""
    found = [loss for loss in losses if loss.gain.low > 0 and not (loss.weights and loss.weights.flagged)]
    return sorted(found, key=lambda loss: -loss.gain.value)


def _warnings(losses: list[LossDiagnosis]) -> list[str]:
    return [
        f"Warning: {loss.name} rewards a lower probability of the target at {100 * loss.weights.rewards_lower:.0f} % "
        "of the targets. Training on it may unlearn these targets, however well it orders predictions."
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
