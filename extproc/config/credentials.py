"""`authentication:` → what judges credentials, made once and shared by every route."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from extproc.authentication.api_keys import ApiKeys
from extproc.authentication.basic import BasicUsers
from extproc.authentication.bearer import BearerTokens
from extproc.authentication.certificates import ClientCertificates
from extproc.authentication.introspection import Introspection, Server
from extproc.authentication.jwks import KeySource, Pace, discovery_url
from extproc.authentication.jwt import JwtAuthenticator
from extproc.authentication.keys import KeySet, NotAKeySet
from extproc.authentication.plugin import Authenticate, HideCredentials
from extproc.authentication.proofs import ByCertificate, ByDpop
from extproc.authentication.schemes import InCookie, InHeader, InQuery
from extproc.authentication.tokens import Rules
from extproc.config import keys_file, users_file
from extproc.config.checks import ANONYMOUS, token_place
from extproc.config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from extproc.authentication.proofs import Proof
    from extproc.authentication.schemes import Reader, Scheme
    from extproc.config.errors import Trouble
    from extproc.config.load import Loaded
    from extproc.config.schema import Accepted, ApiKey, Authenticator, Basic, Jwt
    from extproc.config.schema import Introspection as IntrospectionModel
    from extproc.config.source import Key

type_of_place = tuple[str, str]


class Credentials:
    """Everything under `authentication:`.

    Attributes:
        troubles: what can't be used.
        authenticators: of JWTs, by name.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._models = loaded.gateway.authentication
        self.troubles: list[Trouble] = []
        self.authenticators: dict[str, JwtAuthenticator] = {}
        self._schemes: dict[str, Scheme] = {}
        self._introspections: dict[str, Introspection] = {}
        self._users: dict[str, BasicUsers] = {}
        for name, model in self._models.items():
            self._make(name, model)

    def _make(self, name: str, model: Authenticator) -> None:
        if model.jwt is not None:
            self.authenticators[name] = self._of_tokens(name, model.jwt)
        elif model.api_key is not None:
            self._schemes[name] = self._of_keys(name, model.api_key)
        elif model.basic is not None:
            self._users[name] = self._of_users(name, model.basic)
        elif model.introspection is not None:
            self._introspections[name] = _asks(name, model.introspection)
        elif model.mtls is not None:
            self._schemes[name] = ClientCertificates(name, tuple(model.mtls.trust_domains))

    def warnings(self) -> Iterator[Trouble]:
        """Yield what isn't wrong where another proxy is before the service, and can't work here."""
        ends_tls = self._loaded.gateway.listener.tls is not None
        for name, model in self._models.items():
            if model.reads_certificates and not ends_tls:
                yield self._loaded.trouble(
                    ("authentication", name),
                    "reads client certificates, and the listener has no TLS",
                    "expected listener.tls.client_ca, unless `extproc serve` is behind a proxy "
                    "that asks for them",
                )
            for header in model.headers:
                if "_" in header:
                    yield self._loaded.trouble(
                        ("authentication", name),
                        f"looks in {header}, and requests with `_` in a header's name are refused",
                        "expected another name, unless `extproc serve` is behind a proxy that "
                        "takes it",
                    )

    @property
    def places(self) -> frozenset[str]:
        """Return the headers in which credentials are; they are never recorded."""
        return frozenset(name for model in self._models.values() for name in model.headers)

    @property
    def parameters(self) -> frozenset[str]:
        """Return the parameters of the query in which credentials are; never recorded either."""
        tokens = [model.jwt for model in self._models.values() if model.jwt is not None]
        return frozenset(model.query for model in tokens if model.query is not None)

    @property
    def listed(self) -> dict[str, Container[str]]:
        """Return the subjects that files list, by authenticator."""
        keys = {name: one for name, one in self._schemes.items() if isinstance(one, ApiKeys)}
        return {**keys, **self._users}

    def plugin(self, accepted: Accepted) -> Authenticate | None:
        """Return what authenticates a route's requests; None where nothing is looked at."""
        if not accepted.names:
            return None
        names = [name for name in accepted.names if name != ANONYMOUS]
        return Authenticate(
            schemes=tuple(self._by_place(names)),
            anonymous=ANONYMOUS in accepted.names,
            every=accepted.every,
        )

    def hides(self) -> HideCredentials | None:
        """Return what takes credentials out where Envoy can't; None where there are none."""
        tokens = [model.jwt for model in self._models.values() if model.jwt is not None]
        hidden = HideCredentials(
            cookies=tuple(model.cookie for model in tokens if model.cookie is not None),
            parameters=tuple(model.query for model in tokens if model.query is not None),
        )
        return hidden if hidden.cookies or hidden.parameters else None

    def _by_place(self, names: Sequence[str]) -> Iterator[Scheme]:
        """Yield a scheme for each place; authenticators that share a place share its scheme."""
        places: dict[type_of_place, list[str]] = {}
        for name in names:
            places.setdefault(_place(name, self._models[name]), []).append(name)
        for (kind, where), sharing in places.items():
            match kind:
                case "header":
                    yield InHeader(where, self._readers(sharing))
                case "cookie":
                    yield InCookie(where, self._bearer(sharing, "Bearer"))
                case "query":
                    yield InQuery(where, self._bearer(sharing, "Bearer"))
                case _:
                    yield self._schemes[sharing[0]]

    def _readers(self, names: Sequence[str]) -> dict[str, Reader]:
        """Return what reads one header, by what stands before the credential."""
        readers: dict[str, Reader] = {}
        by_key = [name for name in names if self._proves_by_key(name)]
        users = [name for name in names if name in self._users]
        others = [name for name in names if name not in {*by_key, *users}]
        if others:
            readers["bearer"] = self._bearer(others, "Bearer")
        if by_key:
            readers["dpop"] = self._bearer(by_key, "DPoP")
        for name in users:
            readers["basic"] = self._users[name]
        return readers

    def _proves_by_key(self, name: str) -> bool:
        model = self._models[name].jwt
        return model is not None and model.proof == "dpop"

    def _bearer(self, names: Sequence[str], kind: str) -> BearerTokens:
        tokens = [self.authenticators[name] for name in names if name in self.authenticators]
        asked = [self._introspections[name] for name in names if name in self._introspections]
        return BearerTokens(tokens, asked[0] if asked else None, kind)

    def _of_tokens(self, name: str, model: Jwt) -> JwtAuthenticator:
        rules = Rules(
            model.issuer,
            frozenset(model.audiences),
            model.leeway,
            model.max_lifetime,
            profile=model.profile is not None,
        )
        source = self._keys(model, ("authentication", name, "jwt"))
        return JwtAuthenticator(name, rules, model.accepted, source, _proof(model))

    def _keys(self, model: Jwt, key: Key) -> KeySource:
        try:
            if model.secret is not None:
                return KeySource.fixed(model.issuer, KeySet.of_secret(model.secret.encode()))
            if model.jwks is not None:
                document = Path(model.jwks).read_bytes()
                return KeySource.fixed(model.issuer, KeySet.read(document))
        except NotAKeySet as error:
            if model.jwks is not None:
                self._trouble((*key, "jwks"), str(error), "expected a JSON Web Key Set")
            else:
                self._trouble((*key, "secret"), str(error), f"expected {_LONG_ENOUGH}")
            return KeySource.fixed(model.issuer, KeySet(()))
        location = model.jwks_uri or discovery_url(model.issuer)
        pace = Pace(model.refresh, model.cooldown, model.max_stale)
        return KeySource(model.issuer, location, discovery=model.jwks_uri is None, pace=pace)

    def _of_keys(self, name: str, model: ApiKey) -> ApiKeys:
        path = Path(model.file)
        try:
            entries = keys_file.read(path, self._named(path))
        except ConfigError as error:
            self.troubles += error.troubles
            entries = []
        for entry in entries:
            if entry.consumer and entry.consumer not in self._loaded.gateway.consumers:
                self._trouble(
                    ("authentication", name, "api_key", "file"),
                    f"has a key of the consumer {entry.consumer}, which isn't one",
                    "expected one under `consumers`",
                )
                break
        return ApiKeys(name, model.header, entries)

    def _of_users(self, name: str, model: Basic) -> BasicUsers:
        path = Path(model.file)
        try:
            return BasicUsers(name, users_file.read(path, self._named(path)))
        except ConfigError as error:
            self.troubles += error.troubles
            return BasicUsers(name, {})

    def _named(self, file: Path) -> str:
        """Return how errors call a file: beside the gateway file's own spelling, as other files."""
        return str(self._loaded.path.parent / file.relative_to(self._loaded.folder.resolve()))

    def _trouble(self, key: Key, problem: str, expected: str) -> None:
        self.troubles.append(self._loaded.trouble(key, problem, expected))


_LONG_ENOUGH = "at least 32 random bytes, for example of `openssl rand -base64 48`"


def _place(name: str, model: Authenticator) -> type_of_place:
    """Return where credentials are; what shares it with nothing has a place of its own."""
    if model.basic is not None:
        return ("header", "authorization")
    return token_place(model) or ("own", name)


def _proof(model: Jwt) -> Proof | None:
    match model.proof:
        case "certificate":
            return ByCertificate()
        case "dpop":
            return ByDpop()
        case None:
            return None


def _asks(name: str, model: IntrospectionModel) -> Introspection:
    return Introspection(
        name,
        Server(
            model.url,
            model.client_id,
            model.client_secret,
            model.remember,
            model.timeout,
            frozenset(model.audiences),
            model.issuer or "",
        ),
    )
