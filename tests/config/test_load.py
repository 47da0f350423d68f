"""The gateway file: what is read, and every error with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema_rs import Draft202012Validator

from extproc.config import units
from extproc.config.build import assemble
from extproc.config.errors import ConfigError
from extproc.config.load import Loaded, json_schema, load
from extproc.config.source import compose
from tests.support.certificates import Made, made
from tests.support.places import short_folder

SHOP = Path(__file__).parents[2] / "examples" / "shop" / "gateway.yaml"
GOOD = """
version: 1
listener: {address: "127.0.0.1:8080"}
upstreams:
  echo: {endpoints: ["http://127.0.0.1:9108"]}
authentication:
  shop: {jwt: {issuer: "http://issuer", audiences: [shop], discovery: true}}
policies:
  readers: {rules: [{name: reader, allow: '"read" in principal.scopes'}]}
defaults: {authentication: [shop]}
routes:
  - name: any
    match: {path: "/any/{id}", methods: [GET]}
    upstream: echo
    authorization: readers
"""


def written(folder: Path, text: str, name: str = "gateway.yaml") -> Path:
    """Write a file and return it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def troubles(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    """Load and build; return the errors without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        assemble(load(path, environment or {}))
    return [line.removeprefix(f"{path.parent}/") for line in str(caught.value).splitlines()]


def loaded(folder: Path, text: str, environment: dict[str, str] | None = None) -> Loaded:
    """Write, load and build."""
    result = load(written(folder, text), environment or {})
    assemble(result)
    return result


CHANGES = {
    "a misspelt key": (
        ("authorization: readers", "authorisation: readers"),
        "gateway.yaml:15:5: routes[0].authorisation: unknown key, did you mean authorization?",
    ),
    "a misspelt name": (
        ("upstream: echo", "upstream: ecco"),
        (
            "gateway.yaml:14:15: routes[0].upstream: names ecco, which isn't an upstream, "
            "did you mean echo?"
        ),
    ),
    "a missing key": (
        ('    match: {path: "/any/{id}", methods: [GET]}\n', ""),
        "gateway.yaml:12:5: routes[0].match: is missing",
    ),
    "a key twice": (
        ("    upstream: echo\n", "    upstream: echo\n    upstream: echo\n"),
        "gateway.yaml:15:5: routes[0].upstream: is there twice, first at line 14",
    ),
    "a wrong kind": (
        ("methods: [GET]", "methods: GET"),
        (
            "gateway.yaml:13:41: routes[0].match.methods: is 'GET', "
            "expected a list such as [GET, POST], or any"
        ),
    ),
    "a bad condition": (
        ("in principal.scopes", "in principal.scope"),
        (
            "gateway.yaml:9:63: policies.readers.rules[0].allow: reads principal.scope, "
            "which doesn't exist, did you mean principal.scopes?"
        ),
    ),
    "a condition that isn't one": (
        ("'\"read\" in principal.scopes'", "principal.subject"),
        (
            "gateway.yaml:9:44: policies.readers.rules[0].allow: is string, "
            "expected a condition (true or false)"
        ),
    ),
    "a version of the future": (
        ("version: 1", "version: 2"),
        "gateway.yaml:2:10: version: is 2, expected 1",
    ),
    "something not built yet": (
        ("authorization: readers", "limits: {}"),
        "gateway.yaml:15:5: routes[0].limits: isn't built yet in this version, take it out",
    ),
    "a bad duration": (
        ("endpoints: [", "timeout: 5, endpoints: ["),
        (
            "gateway.yaml:5:19: upstreams.echo.timeout: is '5', "
            "expected a duration such as 250ms, 2s, 5m, 1h or 30d"
        ),
    ),
    "a path that isn't normal": (
        ("/any/{id}", "/any//{id}"),
        "gateway.yaml:13:19: routes[0].match.path: has the segment '', expected a normalised path",
    ),
    "no authentication at all": (
        ("defaults: {authentication: [shop]}\n", ""),
        (
            "gateway.yaml:11:5: routes[0].authentication: is missing, "
            "say `none` out loud, or set defaults"
        ),
    ),
    "a tab": (
        ("  echo: {", "\techo: {"),
        "gateway.yaml:5:1: has a tab where blanks must be, indent with blanks",
    ),
    "a brace without quotes": (
        ('"/any/{id}"', "/any/{id}"),
        "gateway.yaml:13:24: has a brace in a text without quotes, quote the text",
    ),
    "text that isn't YAML": (
        ("routes:", "routes: ]"),
        "gateway.yaml:11:9: isn't YAML: did not find expected node content",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_errors_say_where_what_and_what_instead(name: str, tmp_path: Path) -> None:
    """F8: file:line:column: key: what is wrong, what was expected."""
    (old, new), expected = CHANGES[name]
    assert old in GOOD
    assert troubles(written(tmp_path, GOOD.replace(old, new))) == [expected]


def test_several_troubles_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to find them one by one."""
    text = GOOD.replace("upstream: echo", "upstrem: echo").replace("discovery", "discovry")
    assert len(troubles(written(tmp_path, text))) >= 2


def test_the_shop_is_right() -> None:
    """The example loads without any environment."""
    assert len(load(SHOP, {}).gateway.routes) == 8


def test_values_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """They are filled in and typed like text that stands there."""
    written(tmp_path, "shop\n", "audience")
    text = GOOD.replace("9108", "${env:PORT}").replace("[shop], disc", '["${file:audience}"], disc')
    text = text.replace('address: "127.0.0.1:8080"', 'address: "${env:AT:-127.0.0.1:1}"')
    text += "    cache: {ttl: '${env:TTL}'}\n"
    gateway = loaded(tmp_path, text, {"PORT": "77", "TTL": "5s"}).gateway
    assert gateway.upstreams["echo"].endpoints == ["http://127.0.0.1:77"]
    jwt = gateway.authentication["shop"].jwt
    assert jwt is not None
    assert jwt.audiences == ["shop"]
    assert gateway.listener.address == "127.0.0.1:1"
    assert gateway.routes[0].cache is not None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("${env:NOT_SET}", "needs the environment variable NOT_SET, which isn't set"),
        ("${file:absent}", "names absent, which doesn't exist"),
        ("${file:../outside}", "isn't below the gateway file's folder"),
        ("${http:x}", "expected ${env:NAME} or ${file:PATH}"),
    ],
)
def test_what_can_not_be_filled_in(value: str, problem: str, tmp_path: Path) -> None:
    """F9, L8: missing values and files elsewhere are errors that name them."""
    written(tmp_path.parent, "secret", "outside")
    (found,) = troubles(written(tmp_path, GOOD.replace("http://issuer", value)))
    assert problem in found


