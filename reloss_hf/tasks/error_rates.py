"""Error rates of texts: the metrics of speech recognition, for the tasks whose predictions are texts."""

from collections.abc import Callable, Sequence
from typing import Any

from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from .base import NamedMetric

_NORMALIZERS = {"whisper": lambda: EnglishTextNormalizer({}), "whisper_basic": BasicTextNormalizer}


class ErrorRate:
    """The number of edits that turn the predictions into the references, divided by the number of words, or characters,
    of the references.

    Edits are counted over all texts, so a long text counts for more than a short one. The rate of a single text may
    exceed 1. The package `jiwer` counts them.

    Args:
        unit: `"word"` or `"character"`.
        normalize: what changes both texts before they are compared: a function of a text, such as
            `processor.tokenizer.normalize`; `"whisper"` for Whisper's normaliser of English, without its list of
            British spellings, which comes with a tokenizer; `"whisper_basic"` for that of other languages, which strips
            case and punctuation. None changes nothing.

    Raises:
        ImportError: the package is missing.
        ValueError: the unit or the normaliser is unknown.
    """

    def __init__(self, unit: str, normalize: Callable[[str], str] | str | None = None):
        if unit not in _RATES:
            raise ValueError(f"unit={unit!r} must be one of {list(_RATES)}")
        if normalize is not None and not callable(normalize) and normalize not in _NORMALIZERS:
            raise ValueError(
                f"normalize={normalize!r} must be one of {list(_NORMALIZERS)}, a function of a text, or None"
            )
        self.unit, self.name, self.normalize = unit, _RATES[unit], normalize
        try:
            import jiwer  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"metric={self.name!r} needs the package jiwer: pip install 'reloss_hf[speech]'"
            ) from error
        self._normalized = _NORMALIZERS[normalize]() if isinstance(normalize, str) else normalize

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        """The rate, as `wer` or `cer`, and its parts: `substitutions`, `deletions` and `insertions`, divided alike.

        Without a word in any reference, the rate is 0 if nothing is predicted, and infinite otherwise.
        """
        found = self._compared(predictions, references)
        length = found.hits + found.substitutions + found.deletions
        edits = {kind: getattr(found, kind) for kind in ("substitutions", "deletions", "insertions")}
        edits = {self.name: sum(edits.values())} | edits
        return {kind: count / length if length else (float("inf") if count else 0.0) for kind, count in edits.items()}

    def edits_of_each(self, predictions: Sequence[str], references: Sequence[str]) -> list[int]:
        """The number of edits of each text."""
        found = (self._compared([text], [gold]) for text, gold in zip(predictions, references, strict=True))
        return [one.substitutions + one.deletions + one.insertions for one in found]

    def _compared(self, predictions: Sequence[str], references: Sequence[str]) -> Any:
        import jiwer

        predictions, references = list(predictions), list(references)
        if self._normalized is not None:
            predictions, references = (
                [self._normalized(text) for text in texts] for texts in (predictions, references)
            )
        process = jiwer.process_words if self.unit == "word" else jiwer.process_characters
        return process(references, predictions)


_RATES = {"word": "wer", "character": "cer"}


def _word_error_rate(normalize: Callable[[str], str] | str | None = None) -> ErrorRate:
    return ErrorRate("word", normalize)


def _character_error_rate(normalize: Callable[[str], str] | str | None = None) -> ErrorRate:
    return ErrorRate("character", normalize)


ERROR_RATES = {
    "wer": NamedMetric(_word_error_rate, lower_is_better=True),
    "cer": NamedMetric(_character_error_rate, lower_is_better=True),
}
