"""The metrics of texts that need no download: those of sacrebleu, and error rates."""

from collections.abc import Collection, Sequence
from functools import partial

from sacrebleu.metrics import BLEU, CHRF, TER

from ..base import NamedMetric
from ..error_rates import ERROR_RATES, ErrorRate

METRICS = {
    # force: no warning about text that looks tokenised, because many early predictions do
    "sacrebleu": NamedMetric(
        partial(BLEU, force=True),
        replaces_module=True,
        options_of_module={"use_effective_order": "effective_order"},
    ),
    "chrf": NamedMetric(CHRF, replaces_module=True),
    "ter": NamedMetric(
        TER,
        replaces_module=True,
        lower_is_better=True,
        options_of_module={"ignore_punct": "no_punct", "support_zh_ja_chars": "asian_support"},
    ),
    **ERROR_RATES,
}
_SENTENCE_BLEU = BLEU(effective_order=True)


def sample_scores(texts: Sequence[str], references: Sequence[str], names: Collection[str]) -> dict[str, list[float]]:
    """The scores of single texts that features are made of: `sample_bleu`, 0 to 1, and `sample_errors`, a count of
    words. Only those in `names` are computed."""
    scores = {}
    if "sample_bleu" in names:
        pairs = zip(texts, references, strict=True)
        scores["sample_bleu"] = [_SENTENCE_BLEU.sentence_score(text, [gold]).score / 100 for text, gold in pairs]
    if "sample_errors" in names:
        scores["sample_errors"] = [float(count) for count in ErrorRate("word").edits_of_each(texts, references)]
    return scores