@pytest.mark.parametrize("key", ["decisions", "revocations"])
def test_a_folder_in_place_of_a_file_that_is_written_to(key: str, tmp_path: Path) -> None:
    """Is told with its place, and not by whoever opens it; there may be nothing yet."""
    text = GOOD + f"{key}: {{file: records}}\n"
    loaded(tmp_path, text)
    (tmp_path / "records").mkdir()
    (found,) = troubles(written(tmp_path, text))
    assert found.endswith(f"{key}.file: names records, which is a folder, expected a file")


def test_includes_add_and_collide(tmp_path: Path) -> None:
    """Teams add routes, policies and upstreams; a name twice is an error naming both places."""
    team = "upstreams: {b: {endpoints: ['http://127.0.0.1:1']}}\nroutes:\n"
    team += "  - {name: b, match: {path: /b}, upstream: b}\n"
    written(tmp_path, team, "teams/b.yaml")
    result = loaded(tmp_path, GOOD + "include: [teams/*.yaml]\n")
    assert [route.name for route in result.gateway.routes] == ["any", "b"]
    assert [file.name for file in result.files] == ["gateway.yaml", "b.yaml"]
    written(tmp_path, team.replace("b: {end", "echo: {end"), "teams/b.yaml")
    (found,) = troubles(tmp_path / "gateway.yaml")
    assert found.startswith("teams/b.yaml:1:13: upstreams.echo: is there twice, first at ")
    assert found.endswith("gateway.yaml:5")


