"""A user's plugin: found by `module:Class` or `file.py:Class`, its fields validated."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
import typing
import weakref
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from extproc.config.errors import ConfigError, Trouble
from extproc.config.source import Key, below
from extproc.config.translate import translated
from extproc.core.near import near
from extproc.core.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from extproc.config.load import Loaded
    from extproc.config.schema.routes import OwnPlugin

_HOOKS = {
    name: tuple(inspect.signature(hook).parameters)
    for name, hook in vars(Plugin).items()
    if name.startswith("on_")
}
"""Each hook with the names of what it takes, `self` included."""


def make(loaded: Loaded, own: OwnPlugin, key: Key) -> Plugin:
    """Import a plugin's class and make it with its configuration.

    Raises:
        ConfigError: it can't be imported, is no plugin, or its configuration doesn't fit.
    """
    source, _, name = own.use.rpartition(":")
    module = _module(loaded, source, (*key, "use"))
    kind = getattr(module, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        problem = f"names {name}, which isn't a class made from extproc.Plugin"
        raise ConfigError([loaded.trouble((*key, "use"), problem)])
    if wrong := [*_wrong_hooks(kind)]:
        raise ConfigError([loaded.trouble((*key, "use"), *one) for one in wrong])
    return kind(**_configuration(loaded, kind, own.configuration, (*key, "with")))


def idle(loaded: Loaded, plugin: Plugin, key: Key) -> list[Trouble]:
    """Return a warning of a plugin without a hook: it does nothing."""
    kind = type(plugin)
    if any(map(kind.overrides, _HOOKS)):
        return []
    problem = f"names {kind.__name__}, which has no hook, so it does nothing"
    return [loaded.trouble((*key, "use"), problem, f"expected one of {', '.join(_HOOKS)}")]


def _wrong_hooks(kind: type[Plugin]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a plugin's hooks, and what was expected: it wouldn't run."""
    for name in sorted(set(dir(kind)) - set(dir(Plugin))):
        if name.startswith("on_"):
            yield f"names {kind.__name__}, whose {name} is no hook", near(name, _HOOKS)
    for hook, takes in _HOOKS.items():
        if kind.overrides(hook) and not _takes(inspect.getattr_static(kind, hook), len(takes)):
            expected = f"expected {hook}({', '.join(takes)})"
            yield f"names {kind.__name__}, whose {hook} takes something else", expected


def _takes(hook: object, many: int) -> bool:
    """Say whether a hook can be called with so many arguments; what is no function isn't known."""
    if not inspect.isfunction(hook):
        return True
    try:
        inspect.signature(hook).bind(*range(many))
    except TypeError:
        return False
    return True


def _module(loaded: Loaded, source: str, key: Key) -> ModuleType:
    try:
        if not source.endswith(".py"):
            return importlib.import_module(source)
        return _from_file(loaded, source)
    # What a module raises while it is imported is no wish of who runs the gateway.
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        problem = f"can't be imported: {type(error).__name__}: {error}{_line(error, source)}"
        raise ConfigError([loaded.trouble(key, problem)]) from error


def _line(error: BaseException, source: str) -> str:
    """Return in which line of the file it was raised; a mistake of syntax says so itself."""
    trace, line = error.__traceback__, 0
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code.co_filename == source else line
        trace = trace.tb_next
    return f" ({source}, line {line})" if line else ""


def _from_file(loaded: Loaded, source: str) -> ModuleType:
    """Import a file under a name of this version, so that an old version keeps its own code."""
    path = below(loaded.folder, source)
    where = str(path.relative_to(loaded.folder.resolve())).encode()
    # Files in two folders may have one name.
    name = f"extproc_plugin_{loaded.version}_{hashlib.sha256(where).hexdigest()[:8]}_{path.stem}"
    if name in sys.modules:
        return _kept(sys.modules[name], loaded)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # By the name in the gateway file, which is what who reads a log knows: this may be a copy.
    code = compile(path.read_bytes(), source, "exec", dont_inherit=True)
    sys.modules[name] = module
    try:
        exec(code, vars(module))  # noqa: S102 - it is the operator's own
    except BaseException:
        del sys.modules[name]
        raise
    return _kept(module, loaded)


def _kept(module: ModuleType, loaded: Loaded) -> ModuleType:
    """Have a module found by its name for as long as there is a version that was made of it.

    Longer than that, each reload would leave behind whatever a plugin's file holds.
    """
    users: list[weakref.ref[Loaded]] = vars(module).setdefault("__versions__", [])
    users.append(weakref.ref(loaded))
    weakref.finalize(loaded, _forget_unused, module.__name__).atexit = False
    return module


def _forget_unused(name: str) -> None:
    module = sys.modules.get(name)
    if module is not None and all(user() is None for user in vars(module)["__versions__"]):
        del sys.modules[name]


def _configuration(
    loaded: Loaded, kind: type[Plugin], values: dict[str, Any], key: Key
) -> dict[str, Any]:
    model = _model(kind)
    try:
        checked = model.model_validate(values)
    except ValidationError as error:
        troubles = translated(error, model, values, loaded.positions.below(key))
        raise ConfigError(troubles) from error
    return {name: getattr(checked, name) for name in model.model_fields}


def _model(kind: type[Plugin]) -> type[BaseModel]:
    """Make a model of a plugin's fields, for its errors; plugins themselves stay plain classes."""
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # __init_subclass__ made it one
        default = ... if field.default is dataclasses.MISSING else field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        fields[field.name] = (hints[field.name], default)
    configuration = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(kind.__name__, __config__=configuration, **fields)
