"""A small English–German corpus that needs no download: phrases as CLDR localises them, read through `babel`.

Dates, times, durations, amounts, measures and lists of territories, one to three of them a sentence. Deterministic.
"""

import datetime
import random
import unicodedata

import datasets
from babel import Locale, dates, lists, numbers, units

LOCALES = ("en", "de")
TERRITORIES = sorted(
    code for code in set(Locale("en").territories) & set(Locale("de").territories) if code.isalpha() and len(code) == 2
)
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "PLN", "CAD", "INR", "MXN")
MEASURES = (
    ("length-kilometer", 900), ("length-meter", 900), ("mass-kilogram", 200), ("mass-gram", 900), ("volume-liter", 90),
    ("temperature-celsius", 40), ("duration-hour", 23), ("duration-minute", 59), ("duration-day", 30),
    ("speed-kilometer-per-hour", 250), ("area-square-meter", 900), ("digital-gigabyte", 500),
)  # fmt: skip


def load(train: int = 6000, validation: int = 500, test: int = 500, seed: int = 0) -> datasets.DatasetDict:
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
        draw.choice((_date, _time, _duration, _amount, _measure, _territories))(draw) for _ in range(draw.randint(1, 3))
    ]
    style = draw.choice(("standard", "or"))
    return tuple(
        unicodedata.normalize("NFKC", lists.format_list([part[i] for part in parts], style, locale))
        for i, locale in enumerate(LOCALES)
    )


def _date(draw: random.Random) -> list[str]:
    day = datetime.date(1950, 1, 1) + datetime.timedelta(days=draw.randrange(36500))
    style = draw.choice(("full", "long"))
    return [dates.format_date(day, style, locale) for locale in LOCALES]


def _time(draw: random.Random) -> list[str]:
    moment = datetime.datetime(1950, 1, 1) + datetime.timedelta(minutes=draw.randrange(36500 * 1440))
    style = draw.choice(("long", "medium"))
    return [dates.format_datetime(moment, style, locale=locale) for locale in LOCALES]


def _duration(draw: random.Random) -> list[str]:
    unit, most = draw.choice((("weeks", 51), ("days", 30), ("hours", 23), ("minutes", 59)))
    delta = datetime.timedelta(**{unit: draw.choice((-1, 1)) * draw.randint(1, most)})
    return [
        dates.format_timedelta(delta, granularity=unit[:-1], threshold=60, add_direction=True, locale=locale)
        for locale in LOCALES
    ]


def _amount(draw: random.Random) -> list[str]:
    amount, currency = draw.randint(1, 99999) / draw.choice((1, 10, 100)), draw.choice(CURRENCIES)
    return [numbers.format_currency(amount, currency, locale=locale, format_type="name") for locale in LOCALES]


def _measure(draw: random.Random) -> list[str]:
    (unit, most), length = draw.choice(MEASURES), draw.choice(("long", "short"))
    value = draw.randint(1, most * 10) / draw.choice((1, 10))
    return [units.format_unit(value, unit, length, locale=locale) for locale in LOCALES]


def _territories(draw: random.Random) -> list[str]:
    codes = draw.sample(TERRITORIES, draw.randint(1, 4))
    return [
        lists.format_list([Locale(locale).territories[code] for code in codes], locale=locale) for locale in LOCALES
    ]
