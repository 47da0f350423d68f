"""Client certificates, as Envoy verified them (`connection.*` attributes).

Envoy has checked the chain against `listener.tls.client_ca`; who the certificate names is its
first URI (a SPIFFE id, for example), else its subject.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from extproc.authentication.tokens import Refused
from extproc.core.principal import Principal
from extproc.core.verdict import (
    CERTIFICATE_ATTRIBUTES,
    CERTIFICATE_DIGEST_ATTRIBUTE,
    CERTIFICATE_SUBJECT_ATTRIBUTE,
    CERTIFICATE_URI_ATTRIBUTE,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from extproc.core.ports import Services
    from extproc.core.values import Request

_MOST_REMEMBERED = 10_000


def digest(request: Request) -> str:
    """Return the SHA-256 of the client's certificate in hexadecimal; empty for none."""
    return request.attributes.get(CERTIFICATE_DIGEST_ATTRIBUTE, "")


class ClientCertificates:
    """Callers known by the certificate of their connection.

    Args:
        name: of the authenticator.
        trust_domains: SPIFFE ids must be of one of these; empty for any.
    """

    of_connection: ClassVar[bool] = True

    def __init__(self, name: str, trust_domains: tuple[str, ...] = ()) -> None:
        self.name = name
        self._beginnings = tuple(f"spiffe://{domain}/" for domain in trust_domains)
        self._known: dict[tuple[str, str, str], Principal] = {}

    def start(self, services: Services) -> None:
        """Nothing to prepare: Envoy has the keys."""

    def presented(self, request: Request) -> str | None:
        """Return the certificate's digest; where Envoy tells only a name, that."""
        for attribute in CERTIFICATE_ATTRIBUTES:
            told = request.attributes.get(attribute)
            if told:
                return told
        return None

    def verify(self, credential: str, request: Request) -> Principal:
        """Read who the certificate names."""
        uri = request.attributes.get(CERTIFICATE_URI_ATTRIBUTE, "")
        subject = request.attributes.get(CERTIFICATE_SUBJECT_ATTRIBUTE, "")
        if not uri and not subject:
            raise Refused("certificate_nameless")
        if self._beginnings and not uri.startswith(self._beginnings):
            raise Refused("certificate_foreign")
        place = (credential, uri, subject)
        known = self._known.get(place)
        if known is None:
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            # One principal for each certificate: what is remembered of it holds for the next.
            known = self._known[place] = self._principal(digest(request), uri, subject)
        return known

    def _principal(self, fingerprint: str, uri: str, subject: str) -> Principal:
        claims: Mapping[str, str] = {"uri": uri, "subject": subject, "sha256": fingerprint}
        return Principal("mtls", self.name, uri or subject, claims=MappingProxyType(dict(claims)))

    def challenges(self, *, refused: bool) -> tuple[str, ...]:
        """TLS asks for a certificate, but RFC 9110 (section 15.5.2) wants each 401 to name a kind.

        No name is registered for this one; `ClientCertificate` is that of
        draft-thomson-http-cant. Clients skip kinds they don't know.
        """
        del refused
        return ('ClientCertificate realm="gateway"',)
