"""Triton's configurations as a database holds them, and back."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import triton

from tunekit.core.config import Config
from tunekit.records import MAX_AXIS_VALUE
from tunekit.store.fields import MAX_ITEMS, MAX_NAME

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "pre_hook", "ir_override")
"""What `triton.Config` takes besides the kernel's own constants."""
_CHOICE = "CHOICE"
"""The axis of a configuration that no database can hold: its place in the list."""


class Table:
    """The configurations of one list, by what they are called in a database.

    Args:
        configs: in the order they were given; of equal ones the first counts.

    Attributes:
        by_config: each of them.
        stored: whether a database can hold them all: whole numbers, True or False, none of them
            the same but for its hook.
    """

    def __init__(self, configs: Sequence[triton.Config]) -> None:
        self.source = configs
        encoded = [_stored(each) for each in configs]
        distinct = list(dict.fromkeys(configs))
        self.stored = None not in encoded and len(set(encoded)) == len(distinct)
        if not self.stored:
            encoded = [_placed(place, each) for place, each in enumerate(distinct)]
            configs = distinct
        self.by_config: dict[Config, triton.Config] = {}
        for config, each in zip(encoded, configs, strict=True):
            assert config is not None
            self.by_config.setdefault(config, each)
        self._of = {id(each): config for config, each in zip(encoded, configs, strict=True)}

    def config_of(self, given: triton.Config) -> Config | None:
        """What one of the list, or one equal to it, is called; None for any other."""
        found = self._of.get(id(given))
        if found is not None and self.by_config[found] is given:
            return found
        return next((config for config, each in self.by_config.items() if each == given), None)

    def only(self, configs: Iterable[triton.Config]) -> dict[Config, triton.Config]:
        """Those of the list that are named, in that order; others are called by what they are."""
        found: dict[Config, triton.Config] = {}
        for each in configs:
            config = self.config_of(each) or _stored(each)
            if config is not None:
                found.setdefault(config, each)
        return found


def as_triton(config: Mapping[str, Any]) -> triton.Config:
    """`triton.Config` of a mapping from names to values, options of the launch among them."""
    options = {name: config[name] for name in OPTIONS if name in config}
    meta = {name: value for name, value in config.items() if name not in OPTIONS}
    return triton.Config(meta, **options)


def _stored(config: triton.Config) -> Config | None:
    """As a database holds it; None where it cannot."""
    values = dict(config.all_kwargs())
    if values.get("num_ctas") == 1:
        del values["num_ctas"]
    if not 1 <= len(values) <= MAX_ITEMS:
        return None
    found = {}
    for name, value in values.items():
        try:
            number = operator.index(value)
        except TypeError:
            return None
        if not 0 <= number <= MAX_AXIS_VALUE or not name.isidentifier() or len(name) > MAX_NAME:
            return None
        found[name] = number
    return Config(found)


def _placed(place: int, config: triton.Config) -> Config:
    """Told apart by its place, where its values say too little or too much."""
    return Config(
        {_CHOICE: place}, num_warps=config.num_warps or 4, num_stages=config.num_stages or 1
    )
