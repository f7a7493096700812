"""The losses that the benchmarks of translation set beside each other."""

from pathlib import Path

from reloss_hf import LogNgramSurrogate, NgramSurrogate, SurrogateLoss, TokenCrossEntropy, TokenErrorProbability


def token_losses(surrogates: list[str]) -> dict[str, SurrogateLoss]:
    """Those that are not learned, and learned ones by name or folder, which go by the end of its path."""
    return {
        "cross-entropy": TokenCrossEntropy(),
        "1 - p": TokenErrorProbability(),
        "n-gram match, not learned": NgramSurrogate(),
        "log n-gram match, not learned": LogNgramSurrogate(),
    } | {"/".join(Path(name).parts[-2:]): SurrogateLoss.from_pretrained(name) for name in surrogates}