def test_errors_in_included_files_have_their_place(tmp_path: Path) -> None:
    """Routes keep the position they were written at."""
    written(tmp_path, "routes:\n  - {name: b, match: {path: /b}, upstream: no}\n", "teams/b.yaml")
    (found,) = troubles(written(tmp_path, GOOD + "include: teams/*.yaml\n"))
    assert found.startswith("teams/b.yaml:2:44: routes[1].upstream: names no")


def test_policies_from_a_folder(tmp_path: Path) -> None:
    """Every file below it but tests of policies."""
    policy = "policies: {readers: {rules: [{name: r, allow: 'true'}]}}\n"
    written(tmp_path, policy, "policies/deep/orders.yaml")
    written(tmp_path, "tests: []", "policies/orders_test.yaml")
    start = GOOD.index("policies:")
    text = GOOD[:start] + "policies: policies/\n" + GOOD[GOOD.index("defaults:") :]
    assert list(loaded(tmp_path, text).gateway.policies) == ["readers"]
    written(tmp_path, policy.replace("'true'", "'tru'"), "policies/deep/orders.yaml")
    (found,) = troubles(tmp_path / "gateway.yaml")
    assert found.startswith("policies/deep/orders.yaml:1:48: policies.readers.rules[0].allow:")


def test_policies_from_a_mounted_configmap(tmp_path: Path) -> None:
    """Kubernetes keeps the files beside the links that name them; each counts once."""
    policy = "policies: {readers: {rules: [{name: r, allow: 'true'}]}}\n"
    written(tmp_path, policy, "policies/..2026/orders.yaml")
    (tmp_path / "policies" / "..data").symlink_to("..2026")
    (tmp_path / "policies" / "orders.yaml").symlink_to("..data/orders.yaml")
    start = GOOD.index("policies:")
    text = GOOD[:start] + "policies: policies/\n" + GOOD[GOOD.index("defaults:") :]
    assert list(loaded(tmp_path, text).gateway.policies) == ["readers"]


