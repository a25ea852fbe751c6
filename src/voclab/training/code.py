"""The code that a run depends on: digests of the modules of voclab that it reaches, and of the user's code.

Every module that the functions named reach by imports takes part, used or not: a run made again for nothing
costs time, one that is read back wrongly costs a result. Comments, docstrings and layout do not count. What a
notebook has put into the loaded modules does: functions, constants, entries of registries.
"""

import ast
import hashlib
import importlib.resources
import pickle
import site
import sys
import sysconfig
import types
import uuid
from collections.abc import Iterable, Iterator
from functools import cache, cached_property, partial
from importlib import import_module
from importlib.util import resolve_name
from pathlib import Path

import keras
import numpy as np

import voclab
from voclab.errors import VoclabError

_ROOT = importlib.resources.files("voclab")
# They show, tell and keep, and no result depends on them. How a run is kept is versioned by its format.
_LEFT_OUT = {"app", "cli", "errors", "files", "kaggle", "options", "plotting", "reporting", "revision",
             "terminal", "text", "training.code", "training.identity", "training.store"}  # fmt: skip
_BY_NAME = {"BACKBONES", "LOSSES", "SEGMENTERS", "ZOO"}  # registries of which only the entries named count
_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
              *site.getsitepackages(), site.getusersitepackages())  # fmt: skip
_WRAPPERS = {staticmethod: "__func__", classmethod: "__func__", property: "fget", cached_property: "func"}
_OF_A_CLASS = {"__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "_abc_impl",
               "__firstlineno__", "__static_attributes__"}  # fmt: skip
UNREADABLE = "unreadable-"  # begins the digest of what cannot be read; no two are alike
_YOURS, _OPAQUE = "\0yours:", "\0opaque"  # in the text of a value: code of the user, something unreadable


def code_digest(*parts, named: Iterable[str] = ()) -> dict[str, str]:
    """What identifies the code that ``parts`` run, to be kept in the configuration of a run.

    Args:
        parts: functions and classes of voclab or of the user; networks, for their layers.
        named: what the settings name; of registries such as ``LOSSES`` only these entries count.

    Returns:
        Name of a module of voclab, or of something of the user's -> digest.

    Raises:
        VoclabError: a file was edited after this process imported it.
    """
    tracer = _Tracer(set(named))
    try:
        for part in parts:
            tracer.start(part)
        tracer.follow()
    except VoclabError:
        raise
    except Exception as error:  # anything may stand in a notebook, and to train again is no harm
        return {f"voclab or yours ({type(error).__name__}: {error})": _digest(_OPAQUE)}
    return dict(sorted(tracer.found.items()))


def fingerprint(value) -> str:
    """What stands for a function, class or instance in a configuration: its name and a digest of its code."""
    tracer = _Tracer(set())
    text = tracer.text(value)
    tracer.follow()
    name = getattr(value, "__qualname__", type(value).__qualname__)
    return f"{name} {_digest(text + str(sorted(tracer.found.items())))}"


