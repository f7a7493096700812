"""A small corpus of named entities that needs no download: sentences woven from CLDR, read through `babel`.

Entities are dates, amounts of money, territories and currencies, as several English-speaking countries write them.
Decoys look alike: other numbers, months as verbs, names within longer names, and names of languages and scripts in
places where a territory or a currency could stand. Most names are rare, so many are new in the test data. The corpus is
deterministic.
"""

import datetime
import random
from collections.abc import Callable, Sequence

import datasets
from babel import Locale
from babel.dates import format_date
from babel.numbers import format_currency

ENGLISH = Locale("en")
LOCALES = ("en_US", "en_GB", "en_AU", "en_CA", "en_IN", "en_ZA", "en_IE")
NAMES = ["O", *(f"{prefix}-{kind}" for kind in ("AMOUNT", "CURRENCY", "DATE", "TERRITORY") for prefix in "BI")]
# What a part of a sentence says. Words in braces are drawn; those in capitals are entities.
PARTS = (
    "{who} went to {TERRITORY}", "{who} sold it for {AMOUNT}", "{who} was born on {DATE}", "{who} pays in {CURRENCY}",
    "{who} owes {AMOUNT} since {DATE}", "the price rose from {AMOUNT} to {AMOUNT}", "between {DATE} and {DATE}",
    "the embassy of {TERRITORY} in {TERRITORY}", "{who} exchanged {AMOUNT} for {CURRENCY}", "as of {DATE}",
    "{who} wrote about {TERRITORY}", "{who} wrote about {CURRENCY}", "{who} wrote about {language}",
    "{who} wrote about {language}", "{who} wrote about {script}", "{who} wrote about {language} and {script}",
    "nobody knows {TERRITORY}", "nobody knows {language}", "nobody knows {script}", "nobody knows {CURRENCY}",
    "{who} speaks {language}", "a book in {language}", "the {script} letters", "{who} learned {language}",
    "in room {number}", "on page {number}", "with {number} boxes", "the code {number}", "about {number} miles",
    "{who} may march on", "it may rain", "{who} lives in {territory} Street", "the {territory} Hotel is full",
    "a {currency} sign", "the {currency} museum is closed",
)  # fmt: skip
_WHO = ("she", "he", "they", "the company", "my neighbour", "a friend", "someone", "the bank")
_JOINTS = (",", "and", "but", ";", "while")
_FEWEST, _MOST = 1, 3  # parts of a sentence


def load(train: int = 3000, validation: int = 500, test: int = 1500, seed: int = 0) -> datasets.DatasetDict:
    """Columns `tokens` and `ner_tags`, in the schema of CoNLL 2003 on the hub."""
    draw = random.Random(seed)
    words = _words(draw)
    sizes = {"train": train, "validation": validation, "test": test}
    tags = datasets.Sequence(datasets.ClassLabel(names=NAMES))
    features = datasets.Features({"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": tags})
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_list([_sentence(draw, words) for _ in range(size)], features=features)
            for split, size in sizes.items()
        }
    )


def _sentence(draw: random.Random, words: dict[str, Callable[[], str]]) -> dict[str, list[str]]:
    tokens, tags = [], []
    for number in range(draw.randint(_FEWEST, _MOST)):
        if number:
            tokens.append(draw.choice(_JOINTS))
            tags.append("O")
        for word in draw.choice(PARTS).split():
            kind = word.strip("{}")
            found = words[kind.lower()]().split() if word != kind else [word]
            tokens += found
            tags += [f"{'I' if place else 'B'}-{kind}" if kind.isupper() else "O" for place in range(len(found))]
    return {"tokens": [*tokens, "."], "ner_tags": [*tags, "O"]}


def _words(draw: random.Random) -> dict[str, Callable[[], str]]:
    """What draws the words of each kind."""
    names = {
        "territory": [name for code, name in sorted(ENGLISH.territories.items()) if code.isalpha()],
        "currency": sorted(set(ENGLISH.currencies.values())),
        "language": sorted(set(ENGLISH.languages.values())),
        "script": sorted(set(ENGLISH.scripts.values())),
    }
    drawn = {kind: _drawer(draw, found) for kind, found in names.items()}
    codes = _drawer(draw, sorted(ENGLISH.currencies))
    return drawn | {
        "who": lambda: draw.choice(_WHO),
        "number": lambda: f"{_number(draw):,}",
        "date": lambda: _date(draw),
        "amount": lambda: _amount(draw, codes()),
    }


def _drawer(draw: random.Random, names: Sequence[str]) -> Callable[[], str]:
    """Draws names, a few of them often and most of them seldom."""
    names = draw.sample(names, len(names))
    weights = [1 / (10 + place) for place in range(len(names))]
    return lambda: draw.choices(names, weights)[0]


def _date(draw: random.Random) -> str:
    day = datetime.date(draw.randint(1950, 2030), draw.randint(1, 12), draw.randint(1, 28))
    return format_date(day, draw.choice(("short", "medium", "long", "full")), draw.choice(LOCALES))


def _amount(draw: random.Random, code: str) -> str:
    kind = draw.choice(("standard", "name"))
    return format_currency(_number(draw), code, locale=draw.choice(LOCALES), format_type=kind)


def _number(draw: random.Random) -> float:
    return draw.choice((draw.randint(1, 40), draw.randint(1000, 9999), round(100 * draw.random(), 2)))
