"""A small English–German corpus that needs no download: phrases in CLDR's wording, read through `babel`.

A sentence has one to three phrases: dates, durations, amounts, measures, lists of territories and of languages. The
corpus is deterministic.
"""

import datetime
import random
import unicodedata

import datasets
from babel import Locale, dates, lists, numbers, units

LOCALES = ("en", "de")
TERRITORIES, LANGUAGES = (
    sorted(code for code in set(english) & set(german) if code.isalpha() and len(code) == 2)
    for english, german in (
        (Locale("en").territories, Locale("de").territories),
        (Locale("en").languages, Locale("de").languages),
    )
)
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "PLN", "CAD", "INR", "MXN")
MEASURES = (
    "length-kilometer", "length-meter", "mass-kilogram", "mass-gram", "volume-liter", "temperature-celsius",
    "duration-hour", "duration-minute", "duration-day", "speed-kilometer-per-hour", "area-square-meter",
    "digital-gigabyte",
)  # fmt: skip


def load(train: int = 4000, validation: int = 300, test: int = 300, seed: int = 0) -> datasets.DatasetDict:
    """The corpus in the hub's translation schema, `{"translation": {"en": ..., "de": ...}}`; no pair occurs twice."""
    draw = random.Random(seed)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < train + validation + test:
        pairs[_sentence(draw)] = None
    rows = [{"translation": dict(zip(LOCALES, pair, strict=True))} for pair in pairs]
    ends = {"train": (0, train), "validation": (train, train + validation), "test": (train + validation, len(rows))}
    return datasets.DatasetDict({name: datasets.Dataset.from_list(rows[a:b]) for name, (a, b) in ends.items()})


def _sentence(draw: random.Random) -> tuple[str, ...]:
    parts = [
        draw.choice((_date, _duration, _amount, _measure, _territories, _languages))(draw)
        for _ in range(draw.randint(1, 3))
    ]
    style = draw.choice(("standard", "or"))
    return tuple(
        unicodedata.normalize("NFKC", lists.format_list([part[i] for part in parts], style, locale))
        for i, locale in enumerate(LOCALES)
    )


def _date(draw: random.Random) -> list[str]:
    day = datetime.date(1990, 1, 1) + datetime.timedelta(days=draw.randrange(14600))
    style = draw.choice(("full", "long"))
    return [dates.format_date(day, style, locale) for locale in LOCALES]


def _duration(draw: random.Random) -> list[str]:
    unit, most = draw.choice((("weeks", 51), ("days", 30), ("hours", 23), ("minutes", 59)))
    delta = datetime.timedelta(**{unit: draw.choice((-1, 1)) * draw.randint(1, most)})
    return [
        dates.format_timedelta(delta, granularity=unit[:-1], threshold=60, add_direction=True, locale=locale)
        for locale in LOCALES
    ]


def _amount(draw: random.Random) -> list[str]:
    amount, currency = draw.randint(1, 99), draw.choice(CURRENCIES)
    return [
        numbers.format_currency(amount, currency, locale=locale, format_type="name", decimal_quantization=False)
        for locale in LOCALES
    ]


def _measure(draw: random.Random) -> list[str]:
    unit, value = draw.choice(MEASURES), draw.randint(1, 99)
    return [units.format_unit(value, unit, "long", locale=locale) for locale in LOCALES]


def _territories(draw: random.Random) -> list[str]:
    return _names(draw, TERRITORIES, "territories")


def _languages(draw: random.Random) -> list[str]:
    return _names(draw, LANGUAGES, "languages")


def _names(draw: random.Random, codes: list[str], kind: str) -> list[str]:
    chosen = draw.sample(codes, draw.randint(1, 4))
    return [
        lists.format_list([getattr(Locale(locale), kind)[code] for code in chosen], locale=locale) for locale in LOCALES
    ]
