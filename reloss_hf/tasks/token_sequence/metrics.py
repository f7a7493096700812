"""The metrics of texts that need no download: those of sacrebleu, and error rates."""

from functools import partial

from sacrebleu.metrics import BLEU, CHRF, TER

from ..base import NamedMetric
from ..error_rates import ERROR_RATES

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
