"""Two small data sets that need no download, both with a long tail.

The first has names of territories and languages from CLDR, read through `babel`. The task is to tell in which languages
a name is used. The second has the handwritten digits of scikit-learn. Both are deterministic.
"""

import random

import datasets
import numpy as np
from babel import Locale
from PIL import Image

# The labels from the most frequent to the rarest, which keeps the share `RAREST` of its names.
LANGUAGES = (
    "en", "de", "fr", "es", "it", "nl", "pt", "sv", "pl", "da", "cs", "nb", "ro", "sk", "hu", "hr", "ca", "sl", "id",
    "gl",
)  # fmt: skip
RAREST = 0.05
RAREST_DIGIT = 0.12


def load_names(seed: int = 0) -> datasets.DatasetDict:
    """Columns `text` and `label`, a list of languages. Most names that only languages of the tail use are left out."""
    languages_of: dict[str, list[str]] = {}
    for language in LANGUAGES:
        locale = Locale(language)
        codes = [code for code in locale.territories if code.isalpha()]
        names = {locale.territories[code] for code in codes} | set(locale.languages.values())
        for name in sorted(names):
            languages_of.setdefault(name, []).append(language)
    share = dict(zip(LANGUAGES, np.geomspace(1, RAREST, len(LANGUAGES)), strict=True))
    draw = random.Random(seed)
    rows = [
        {"text": name, "label": languages}
        for name, languages in sorted(languages_of.items())
        if draw.random() < max(share[language] for language in languages)
    ]
    return _split(rows, seed, datasets.Features({"text": datasets.Value("string"), "label": _list_of_strings()}))


def load_digits(seed: int = 0) -> datasets.DatasetDict:
    """Columns `image`, 8 × 8 in grey, and `label`. Each digit has fewer images than the one before it.

    There are so few images that a learned loss may be refused.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    share = np.geomspace(1, RAREST_DIGIT, 10)
    draw = random.Random(seed)
    rows = [
        {"image": Image.fromarray((image * 255 / 16).astype(np.uint8)), "label": int(label)}
        for image, label in zip(digits.images, digits.target, strict=True)
        if draw.random() < share[label]
    ]
    names = datasets.ClassLabel(names=[str(digit) for digit in range(10)])
    return _split(rows, seed, datasets.Features({"image": datasets.Image(), "label": names}))


def _list_of_strings() -> datasets.features.features.FeatureType:
    return datasets.Sequence(datasets.Value("string"))


def _split(rows: list[dict], seed: int, features: datasets.Features) -> datasets.DatasetDict:
    """Six tenths to train, one to validate, three to test."""
    random.Random(seed).shuffle(rows)
    first, second = round(0.6 * len(rows)), round(0.7 * len(rows))
    parts = {"train": rows[:first], "validation": rows[first:second], "test": rows[second:]}
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(part, features=features) for split, part in parts.items()}
    )
