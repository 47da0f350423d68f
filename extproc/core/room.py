"""How much may be read for one exchange, by all its calls together."""

from __future__ import annotations


class Room:
    """What several answers that arrive at once may hold together.

    Each piece of a body takes of it when it comes, so no number of answers holds more than it
    gives. What came of an answer that is let go is given back.

    Attributes:
        most: bytes it gave at first.
        left: bytes it still gives; 0 or more.
    """

    __slots__ = ("left", "most")

    def __init__(self, most: int) -> None:
        self.most = self.left = most

    def takes(self, size: int) -> bool:
        """Take so many bytes; False, and nothing is taken, if that many aren't left."""
        if size > self.left:
            return False
        self.left -= size
        return True