class _Tracer:
    def __init__(self, named: set[str]):
        self.named, self.found = named, {}
        self._left: list[str] = []

    def start(self, part) -> None:
        if isinstance(part, keras.Model):
            kinds = {type(layer) for layer in part._flatten_layers()}
            for kind in kinds:
                if _is_ours(_home(kind)) or _is_users(_home(kind)):
                    self.start(kind)
        elif _is_ours(_home(part)):
            self._reach(_home(part))
        else:
            name = getattr(part, "__qualname__", type(part).__qualname__)
            self.found[f"{_home(part)}.{name}"] = _digest(self.text(part))

    def _reach(self, module: str) -> None:
        _, *parts = module.split(".")
        left_out = not parts or any(".".join(parts[:k]) in _LEFT_OUT for k in (1, 2))
        if not left_out and module not in self.found:
            self.found[module] = ""
            self._left.append(module)

    def follow(self) -> None:
        while self._left:
            module = self._left.pop()
            place = _place(module)
            parsed = _parsed(place.read_bytes(), module, place.name) if place else (_OPAQUE, (), ())
            text, imports, names = parsed
            for name in imports:
                if _is_ours(name) and _place(name):
                    self._reach(name)
            if live := _loaded(module):
                _refuse_edited(live)
                there = {name: vars(live)[name] for name in names if name in vars(live)}
                for name, value in self._members(module, there):
                    now = self.text(value)
                    if _YOURS in now:
                        self.found[f"{module}.{name}"] = _digest(now)
                    else:
                        text += f"{name}={now}"
            self.found[module] = _digest(text)

    def _members(self, module: str, there: dict[str, object]) -> Iterator[tuple[str, object]]:
        """What a module's names mean now. Those of variables are left out, which change as a program runs."""
        for name, value in there.items():
            if isinstance(value, (type, types.FunctionType)) and (
                _is_ours(_home(value)) or _is_users(_home(value))
            ):
                yield name, value
                if isinstance(value, type) and _home(value) == module:
                    for key, member in sorted(vars(value).items()):
                        plain = isinstance(
                            _behind(member), (types.FunctionType, bool, int, float, str, tuple)
                        )
                        if plain and (key in ("__init__", "__call__") or not key.startswith("__")):
                            yield f"{name}.{key}", member
            elif name.isupper() and isinstance(value, dict):
                for key, entry in sorted(value.items(), key=str):
                    if name not in _BY_NAME or key in self.named:
                        yield f"{name}[{key!r}]", entry
            elif name.isupper() and not isinstance(value, Path):  # which differs between machines
                yield name, value

    def text(self, value, above: tuple[int, ...] = ()) -> str:
        """A value as text, the same in every process; functions of the user with all that they refer to."""
        value = _behind(value)
        if value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes)):
            return f"{value!r};"
        if id(value) in above:
            return "itself;"
        inner = partial(self.text, above=(*above, id(value)))
        home = _home(value)
        if isinstance(value, (list, tuple, set, frozenset, dict)):
            parts = [*map(inner, value.items() if isinstance(value, dict) else value)]
            parts = parts if isinstance(value, (list, tuple)) else sorted(parts)
            return f"{type(value).__name__}({''.join(parts)})"
        if isinstance(value, partial):
            return inner((value.func, value.args, value.keywords))
        if isinstance(value, types.MethodType):
            return inner((value.__self__, value.__func__))
        if isinstance(value, types.CodeType):
            return f"{value.co_code!r}{inner(value.co_consts)}{value.co_names}"
        if _is_ours(home):
            self._reach(home)
        elif _is_users(home):
            return _YOURS + self._users(value, inner)
        if home or isinstance(value, types.BuiltinFunctionType):  # versions of libraries are kept apart
            return f"{getattr(value, '__qualname__', home)};"
        return self._instance(value, inner)

    def _users(self, value, inner) -> str:
        if isinstance(value, types.ModuleType):
            used = [v for v in vars(value).values() if _home(v) != value.__name__ and _is_users(_home(v))]
            return f"{Path(value.__file__).read_bytes()!r}{inner(used)}"
        if isinstance(value, type):
            own = sorted((k, v) for k, v in vars(value).items() if k not in _OF_A_CLASS)
            return inner((value.__bases__, own))
        code = value.__code__
        names = sorted({name for each in _codes(code) for name in each.co_names})
        if value.__doc__ and code.co_consts[:1] == (value.__doc__,):
            code = code.replace(co_consts=(None, *code.co_consts[1:]))
        used = [value.__globals__[name] for name in names if name in value.__globals__]
        cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
        return inner((code, value.__defaults__, value.__kwdefaults__, cells, used))

    def _instance(self, value, inner) -> str:
        kind, home = type(value), type(value).__module__
        if isinstance(value, keras.layers.Layer):
            return inner((kind, value.get_config(), [weight.tobytes() for weight in value.get_weights()]))
        if (_is_ours(home) or _is_users(home)) and hasattr(value, "__dict__"):
            return inner((kind, vars(value)))
        if isinstance(value, keras.Variable):
            value = np.asarray(value)
        try:
            return inner(
                (kind, value.get_config() if hasattr(value, "get_config") else pickle.dumps(value, 4))
            )
        except Exception:  # each kind has its own errors for what cannot be pickled
            return _OPAQUE


def _digest(text: str) -> str:
    if _OPAQUE in text:
        return UNREADABLE + uuid.uuid4().hex[:8]
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _behind(value):
    """The function in a method of any kind, or in a ``tf.function``."""
    return getattr(value, _WRAPPERS.get(type(value), "python_function"), value)


