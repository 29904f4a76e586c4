"""The ends of a model's blocks, and which of them make so many blocks of even work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Blocks", "fits"]

NEAR = 0.5  # blocks by which a cut may lie off its share of the work


@dataclass(frozen=True)
class Blocks:
    """The ends of a model's blocks.

    Args:
        paths: module paths in the order in which they run.
        equal: whether any number of these parts may make a block (a transformer's layers); otherwise they are its stages.
        shares: of each end, the share of the model's multiply-adds done by then; evenly spaced where they are not known.
    """

    paths: tuple[str, ...]
    equal: bool
    shares: tuple[float, ...] = field(default=(), compare=False)

    def take(self, count: int) -> tuple[str, ...]:
        """Return the ``count`` cuts at which the work done is nearest to 1 / count, 2 / count, ..., the last end among them.

        >>> Blocks(("a", "b", "c", "d", "e", "f"), equal=True).take(3)
        ('b', 'd', 'f')
        >>> Blocks(("low", "middle", "high"), equal=False, shares=(0.1, 0.6, 1.0)).take(2)
        ('middle', 'high')
        """
        return tuple(self.paths[index] for index in _nearest(self._shares(), count))

    def best(self, most: int) -> int:
        """Return the largest number of cuts up to ``most`` of which each lies near its share of the work."""
        numbers = range(min(most, len(self.paths)), 1, -1)
        shares = self._shares()
        return next((n for n in numbers if fits([shares[index] for index in _nearest(shares, n)])), 1)

    def _shares(self) -> Sequence[float]:
        return self.shares or [(index + 1) / len(self.paths) for index in range(len(self.paths))]


def _nearest(shares: Sequence[float], count: int) -> tuple[int, ...]:
    """Return ``count`` rising indices, the last always, whose shares add up to the least distance from i / count."""
    # Costs to choose the first i, the last of them at each index; the later of equals.
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for number in range(1, count + 1):
        target, longer = number / count * shares[-1], []
        for index in range(number - 1, len(shares) - (count - number)):
            before = [chosen for chosen in best if not chosen[1] or chosen[1][-1] < index]
            cost, indices = min(before, key=lambda chosen: (round(chosen[0], 6), [-i for i in chosen[1]]))
            longer.append((cost + abs(shares[index] - target), (*indices, index)))
        best = longer
    return best[-1][1]


def fits(shares: Sequence[float]) -> bool:
    """Whether each share is near to where even blocks would end, up to the last."""
    return shares[-1] > 0 and all(
        abs(share / shares[-1] * len(shares) - number) <= NEAR for number, share in enumerate(shares, 1)
    )