def test_the_version_is_of_the_content(tmp_path: Path) -> None:
    """The same content has the same version anywhere; another one, or another file, another."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = loaded(tmp_path / "a", GOOD).version
    assert loaded(tmp_path / "b", GOOD).version == one
    assert loaded(tmp_path / "b", GOOD + "# a comment\n").version == one
    assert loaded(tmp_path / "b", GOOD.replace("any", "all")).version != one


def test_own_plugins_are_checked(tmp_path: Path) -> None:
    """Class, fields and their kinds, with the position in the gateway file."""
    plugin = "from extproc import Plugin\nclass Mine(Plugin):\n    limit: int = 1\n"
    written(tmp_path, plugin, "mine.py")
    text = GOOD + "    plugins: [{use: 'mine.py:Mine', with: {limit: many}}]\n"
    (found,) = troubles(written(tmp_path, text))
    assert found.startswith("gateway.yaml:16:51: routes[0].plugins[0].with.limit: is 'many'")
    (found,) = troubles(written(tmp_path, text.replace("limit:", "limmit:")))
    assert found.endswith("unknown key, did you mean limit?")
    (found,) = troubles(written(tmp_path, text.replace("mine.py:Mine", "mine.py:Other")))
    assert "names Other, which isn't a class made from extproc.Plugin" in found
    written(tmp_path, plugin + "\n\nnothing\n", "mine.py")
    (found,) = troubles(written(tmp_path, text))
    assert found.endswith("NameError: name 'nothing' is not defined (mine.py, line 6)")
    written(tmp_path, "class Mine(\n", "mine.py")
    (found,) = troubles(written(tmp_path, text))
    assert found.endswith("SyntaxError: '(' was never closed (mine.py, line 1)")


@pytest.mark.parametrize(
    ("hook", "found"),
    [
        (
            "def on_requst(self, request): ...",
            "whose on_requst is no hook, did you mean on_request?",
        ),
        ("def on_request(self): ...", "takes something else, expected on_request(self, request)"),
        (
            "async def on_response(self, a, b, c): ...",
            "expected on_response(self, request, response)",
        ),
        ("def on_stop(self, *, services): ...", "expected on_stop(self)"),
    ],
)
def test_hooks_that_would_never_run_are_no_hooks(tmp_path: Path, hook: str, found: str) -> None:
    """A check that is misspelt must not be one that lets everybody through."""
    written(tmp_path, f"from extproc import Plugin\nclass Mine(Plugin):\n    {hook}\n", "mine.py")
    (trouble,) = troubles(written(tmp_path, GOOD + "    plugins: [{use: 'mine.py:Mine'}]\n"))
    assert trouble.startswith("gateway.yaml:16:21: routes[0].plugins[0].use: names Mine, whose ")
    assert found in trouble


@pytest.mark.parametrize(
    ("hook", "idle"),
    [
        ("def request(self, request): ...", True),
        ("def on_request(self, request, more=1): ...", False),
        ("def on_finish(self, *arguments): ...", False),
        ("on_request = staticmethod(print)", False),
        ("def on_start(self, services): ...", False),
        ("def _on_own(self): ...\n    def on_stop(self): ...", False),
    ],
)
def test_a_plugin_without_hooks_is_warned_about(tmp_path: Path, hook: str, *, idle: bool) -> None:
    """It does nothing, which is hardly meant."""
    written(tmp_path, f"from extproc import Plugin\nclass Mine(Plugin):\n    {hook}\n", "mine.py")
    text = GOOD + "    plugins: [{use: 'mine.py:Mine'}]\n"
    warned = [str(one) for one in assemble(loaded(tmp_path, text)).warnings if "Mine" in str(one)]
    assert len(warned) == idle
    assert all("which has no hook, so it does nothing" in one for one in warned)


def test_plugins_of_one_name_in_two_folders(tmp_path: Path) -> None:
    """Each is its own file, though the class is called the same."""
    plugin = "from extproc import Plugin\nclass Mine(Plugin):\n    name = 'NAME'\n"
    for folder in ("a", "b"):
        written(tmp_path, plugin.replace("NAME", folder), f"{folder}/mine.py")
    uses = "[{use: 'a/mine.py:Mine'}, {use: 'b/mine.py:Mine'}, {use: './a/mine.py:Mine'}]"
    text = GOOD + f"    plugins: {uses}\n"
    assembly = assemble(load(written(tmp_path, text), {}))
    names = [getattr(plugin, "name", "") for plugin in assembly.plugins()]
    assert [name for name in names if name] == ["a", "b", "a"]


def test_routes_that_match_the_same_collide(tmp_path: Path) -> None:
    """Still equal is an error that names both."""
    other = '  - {name: other, match: {path: "/any/{x}", methods: [GET]}, upstream: echo}\n'
    (found,) = troubles(written(tmp_path, GOOD + other))
    assert "routes[1].match: matches what any matches" in found
    assert loaded(tmp_path, GOOD + other.replace("[GET]", "[POST]"))


@pytest.mark.parametrize(
    "text",
    ["", "a: !!python/object:os.system x", "&a [*a]", "- 1", "a: 1\n---\nb: 2", "\ta: 1"],
)
def test_hostile_yaml_is_refused(text: str, tmp_path: Path) -> None:
    """F8: tags, recursion, several documents, tabs, nothing at all."""
    assert troubles(written(tmp_path, text))


def test_aliases_can_not_grow_without_bound(tmp_path: Path) -> None:
    """F8: nine levels of nine aliases would be 400 million nodes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (found,) = troubles(written(tmp_path, "\n".join(lines)))
    assert "nests too deep or is too large" in found


def test_plain_words_stay_words() -> None:
    """`no` isn't false, and a date isn't a date."""
    data = compose("{a: no, b: 2026-01-01, c: 010, d: true, e: 1.5, f: '1', g: }", "f", _no).data
    assert data == {
        "a": "no",
        "b": "2026-01-01",
        "c": "010",
        "d": True,
        "e": 1.5,
        "f": "1",
        "g": None,
    }