def _home(value) -> str:
    """The module that defines a function, class or module; nothing for other values."""
    if isinstance(value, types.FunctionType):
        return value.__globals__.get("__name__") or ""  # unlike __module__, no decorator copies it
    if isinstance(value, types.ModuleType):
        return value.__name__
    return value.__module__ if isinstance(value, type) else ""


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == "voclab"


def _is_users(module: str) -> bool:
    """Whether a module is a notebook's or the user's own rather than voclab's, Python's or installed."""
    if module == "__main__":
        return True
    if not module or _is_ours(module) or module.split(".")[0] in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is None or not _is_installed(file)


@cache
def _is_installed(file: str) -> bool:
    """Whether a file came with Python or was installed: pip leaves a ``.dist-info``, also ``--target``."""
    # As named too: an environment may borrow packages by links.
    parents = {*Path(file).absolute().parents, *Path(file).resolve().parents}
    if any({Path(library), Path(library).resolve()} & parents for library in _LIBRARIES):
        return True
    folders = {Path(entry).resolve() for entry in sys.path} & parents
    return any(next(folder.glob("*.dist-info"), None) for folder in folders)


def _loaded(module: str) -> types.ModuleType | None:
    """The module, imported if it was not yet: a digest must not depend on what a process used before."""
    try:
        return import_module(module)
    except ImportError:  # it needs a library that is not here, so it takes no part here
        return None


def _place(module: str):
    """The source file of a module of voclab, perhaps in a ZIP; ``None`` where there is none."""
    _, *folders = module.split(".")
    package = _ROOT.joinpath(*folders, "__init__.py")
    file = _ROOT.joinpath(*folders[:-1], f"{folders[-1]}.py") if folders else package
    return next((place for place in (file, package) if place.is_file()), None)


@cache
def _parsed(source: bytes, module: str, file: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The normalised source of a module, what it imports anywhere in it, and the names that it defines."""
    tree = ast.parse(source)
    package = module if file == "__init__.py" else module.rpartition(".")[0]
    imports = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package)
            imports += [base, *(f"{base}.{alias.name}" for alias in node.names)]  # a module, or a name in it
    names = compile(tree, file, "exec").co_names
    return normalised(tree), tuple(dict.fromkeys(imports)), tuple(sorted(names))


def normalised(node) -> str:
    """A tree as text that comments, docstrings, layout and the version of Python do not change."""
    if isinstance(node, list):
        return "".join(map(normalised, node))
    if not isinstance(node, ast.AST):
        return repr(node)
    text = f"({type(node).__name__}"
    for name in node._fields:
        value = getattr(node, name, None)
        # What one version of Python lacks is empty in the others.
        if name in ("ctx", "kind", "type_comment", "type_ignores") or value is None or value == []:
            continue
        if name == "body" and isinstance(value, list) and isinstance(value[0], ast.Expr):
            value = value[isinstance(value[0].value, ast.Constant) :]
        if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty pieces in
            value = [piece for piece in value if getattr(piece, "value", None) != ""]
        text += f" {name}={normalised(value)}"
    return f"{text})"


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _refuse_edited(live: types.ModuleType) -> None:
    """Refuse to go on with code that is not what its file says: people edit, run again, and wonder."""
    path = Path(getattr(live, "__file__", None) or "")
    if not path.is_file() or max(path.stat().st_mtime, path.stat().st_ctime) <= voclab.IMPORTED_AT:
        return

    def bare(code: types.CodeType) -> tuple:
        constants = tuple((type(c), c) for c in code.co_consts if not isinstance(c, types.CodeType))
        return code.co_qualname, code.co_code, code.co_names, constants

    written = set(map(bare, _codes(compile(path.read_bytes(), str(path), "exec"))))
    inside = [
        value for kind in vars(live).values() if isinstance(kind, type) for value in vars(kind).values()
    ]
    for value in map(_behind, [*vars(live).values(), *inside]):
        code = getattr(value, "__code__", None)
        if isinstance(code, types.CodeType) and code.co_filename == str(path) and bare(code) not in written:
            raise VoclabError(
                f"{path} was edited ({code.co_qualname}) after this process had imported it; restart the"
                " kernel or the command, so that what runs is what is written."
            )
