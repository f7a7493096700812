"""Relational surrogate losses: train with the Hugging Face Trainer on a loss that ranks as your metric does.

The public names are those of `reloss_hf.api`. The first access to one of them imports them. Code that needs none of
them, such as `reloss --help`, therefore starts at once.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import *  # noqa: F403

__version__ = "0.1.0.dev0"


def __getattr__(name: str) -> Any:
    if name == "__all__" or (name != "api" and not name.startswith("_")):
        from . import api

        if name == "__all__" or name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from . import api

    return sorted([*globals(), *api.__all__])
