"""What an operator says is no longer good: by URL, by tag, or all; void or stale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from extproc.caching.marks import ALL, TAG, URI, Mark
from extproc.caching.uris import named, read
from extproc.core.errors import BadPurge
from extproc.core.paths import NoNormalForm

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from extproc.caching.parameters import Parameters

_KEYS = frozenset({"tags", "url", "all", "soft"})
MOST_TAGS = 256
_NO_URL = "url is no URL such as https://shop.example.com/products?page=1"


def marks(said: Mapping[str, Any], keyed: Iterable[Parameters]) -> list[Mark]:
    """Return what a purge makes void or stale.

    Args:
        said: `tags`, a list of texts; `url`; `all` and `soft`, true or false.
        keyed: for each kind of key, the query parameters that count.

    Raises:
        BadPurge: it says something else, or names nothing.
    """
    unknown = sorted(set(said) - _KEYS)
    if unknown:
        raise BadPurge(f"holds {unknown[0]}, expected tags, url, all, soft")
    soft, everything = (_flag(said, name) for name in ("soft", "all"))
    found = [Mark(TAG, tag, soft) for tag in _tags(said.get("tags", []))]
    if "url" in said:
        found += [Mark(URI, uri, soft) for uri in _uris(said["url"], keyed)]
    if everything:
        found.append(Mark(ALL, soft=soft))
    if not found:
        raise BadPurge("names nothing, expected tags, url or all")
    return found


def _flag(said: Mapping[str, Any], name: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise BadPurge(f"{name} is neither true nor false")
    return value


def _tags(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(tag, str) and tag for tag in value):
        raise BadPurge("tags is no list of texts")
    if len(value) > MOST_TAGS:
        raise BadPurge(f"holds more than {MOST_TAGS} tags")
    return value


def _uris(url: Any, keyed: Iterable[Parameters]) -> list[str]:
    """Return the names of a URL, for both schemes: which one clients see, a proxy may decide."""
    if not isinstance(url, str) or not url.lower().startswith(("http://", "https://")):
        raise BadPurge(_NO_URL)
    try:
        host, path, query = read(url)
    except NoNormalForm as error:
        raise BadPurge(f"url has {error}, and no request has") from None
    except ValueError:
        raise BadPurge(_NO_URL) from None
    if not host:
        raise BadPurge(_NO_URL)
    place = f"[{host}]" if ":" in host else host
    origins = [f"{scheme}://{place}" for scheme in ("http", "https")]
    kinds = dict.fromkeys((None, *keyed))
    return sorted({named(origin, kind, path, query) for origin in origins for kind in kinds})