def _no(_kind: str, _argument: str) -> str:
    raise ValueError


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_a_document_or_an_error(text: str) -> None:
    """Nothing else comes out of the reader."""
    try:
        compose(text, "file", _no)
    except ConfigError:
        return


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8))
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(json_schema()["properties"])), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(TREES)
@settings(max_examples=150)
def test_any_tree_is_a_gateway_or_an_error(tree: object) -> None:
    """Whatever stands in the file, errors are ours and have a place."""
    with short_folder() as folder:
        path = written(folder, yaml.safe_dump(tree))
        try:
            load(path, {})
        except ConfigError as error:
            places = [trouble.at.line for trouble in error.troubles]
        else:
            places = [1]
    assert min(places, default=0) >= 1


def test_the_schema_accepts_the_shop_and_refuses_a_misspelling() -> None:
    """What editors get is true."""
    validator = Draft202012Validator(json_schema())
    shop = yaml.safe_load(SHOP.read_text())
    assert validator.is_valid(json.loads(json.dumps(shop)))
    assert not validator.is_valid(shop | {"rotues": []})


def test_the_schema_lets_values_be_filled_in() -> None:
    """What the gateway file takes an editor mustn't mark, and it still marks what is wrong."""
    validator = Draft202012Validator(json_schema())
    shop = json.loads(json.dumps(yaml.safe_load(SHOP.read_text())))
    for timeout, store, valid in (
        ("${env:TIMEOUT:-2s}", "redis://${env:REDIS}/0", True),
        ("2s", "${file:store}", True),
        ("soon", "memory", False),
        ("2s", "$env:STORE", False),
    ):
        shop["upstreams"]["users"]["timeout"], shop["store"] = timeout, store
        assert validator.is_valid(shop) is valid, (timeout, store)


@given(st.floats(0.001, 9e8), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_durations(number: float, unit: str) -> None:
    """A number and a unit; three decimals are kept."""
    text = f"{number:.3f}{unit}"
    if float(text.rstrip("mshd")) > 0:
        assert units.duration(text) == pytest.approx(
            float(f"{number:.3f}") * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
        )


@pytest.mark.parametrize("value", ["", "5", "5 s", "-5s", "0s", "1e3s", "s", 5, None, True])
def test_no_durations(value: object) -> None:
    """Everything else is refused with what was expected."""
    with pytest.raises(ValueError, match="expected a duration"):
        units.duration(value)


def test_sizes() -> None:
    """Powers of two, by name."""
    assert [units.size(t) for t in ("512B", "64KiB", "1MiB", "2GiB")] == [
        512,
        65_536,
        1_048_576,
        2_147_483_648,
    ]
    for value in ("1MB", "1", 1, None, "0B"):
        with pytest.raises(ValueError, match="expected a size"):
            units.size(value)


IDLE = """
version: 1
listener: {address: "127.0.0.1:8080"%s}
upstreams: {echo: {endpoints: ["http://127.0.0.1:2"]}}
authentication: {a: {%s}}
%s
routes: [{name: r, match: {path: /r}, upstream: echo, authentication: [a]}]
"""
KEYED = 'jwt: {issuer: "https://id", audiences: [x], secret: "q7Vd0Zp2mXc4Rk9sYw1LtB6nHg3JfA8e"%s}'
ASKED = "introspection: {url: '%s', client_id: c, client_secret: s}"
TLS = ", tls: {certificate: c.pem, private_key: k.pem}"
FOUND = "jwt: {issuer: '%s', audiences: [x], discovery: true}"


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ((TLS, "mtls: {}", ""), "7:71: routes[0].authentication: wants client certificates"),
        (
            (TLS, KEYED % ", proof: certificate", ""),
            "7:71: routes[0].authentication: wants client certificates",
        ),
        (("", FOUND % "not a url", ""), "5:27: authentication.a.jwt: has the issuer 'not a url'"),
        (("", FOUND % "https://id:99999", ""), "5:27: authentication.a.jwt: has the issuer"),
        (("", ASKED % "http://[::1/x", ""), "5:43: authentication.a.introspection.url: is "),
        (("", ASKED % "http://a:99999/x", ""), "5:43: authentication.a.introspection.url: is "),
        (("", ASKED % "http://a:0/x", ""), "5:43: authentication.a.introspection.url: is "),
        (("", ASKED % "http://:80/x", ""), "5:43: authentication.a.introspection.url: is "),
        (
            ("", KEYED % ", header: X-Key", "identity: {headers: {x.key: a}}"),
            "6:29: identity.headers.x.key: is where a looks for a credential, expected another",
        ),
        (
            ("", KEYED % "", "identity: {assertion: {header: Authorization, key: k.pem}}"),
            "6:32: identity.assertion.header: can't carry identity, expected another header",
        ),
        (
            ("", KEYED % "", """policies: {p: {rules: [{name: r, allow: '"a".matches("(")'}]}}"""),
            '6:42: policies.p.rules[0].allow: matches by "(", which is no regular expression',
        ),
    ],
)
def test_what_can_never_work_is_refused(
    tmp_path: Path, parts: tuple[str, str, str], told: str
) -> None:
    """Before the first request finds out."""
    for name in ("c.pem", "k.pem"):
        written(tmp_path, "", name)
    found = troubles(written(tmp_path, IDLE % parts))
    assert any(told in line for line in found), found


