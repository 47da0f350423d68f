"""A stored response."""

from __future__ import annotations

from dataclasses import dataclass, field

from extproc.caching.selecting import Selecting
from extproc.core.answered import Reuse
from extproc.core.values import Response

Pairs = tuple[tuple[str, str], ...]
# What an entry costs beside its texts and bytes: objects, and the store's places for it.
_OVERHEAD = 1200
_EACH_HEADER = 170


@dataclass(slots=True, eq=False)
class Entry:
    """A stored response, and all that decides about its reuse.

    Attributes:
        status: of the response.
        headers: pairs, in order.
        body: bytes.
        came: when it came, seconds since the epoch.
        age: how old it was then, seconds.
        lifetime: seconds that it is fresh from when it was made.
        validate: it must be validated before each reuse.
        never_stale: it must not be reused once it is stale.
        while_revalidate: seconds past its lifetime.
        if_error: seconds past its lifetime.
        selecting: the request fields that select it.
        uri: whose response it is; what invalidation names. A long one as `short` gives it.
        tags: by which it can be purged; long ones too.
        part: first and last byte and the whole's length, of a 206; None for a whole response.
        stamp: the newest mark (see `marks.py`) when its request was sent.
        seen: the newest mark it was held against.
        remote: the newest mark of all replicas when its request was sent.
        generation: in which `remote` was counted; see `Replicas.generation`.
        fresh_until: seconds since the epoch.
        plain: it can be given as it is to every request that has no conditions.
        second: which one `ready` is for.
        ready: the answer made of it.
        reuse: what it says to whoever makes another one of it, once somebody asked.
    """

    status: int
    headers: Pairs
    body: bytes
    came: float
    age: float
    lifetime: float
    validate: bool = False
    never_stale: bool = False
    while_revalidate: float = 0.0
    if_error: float = 0.0
    selecting: Selecting = ()
    uri: str = ""
    tags: tuple[str, ...] = ()
    part: tuple[int, int, int] | None = None
    stamp: int = 0
    seen: int = 0
    remote: int = 0
    generation: str = ""
    fresh_until: float = field(init=False)
    plain: bool = field(init=False)
    second: int = -1
    ready: Response | None = None
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        """Say when it becomes stale, and whether it is plain."""
        self.fresh_until = self.came + self.lifetime - self.age
        whole = self.part is None and not self.validate
        self.plain = whole and not self.selecting and not self.first("content-encoding")

    def aged(self, now: float) -> float:
        """Return its age (RFC 9111 section 4.2.3)."""
        return self.age + max(0.0, now - self.came)

    def first(self, name: str) -> str:
        """Return a header's first value; empty if it is absent."""
        for known, value in self.headers:
            if known == name:
                return value
        return ""

    @property
    def etag(self) -> str:
        """The entity tag; empty for none."""
        return self.first("etag")

    @property
    def modified(self) -> str:
        """The Last-Modified; empty for none."""
        return self.first("last-modified")

    def soften(self, now: float) -> None:
        """Make it stale from now on."""
        self.lifetime = min(self.lifetime, self.aged(now))
        self.fresh_until = min(self.fresh_until, now)
        self.ready = None

    @property
    def cost(self) -> int:
        """About how many bytes of memory it takes, its encoded answer included."""
        texts = sum([len(name) + len(value) + _EACH_HEADER for name, value in self.headers])
        selecting = sum([len(name) + len(value or "") + 200 for name, value in self.selecting])
        tags = sum([len(tag) + 60 for tag in self.tags])
        return _OVERHEAD + 2 * (len(self.body) + texts) + selecting + tags + len(self.uri)
