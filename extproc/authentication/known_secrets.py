"""Secrets that are no secrets: what documentation and tutorials show, and what anybody tries first.

Only what is long enough to be accepted otherwise needs a place here; most published lists consist
of words that are far too short.
"""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

_LEAST_DISTINCT = 10
_LEAST_PERIOD = 16
# Lower case, letters and digits alone.
_SHOWN = frozenset(
    {
        "astringsecretatleast256bitslong",
        "astringsecretatleast384bitslongastringsecretatleast384bitslong",
        "astringsecretatleast512bitslongwhichisverylongindeedastringsecret",
        "avalidstringthatisatleast512bitslongwhichisneededforthehs512algorithm",
        "yoursecretkeythatisatleast32characterslong",
        "yoursupersecretkeythatisatleast32characterslong",
        "thisisaverysecretkeythatshouldbechangedinproduction",
        "pleasechangethissecretkeyinproductionplease",
        "changethissecretbeforeyougotoproduction",
        "404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
        "qwertyuiopasdfghjklzxcvbnm123456",
        "abcdefghijklmnopqrstuvwxyz123456",
        "abcdefghijklmnopqrstuvwxyz0123456789",
        "thisisasecretkeyforjwtauthentication",
    }
)
# An explanation, not a secret: what people leave from a template.
_TEMPLATE = re.compile(
    r"(?:your|my|the|super|very|long|jwt|hmac|secret|private|signing|key|token|change|changeme|"
    r"this|me|please|in|for|production|prod|is|a|at|least|must|be|bits?|bytes?|chars?|characters?|"
    r"32|64|128|256|384|512|1234567890|0123456789|123456789|12345678|1234|123|password|admin|"
    r"test|dev|development|example|sample|default|insecure|and|to|with|should|not|use|it)+\Z"
)
# SHA-256 in hexadecimal of the words that people hash to get "a long secret".
_HASHED = frozenset(
    hashlib.sha256(word.encode()).hexdigest()
    for word in ("", "secret", "password", "changeme", "admin", "test", "jwt", "key", "123456")
)


def is_known(secret: bytes) -> bool:
    """Say whether others know a secret, or need not know it to find it."""
    if len(set(secret)) < _LEAST_DISTINCT or _repeats(secret) or _counts(secret):
        return True
    text = re.sub(r"[^a-z0-9]", "", secret.decode("latin-1").lower())
    return text in _SHOWN or text in _HASHED or bool(_TEMPLATE.match(text))


def _repeats(secret: bytes) -> bool:
    """Say whether a short piece is repeated."""
    return any(
        secret == (secret[:size] * len(secret))[: len(secret)] for size in range(1, _LEAST_PERIOD)
    )


def _counts(secret: bytes) -> bool:
    """Say whether each byte follows from the one before."""
    steps = {(b - a) % 256 for a, b in pairwise(secret)}
    return len(steps) == 1