@pytest.mark.parametrize("url", ["http://[::1]:80/x", "https://id.example", "http://a:65535/x?y"])
def test_urls_that_can_be_asked(tmp_path: Path, url: str) -> None:
    """An address, a name, the last port."""
    assert loaded(tmp_path, IDLE % ("", ASKED % url, ""))


SECURED = """version: 1
listener:
  address: 127.0.0.1:8443
  tls:
    certificate: a.crt
    private_key: a.key
    client_ca: ca.crt
    sni: [{hosts: [b.example], certificate: b.crt, private_key: b.key}]
upstreams: {up: {endpoints: ["https://up"], tls: {ca: up.crt}}}
routes: [{name: r, match: {path: /r}, upstream: up, authentication: none}]
"""


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("a.crt", "5:18: listener.tls.certificate: holds no certificate that can be read"),
        ("a.key", "6:18: listener.tls.private_key: holds no private key that can be read"),
        ("ca.crt", "7:16: listener.tls.client_ca: holds no certificate that can be read"),
        ("b.crt", "8:45: listener.tls.sni[0].certificate: holds no certificate that can be read"),
        ("b.key", "8:65: listener.tls.sni[0].private_key: holds no private key that can be read"),
        ("up.crt", "9:55: upstreams.up.tls.ca: holds no certificate that can be read"),
    ],
)
def test_files_of_tls_that_can_not_be_used(tmp_path: Path, file: str, told: str) -> None:
    """They are named before Envoy refuses them, which says so in its log alone."""
    one, other = made("one"), made("other")
    keys = {"a.key": one.key_pem, "b.key": other.key_pem}
    pairs = {"a.crt": one.pem, "b.crt": other.pem, "ca.crt": one.pem, "up.crt": one.pem}
    for name, text in (keys | pairs).items():
        written(tmp_path, text, name)
    assert loaded(tmp_path, SECURED)
    wrong = [("", told), ("text", told)]
    if file in keys:
        owner = told.partition(": holds")[0]
        wrong += [
            (one.pem, told),
            (made("third").key_pem, f"{owner}: isn't the key of the certificate"),
            (_encrypted(one), told),
        ]
    for text, said in wrong:
        written(tmp_path, text, file)
        [found] = troubles(tmp_path / "gateway.yaml")
        assert said in found


def _encrypted(one: Made) -> str:
    return one.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    ).decode()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("cookie: sid", "the cookie sid, expected a cookie for each"),
        ("query: token", "the parameter token, expected a parameter for each"),
        ("header: x-token", "one header, expected a header for each"),
    ],
)
def test_of_one_place_two_credentials_are_never_demanded(
    place: str, said: str, tmp_path: Path
) -> None:
    """There is one credential in it, and that of either would do for both."""
    jwt = f"audiences: [shop], discovery: true, {place}"
    one, other = (f"{{jwt: {{issuer: 'https://{name}.test', {jwt}}}}}" for name in "ab")
    text = GOOD.replace("authentication:\n", f"authentication:\n  a: {one}\n  b: {other}\n", 1)
    path = written(tmp_path, text.replace("{authentication: [shop]}", "{authentication: [a, b]}"))
    assemble(load(path, {}))
    text = text.replace("{authentication: [shop]}", "{authentication: {all: [a, b]}}")
    [trouble] = troubles(written(tmp_path, text))
    assert trouble.endswith(f"demands two credentials of {said}")


