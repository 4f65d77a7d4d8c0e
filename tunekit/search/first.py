"""What a search of one problem begins with: the default, what won before, and what was imported."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from tunekit.core.candidate import Candidate
from tunekit.core.config import Config
from tunekit.core.space import Space
from tunekit.errors import SpaceError
from tunekit.search.task import Imported


@dataclass(frozen=True, slots=True)
class First:
    """The configurations of a search, and which of them come first.

    Attributes:
        configs: the valid ones of the space; after them the imported ones that it does not list.
        order: those evaluated before any other, in this order.
        origins: of the imported ones, where each is from.
        off_list: how many of those the space does not list.
    """

    configs: tuple[Config, ...]
    order: tuple[Config, ...]
    origins: Mapping[Config, str]
    off_list: int

    @classmethod
    def of(
        cls,
        space: Space,
        context: Mapping[str, int],
        before: Sequence[Config],
        candidates: Sequence[Candidate],
    ) -> First:
        """What to begin with.

        Args:
            space: of the kernel.
            context: what the space's expressions see.
            before: what won the problem earlier.
            candidates: what was imported for it; those that the constraints forbid here, or that
                have other axes than the space has now, are left out.

        Raises:
            SpaceError: the space has no configuration, or no default, here.
        """
        configs = space.configs(context)
        valid = set(configs)
        origins: dict[Config, str] = {}
        for each in candidates:
            if each.config in valid or _fits(space, each.config, context):
                origins.setdefault(each.config, each.origin)
        off_list = [
            Config({axis: config[axis] for axis in space.axis_names})
            for config in origins
            if config not in valid
        ]
        won = [config for config in before if config in valid or config in origins]
        order = dict.fromkeys([space.default(context), *won, *origins])
        return cls((*configs, *off_list), tuple(order), origins, len(off_list))

    def imported(self, found: Collection[Config], winner: Config) -> Imported | None:
        """What became of the imported ones; None where there are none.

        Args:
            found: what was evaluated.
            winner: what won.
        """
        if not self.origins:
            return None
        evaluated = sum(config in found for config in self.origins)
        return Imported(len(self.origins), self.off_list, evaluated, self.origins.get(winner, ""))


def _fits(space: Space, config: Config, context: Mapping[str, int]) -> bool:
    if config.keys() != set(space.axis_names):
        return False
    try:
        return space.violated(config, context) is None
    except SpaceError:
        return False