def test_none_stands_alone(tmp_path: Path) -> None:
    """Whoever writes it into a list is told so, and not of a name that looks like it."""
    text = GOOD.replace("{authentication: [shop]}", "{authentication: [shop, none]}")
    [trouble] = troubles(written(tmp_path, text))
    assert "is none in a list, expected `none` alone, or `anonymous` where" in trouble


def test_a_header_that_no_request_can_have(tmp_path: Path) -> None:
    """Envoy refuses names with `_`, so no credential would ever be in it."""
    text = GOOD.replace("discovery: true", "discovery: true, header: x_token")
    [warning] = map(str, assemble(load(written(tmp_path, text), {})).warnings)
    assert "authentication.shop: looks in x_token, and requests with `_` in a header" in warning


def test_a_route_sets_no_header_that_tells_who_is_calling(tmp_path: Path) -> None:
    """Identity would be set after it, or taken off: what the route says would be lost."""
    text = GOOD.replace("defaults:", "identity: {headers: {x-user: a}}\ndefaults:")
    text += "    request: {headers: {set: {X-User: root}}}\n"
    [trouble] = troubles(written(tmp_path, text))
    assert "set.x-user: is one that tells who is calling, expected another header" in trouble


@pytest.mark.parametrize(
    ("key", "address"),
    [("address", "localhost:8080"), ("address", "1.2.3.4.5:80"), ("redirect", "shop.example:80")],
)
def test_a_listener_is_at_an_ip_address(key: str, address: str, tmp_path: Path) -> None:
    """Envoy binds no name: it would refuse the listener, long after the file was found good."""
    line = 'listener: {address: "127.0.0.1:8080"'
    text = GOOD.replace(line, f'listener: {{{key}: "{address}"')
    found = f"gateway.yaml:3:{14 + len(key)}: listener.{key}: is '{address}', expected an IP"
    assert any(line.startswith(found) for line in troubles(written(tmp_path, text)))
    loaded(tmp_path, GOOD.replace("127.0.0.1:8080", "[::1]:8080"))
    loaded(tmp_path, 'admin: {address: "localhost:9900"}\n' + GOOD)


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        ("redis://:s3cret@cache:abc/0", "has no port that is a number"),
        ("redis://:s3cret@cache:6379/abc", "names a database that is no number"),
        ("redis://:s3cret@/0", "names no host"),
        ("redis://:s3cret#1@cache:6379/0", "holds `#`"),
        ("redis://:s3cret@cache?socket_timeout=x", "has a parameter that isn't known"),
        ("redis://:s3cret@cache?ssl_ca_certs=/etc/hosts", "has a parameter that isn't known"),
        ("redis://:s3cret@cache?db=x", "has `db` that is no number"),
        ("rediss://:s3cret@cache?ssl_ca_certs=s3cret", "has `ssl_ca_certs` that names no file"),
        ("rediss://:s3cret@cache?ssl_ca_certs=/s3cret", "has `ssl_ca_certs` that names no file"),
        ("reds://:s3cret@cache:6379/0", "is no URL of Redis"),
        ("unix:///", "names no socket"),
    ],
)
def test_a_store_that_could_never_be_used(store: str, problem: str, tmp_path: Path) -> None:
    """It is told when the file loads, and no part of the address, as a password may be in it."""
    (found,) = troubles(written(tmp_path, f"store: {json.dumps(store)}\n{GOOD}"))
    assert found.startswith(f"gateway.yaml:1:8: store: {problem}, expected ")
    assert "s3cret" not in found


@pytest.mark.parametrize(
    "store",
    [
        "memory",
        "redis://cache",
        "redis://user:pa%23ss@cache:6379/3",
        "rediss://[::1]:6379?db=2&ssl_cert_reqs=none",
        "rediss://cache?ssl_ca_certs=/etc/hosts",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_stores(store: str, tmp_path: Path) -> None:
    """What may be said."""
    assert loaded(tmp_path, f"store: {json.dumps(store)}\n{GOOD}").gateway.store == store
