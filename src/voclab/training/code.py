"""Which code takes part in a piece of work: a digest of every definition that it reaches, by name.

A training must not be taken for done when the code that made it was changed since. Starting from functions
and classes, the names in each definition are followed through the imports of this package: what is reached
takes part, nothing else does. Comments, docstrings and layout do not count. What was changed in the running
process counts too: a function that a notebook cell replaced, an entry that it added to a registry.
"""

import ast
import builtins
import copyreg
import dis
import hashlib
import importlib.resources
import inspect
import site
import sys
import sysconfig
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import Field, dataclass, field
from functools import cache, cached_property, partial, partialmethod
from importlib.metadata import PathDistribution
from pathlib import Path

import keras
import numpy as np

import voclab
from voclab.errors import VoclabError

_PACKAGE = voclab.__name__
_ROOT = importlib.resources.files(_PACKAGE)
# They keep and tell, and compute nothing: how they write is versioned by the format of the run folder.
_KEEPERS = {
    f"{_PACKAGE}.{name}"
    for name in (
        *("errors", "files", "revision", "terminal", "text"),
        *("training.run", "training.identity", "training.code"),
    )
}
# Registries of which a configuration names the entry: of these, the entries that it names take part.
_CHOSEN_BY_NAME = {
    (f"{_PACKAGE}.losses", "LOSSES"),
    (f"{_PACKAGE}.models.segmenters", "SEGMENTERS"),
}
UNREADABLE = "unreadable-"  # begins the digest of code that cannot be read; no two are alike
_ELSEWHERE = ""  # for a name that is only passed on, or of a library
_LIBRARIES = tuple(
    Path(path).resolve()
    for path in (
        *(sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")),
        *site.getsitepackages(),
        site.getusersitepackages(),
    )
)
# What looks names up while it runs: all that the module has may take part then.
_LOOKS_UP = {"globals", "eval", "exec", "modules", "import_module", "__import__", "__subclasses__"}
_CHANGE = {"append", "add", "update", "setdefault", "insert", "extend", "pop", "remove", "clear", "register"}
# Calls in the value of a constant that may be made again, to see whether it was set to another since.
_PURE = {"builtins", "collections", "functools", "itertools", "math", "numpy", "operator", "pathlib", "re"}
_PURE |= {_PACKAGE}
_IMPURE = {"open", "input", "exec", "eval", "print", "__import__", "breakpoint"}


def code_digest(*parts, named: Iterable[str] = ()) -> dict[str, str]:
    """What identifies the code that ``parts`` run, to be kept in the configuration of a run.

    Args:
        parts: functions and classes of this package or of the user; of a network, its layers.
        named: what the configuration says: of a registry such as ``LOSSES`` only the entries named count.

    Returns:
        Module -> ``"definition digest, definition digest"``, sorted. Code of the user stands under the name
        of the definition that leads to it, or under its own module. Code that cannot be read has another
        digest each time.

    Raises:
        VoclabError: a file was edited after this process imported it, so that what would run is not what is
            written there.
    """
    tracer = _Tracer(frozenset(named))
    try:
        for part in parts:
            tracer.start(part)
        tracer.follow()
    except VoclabError:
        raise
    except Exception as error:  # of a thing that nobody thought of: trained anew, which is said, is no harm
        reason = f"{type(error).__name__}: {error}".replace(",", ";")
        return {f"{_PACKAGE} and yours ({reason})": f"(all) {UNREADABLE}{uuid.uuid4()}"}
    found: dict[str, dict[str, str]] = {}
    for (module, name), value in tracer.found.items():
        if value != _ELSEWHERE:
            found.setdefault(module, {})[name] = value
    return {
        m if "." in m else f"{m}.__init__": ", ".join(f"{n} {found[m][n]}" for n in sorted(found[m]))
        for m in sorted(found)
    }


def fingerprint(value) -> str:
    """What stands for a function, class or instance in a configuration: its name and a digest of its code."""
    tracer = _Tracer(frozenset())
    text = tracer._fingerprint(value)
    tracer.follow()
    whole = text + "".join(f"{key}{tracer.found[key]}" for key in sorted(tracer.found))
    plain = _behind(value)
    name = getattr(plain, "__qualname__", None) or type(plain).__qualname__
    return f"{name} {_digest(whole)}"


@dataclass(frozen=True)
class _Module:
    """The top level of a module: what defines each name, what each import binds, what runs on import."""

    package: str = ""  # that its relative imports start from
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    # Name -> (module, its name there) of each import that binds it, in functions too.
    imports: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)  # what may be modules, on import
    compiled: str | None = None  # digest of a module that is there without its source


class _Tracer:
    """Follows names from definition to definition."""

    def __init__(self, named: frozenset[str]):
        self.named = named
        self.found: dict[tuple[str, str], str] = {}
        self._left: list[tuple[str, str]] = []
        self._entered: set[str] = set()
        self._modules: dict[str, _Module | None] = {}

    def start(self, part) -> None:
        if isinstance(part, keras.Model):
            for kind in {type(layer) for layer in part._flatten_layers()}:
                if _is_users(kind) or _is_ours(kind):
                    self.start(kind)
        elif _is_ours(part):
            self.reach(part.__module__, part.__qualname__.split(".")[0])
        else:
            self.found[(part.__module__, part.__qualname__)] = _digest(self._fingerprint(part))

    def reach(self, module: str, name: str) -> None:
        if module not in _KEEPERS and (module, name) not in self.found:
            self.found[(module, name)] = _ELSEWHERE
            self._left.append((module, name))

    def _reach_all(self, module: str) -> None:
        """What may take part of a module that is handed on as it is: everything that it defines."""
        if (read := self._read(module)) is not None and module != _PACKAGE:
            for name in read.definitions or ["(all)"]:
                self.reach(module, name)

    def follow(self) -> None:
        while self._left:
            module, name = self._left.pop()
            read = self._read(module)
            if read is None:
                continue
            _refuse_edited(module)
            self._enter(module)
            if read.compiled:
                self.found[(module, name)] = read.compiled
                continue
            if name in read.definitions:
                nodes = [self._chosen(module, name, node) for node in read.definitions[name]]
                text = "".join(map(normalised, nodes)) + self._changed_since_import(module, name, read)
                self.found[(module, name)] = _digest(text)
                for node in nodes:
                    self._references(module, read, node)
            if name not in read.definitions or name in read.imports:
                self._resolve(module, read, [name])

    def _read(self, module: str) -> _Module | None:
        if module not in self._modules:
            self._modules[module] = _read(module)
        return self._modules[module]

    def _enter(self, module: str) -> None:
        """What a module does when it is imported, and so do those that it imports, takes part."""
        if module in self._entered or module in _KEEPERS:
            return
        self._entered.add(module)
        read = self._read(module)
        if read is None or read.compiled:
            return
        if read.always:
            self.found[(module, "(on import)")] = _digest("".join(map(normalised, read.always)))
            for node in read.always:
                self._references(module, read, node)
        for other in (module.rpartition(".")[0], *read.imported):
            self._enter(other)

    def _chosen(self, module: str, name: str, node: ast.stmt) -> ast.AST:
        """Of a registry, the entries that the configuration names; all, if it names none."""
        value = getattr(node, "value", None)
        if (module, name) not in _CHOSEN_BY_NAME or not isinstance(value, ast.Dict):
            return node
        pairs = [
            (key, entry)
            for key, entry in zip(value.keys, value.values)
            if isinstance(key, ast.Constant) and key.value in self.named
        ]
        return ast.Dict(*map(list, zip(*pairs))) if pairs else node

    def _references(self, module: str, read: _Module, node: ast.AST) -> None:
        chains, imports, texts = _names(node)
        for chain in chains:
            self._resolve(module, read, chain)
        for statement in imports:
            for other in _imported(statement, read.package):
                self._enter(other)
        if any(_LOOKS_UP.intersection(chain) for chain in chains):
            self._reach_all(module)
            for name in read.imports:
                self._resolve(module, read, [name])
            for text in texts:
                for other in _modules_under(text):
                    self._reach_all(other)

    def _resolve(self, module: str, read: _Module, chain: Sequence[str]) -> None:
        """Reach what ``a.b.c`` names in a module; of a module that is handed on as it is, everything."""
        name, *rest = chain
        targets = read.imports.get(name, [])
        if name in read.definitions:
            self.reach(module, name)
        elif targets:
            self._rebound(module, name, targets)
        elif not name:
            return  # an attribute of what is computed
        elif self._read(f"{module}.{name}") is not None:  # of the package, and imported elsewhere
            targets = [(f"{module}.{name}", None)]
        else:
            stars = (source for source, _ in read.imports.get("*", []))
            targets = [(source, name) for source in stars if self._read(source) is not None]
        for source, attribute in targets:
            self._reach_import(source, attribute, rest)

    def _reach_import(self, source: str, attribute: str | None, rest: Sequence[str]) -> None:
        there = self._read(source)
        if there is None or attribute == "*":  # of a library; its names were looked for there
            return
        bound = set(there.imports.get(attribute, ())) - {(source, attribute)}
        if (
            not bound
            and attribute not in there.definitions
            and self._read(f"{source}.{attribute}") is not None
        ):
            source, attribute = f"{source}.{attribute}", None  # from package import module
        while attribute is None and rest and self._read(f"{source}.{rest[0]}") is not None:
            source, rest = f"{source}.{rest[0]}", rest[1:]
        if attribute is None and rest:
            attribute = rest[0]
        if attribute is None:
            self._reach_all(source)
        else:
            self.reach(source, attribute)

    # --- what differs from the source in this process ---

    def _rebound(self, module: str, name: str, targets: list[tuple[str, str | None]]) -> None:
        """A name that an import bound takes part itself where it was bound to something else since."""
        live = vars(sys.modules.get(module, builtins)).get(name, sys)
        if live is sys or _watches(live):
            return
        plain = _behind(live)
        for source, attribute in targets:
            home = sys.modules.get(source)
            wanted = home
            if attribute is not None:
                wanted = getattr(home, attribute, sys.modules.get(f"{source}.{attribute}"))
            # The home itself may have been set anew since, which takes part there.
            same = _is_ours(plain) and plain.__name__ == attribute
            if live is wanted or same or self._fingerprint(live) == self._fingerprint(wanted):
                return
        self.found[(module, name)] = _digest(self._fingerprint(live))

    def _changed_since_import(self, module: str, name: str, read: _Module) -> str:
        """Fingerprint of what the name means now, where that is not what the source says; else empty."""
        loaded = sys.modules.get(module)
        if loaded is None or name not in vars(loaded):
            return ""
        names, live, node = vars(loaded), vars(loaded)[name], read.definitions[name][-1]
        if isinstance(node, _DEFINITIONS):
            plain = _behind(live)
            if (_home(plain), getattr(plain, "__name__", None)) == (module, name):
                changed = "".join(map(self._fingerprint, _set_anew(node, plain, names)))
            else:
                return "" if _watches(live) else self._fingerprint(live)
        else:
            written, known = None, False
            if len(read.definitions[name]) == 1 and isinstance(_target(node), ast.Name):
                written, known = _written(node.value, names)
            changed = self._set_to(live, written, known, (module, name) in _CHOSEN_BY_NAME)
        if changed:
            _refuse_edited(module, name)
        return changed

    def _set_to(self, live, written, known: bool, by_name: bool) -> str:
        """Fingerprint of a constant that is not what is written; of a registry, of such entries."""
        filled = known and isinstance(written, (dict, list, set)) and not written  # while the process runs
        if not known or filled:
            return self._fingerprint(live) if _holds(live) else ""
        if isinstance(live, dict) and isinstance(written, dict):
            chosen = [key for key in live if by_name and key in self.named] or list(live)
            return "".join(
                f"{key!r}{self._fingerprint(live[key])}"
                for key in chosen
                if key not in written or self._fingerprint(live[key]) != self._fingerprint(written[key])
            )
        now = self._fingerprint(live)
        return now if now != self._fingerprint(written) else ""

    def _fingerprint(self, value, seen: tuple[int, ...] = ()) -> str:
        """What identifies a value of the user's: the code of functions with all that they refer to."""
        if value is None or value is ... or isinstance(value, (bool, int, float, complex, str, bytes, Path)):
            return f"{type(value).__name__}:{value!r};"
        if id(value) in seen:
            return "itself;"
        seen += (id(value),)

        def inner(found):
            return self._fingerprint(found, seen)

        if isinstance(value, (np.ndarray, np.generic)):
            array = np.asarray(value)
            if array.dtype.hasobject:
                return inner(array.tolist())
            return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()};"
        if isinstance(value, (list, tuple)):
            return f"{type(value).__name__}({''.join(map(inner, value))})"
        if isinstance(value, (set, frozenset)):
            return f"set({''.join(sorted(map(inner, value)))})"
        if isinstance(value, dict):
            return f"dict({''.join(inner(k) + inner(v) for k, v in value.items())})"
        if isinstance(value, (partial, partialmethod)):
            return f"partial({inner(value.func)}{inner(value.args)}{inner(value.keywords)})"
        if isinstance(value, types.CodeType):
            constants = value.co_consts
            if constants and isinstance(constants[0], str) and not value.co_name.startswith("<"):
                constants = constants[1:]  # the docstring
            parts = value.co_code, constants, value.co_names, value.co_varnames
            return f"code({''.join(map(inner, parts))})"
        plain = _behind(value)
        if isinstance(plain, types.MethodType):
            return inner(plain.__self__) + inner(plain.__func__)
        if _is_ours(plain):
            self.reach(plain.__module__, plain.__qualname__.split(".")[0])
            cells = [_content(cell) for cell in getattr(plain, "__closure__", None) or ()]
            return f"{plain.__module__}.{plain.__qualname__}{inner(cells) if cells else ''};"
        if _is_users(plain):
            return self._of_users(plain, inner)
        if isinstance(plain, types.ModuleType):
            self._reach_all(plain.__name__)
            return f"module:{plain.__name__};"
        if hasattr(plain, "__qualname__"):  # of a library, or compiled
            return f"{getattr(plain, '__module__', None)}.{plain.__qualname__};"
        return self._of_instance(plain, inner)

    def _of_users(self, value, inner: Callable[[object], str]) -> str:
        if isinstance(value, types.ModuleType):
            if not getattr(value, "__file__", None):
                return _OPAQUE
            file = Path(value.__file__)
            if file.suffix != ".py":
                return inner(file.read_bytes())
            others = [v for v in vars(value).values() if getattr(v, "__module__", None) != value.__name__]
            used = "".join(inner(v) for v in others if _is_users(v) or _is_ours(v))
            return normalised(ast.parse(file.read_bytes())) + used
        if isinstance(value, type):
            own = sorted((k, v) for k, v in vars(value).items() if k not in _MADE_BY_PYTHON)
            return f"class({inner(value.__bases__)}{''.join(k + inner(v) for k, v in own)})"
        names = _globals_of(value.__code__)
        used = [value.__globals__[name] for name in sorted(names) if name in value.__globals__]
        for name in sorted(names):  # imported inside; or voclab.losses, of which the code holds both parts
            self._reach_all(name)
            self._reach_all(f"{_PACKAGE}.{name}")
            if _is_users(module := sys.modules.get(name)):
                used.append(module)
        parts = value.__code__, value.__defaults__, value.__kwdefaults__
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return f"def({''.join(map(inner, (*parts, cells, used)))})"

    def _of_instance(self, value, inner: Callable[[object], str]) -> str:
        text = inner(type(value))
        if isinstance(value, keras.Variable):
            return text + inner(keras.ops.convert_to_numpy(value))
        if isinstance(value, keras.layers.Layer):
            return text + inner(value.get_config()) + inner(value.get_weights())
        if (_is_users(type(value)) or _is_ours(type(value))) and hasattr(value, "__dict__"):
            # Keras numbers the names of its objects as they are made.
            numbered = ("name", "_name") if isinstance(value, keras.losses.Loss) else ()
            return text + inner({k: v for k, v in vars(value).items() if k not in numbered})
        if hasattr(value, "get_config"):
            return text + inner(value.get_config())
        try:  # how a copy of it would be made
            reduce = copyreg.dispatch_table.get(type(value))
            made = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:
            return text + _OPAQUE
        parts = (made,) if isinstance(made, str) else (*made[:3], *map(list, filter(None, made[3:5])))
        return text + "".join(map(inner, parts))


_OPAQUE = "\0what stands here cannot be told from another\0"


def _digest(text: str) -> str:
    if _OPAQUE in text:
        return f"{UNREADABLE}{uuid.uuid4().hex[:8]}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


_MADE_BY_PYTHON = {
    *("__module__", "__qualname__", "__name__", "__doc__", "__dict__", "__weakref__", "__annotations__"),
    *("__firstlineno__", "__static_attributes__", "__hash__", "__orig_bases__", "__parameters__"),
    *("__abstractmethods__", "_abc_impl", "__dataclass_fields__", "__dataclass_params__", "__match_args__"),
}


def _set_anew(node: ast.AST, live, names: dict) -> Iterator[object]:
    """Defaults, methods and constants of a function or class that are not those of the source."""
    if isinstance(live, types.FunctionType):
        positional = node.args.defaults, live.__defaults__ or ()
        keywords = live.__kwdefaults__ or {}
        named = {a.arg: d for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults) if d is not None}
        pairs = [*zip(*positional), *((d, keywords.get(name)) for name, d in named.items())]
        if len(positional[0]) != len(positional[1]):
            yield positional[1]
        yield from (value for default, value in pairs if _is_other(default, value, names))
    if not isinstance(live, type):
        return
    members = {}
    for statement in node.body:
        members |= dict.fromkeys(_bound(statement), statement)
    for name, value in vars(live).items():
        plain, statement = _behind(value), members.get(name)
        if isinstance(statement, _DEFINITIONS):
            if getattr(plain, "__qualname__", None) == f"{live.__qualname__}.{name}" and _is_ours(plain):
                yield from _set_anew(statement, plain, names)
            elif not _watches(value):
                yield name, value
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)):
            if _is_other(statement.value, value, names):
                yield name, value
        elif _is_mains(plain) or (not name.startswith("_") and isinstance(value, (int, float, str, tuple))):
            yield name, value


def _written(node, names: dict) -> tuple[object, bool]:
    """(value, whether it is known) of an expression of the source, in the module's names of now."""
    if node is None or not all(map(partial(_may_be_made_again, names=names), ast.walk(node))):
        return None, False
    try:
        return eval(compile(ast.Expression(node), "<source>", "eval"), names), True
    except Exception:  # names of the class that it stands in, say
        return None, False


def _may_be_made_again(node: ast.AST, names: dict) -> bool:
    if not isinstance(node, ast.Call):
        return not isinstance(node, (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom))
    root = node.func
    while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        return True
    called = names.get(root.id, getattr(builtins, root.id, None))
    if not callable(called) and not isinstance(called, types.ModuleType):
        return True  # a method of data
    home = called.__name__ if isinstance(called, types.ModuleType) else getattr(called, "__module__", None)
    return str(home).split(".")[0] in _PURE and root.id not in _IMPURE


def _is_other(node, live, names: dict) -> bool:
    value, known = _written(node, names)
    if not known or live is value or isinstance(value, Field):
        return False
    return _Tracer(frozenset())._fingerprint(live) != _Tracer(frozenset())._fingerprint(value)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _globals_of(code: types.CodeType) -> set[str]:
    """Names of globals, modules and attributes that a function reads, and those inside it."""
    wanted = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_ATTR", "LOAD_METHOD", "IMPORT_NAME", "IMPORT_FROM")
    found = {i.argval for i in dis.get_instructions(code) if i.opname in wanted}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _globals_of(constant)
    return found


def _behind(value):
    """The function behind a method of any kind and behind what wraps it."""
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, cached_property):
        value = value.func
    value = getattr(value, "python_function", value)  # of tf.function
    return inspect.unwrap(value, stop=_is_mains) if callable(value) else value


def _home(value) -> str | None:
    """The module that a function or class was written in; ``functools.wraps`` says another."""
    if isinstance(value, types.FunctionType):
        return value.__globals__.get("__name__")
    return value.__module__ if isinstance(value, type) else None


def _is_ours(value) -> bool:
    return (_home(value) or "").startswith(f"{_PACKAGE}.")


def _is_users(value) -> bool:
    """Whether a function, class or module is neither ours nor of a library."""
    if isinstance(value, types.ModuleType):
        name = value.__name__
    elif isinstance(value, (type, types.FunctionType)):
        name = _home(value) or ""
    else:
        return False
    if f"{name}.".startswith(f"{_PACKAGE}.") or name in sys.builtin_module_names:
        return False
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if name == "__main__" or module is None or file is None:
        return name == "__main__" or module is None
    return not _is_librarys(file)


@cache
def _is_librarys(file: str) -> bool:
    """Whether a file came with Python or was installed, also where ``pip --user`` and ``--target`` put it."""
    place = Path(file).resolve()
    if any(place.is_relative_to(library) for library in _LIBRARIES):
        return True
    folders = {Path(entry).resolve() for entry in sys.path} & set(place.parents)
    return any(place.relative_to(folder).parts[0] in _installed(folder) for folder in folders)


@cache
def _installed(folder: Path) -> frozenset[str]:
    """Names of the packages that an installer put into a folder, in which files of the user may lie too."""
    distributions = map(PathDistribution, folder.glob("*.dist-info"))
    return frozenset(file.parts[0] for found in distributions for file in found.files or ())


def _is_mains(value) -> bool:
    """Whether a function or class is of the notebook or script."""
    return _home(value) == "__main__"


def _watches(value) -> bool:
    """Whether what replaced something in the package, a test or a profiler, is no part of the work.

    What a notebook or script puts there is, and so is what is taken from the package or from a library.
    """
    plain = _behind(value)
    kind = plain if isinstance(plain, (type, types.FunctionType)) else type(plain)
    return _is_users(kind) and not _is_mains(kind)


def _holds(value) -> bool:
    """Whether a user's code stands in a value, a partial, or a container of either."""
    value = _behind(value)
    if isinstance(value, partial):
        parts = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif isinstance(value, (type, types.FunctionType)):
        return _is_users(value)
    else:
        parts = vars(value).values() if _is_ours(type(value)) and hasattr(value, "__dict__") else ()
    return _is_users(type(value)) or any(map(_holds, parts))


# --- reading modules ---


@cache
def _place(root, module: str):
    """Where a module of the package lies, perhaps in a ZIP; ``None`` if nowhere. Nothing is imported."""
    package, *parts = module.split(".")
    if package != _PACKAGE or not all(parts):
        return None
    place = root
    for part in parts:
        last, place = place, place / part
    for suffix in (".py", ".pyc"):
        if parts and (last / f"{parts[-1]}{suffix}").is_file():
            return last / f"{parts[-1]}{suffix}"
        if (place / f"__init__{suffix}").is_file():
            return place / f"__init__{suffix}"
    return None


def _read(module: str) -> _Module | None:
    """The top level of a module of the package; ``None`` if there is none of that name."""
    place = _place(_ROOT, module)
    if place is None:
        return None
    status = place.stat() if isinstance(place, Path) else None
    return _parsed(module, place, status and (status.st_mtime_ns, status.st_size))


@cache
def _parsed(module: str, place, stamp) -> _Module:
    data = place.read_bytes()
    if place.name.endswith(".pyc"):
        return _Module(compiled=hashlib.sha256(data[16:]).hexdigest()[:8])
    tree = ast.parse(data)
    found = _Module(package=module if place.name == "__init__.py" else module.rpartition(".")[0])
    for node in ast.walk(tree):
        for bound, source, attribute in _bindings(node, found.package):
            found.imports.setdefault(bound, []).append((source, attribute))
    for node in tree.body:
        for name in _bound(node):
            found.definitions.setdefault(name, []).append(node)
    hooked = any(getattr(node, "name", None) == "__init_subclass__" for node in ast.walk(tree))
    for node in tree.body:
        if _acts(node, found) or (hooked and isinstance(node, ast.ClassDef)):
            found.always.append(node)
        for inner in _inside(node):
            found.imported.extend(_imported(inner, found.package))
    return found


def _modules_under(text: str) -> Iterator[str]:
    """The modules of the package that a text names, or begins to name."""
    package = text.rpartition(".")[0]
    if _read(text) is not None:
        yield text
    elif text.startswith(f"{_PACKAGE}.") and (place := _place(_ROOT, package)) is not None:
        for file in place.parent.iterdir():
            yield f"{package}.{file.name.partition('.')[0]}"


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _bindings(node: ast.AST, package: str) -> Iterator[tuple[str, str, str | None]]:
    """(name, module, its name there) for each name that an import statement binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.split(".")[0]
            yield alias.asname or first, alias.name if alias.asname else first, None
    elif isinstance(node, ast.ImportFrom):
        source = node.module or ""
        if node.level:
            source = f"{package.rsplit('.', node.level - 1)[0]}.{source}".rstrip(".")
        for alias in node.names:
            yield alias.asname or alias.name, source, alias.name


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    """What may be modules of those that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    for _, source, attribute in _bindings(node, package):
        yield from (source, f"{source}.{attribute}")


def _inside(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what is in it, but for what is inside functions and classes."""
    yield node
    if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from _inside(child)


def _bound(node: ast.stmt) -> list[str]:
    """Names that a statement defines, other than by imports."""
    inside = list(_inside(node))
    names = [n.name for n in inside if isinstance(n, _DEFINITIONS)]
    names += [n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return list(dict.fromkeys(names))


def _target(node: ast.stmt):
    """What a simple assignment assigns to; ``None`` if it is none."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        return node.targets[0]
    return node.target if isinstance(node, ast.AnnAssign) else None


def _acts(node: ast.stmt, read: _Module) -> bool:
    """Whether a statement of a module may do more than define what it names: then it takes part on import."""

    def ours(expression) -> bool:
        while isinstance(expression, (ast.Attribute, ast.Call, ast.Subscript)):
            expression = expression.func if isinstance(expression, ast.Call) else expression.value
        name = expression.id if isinstance(expression, ast.Name) else None
        sources = (source for source, _ in read.imports.get(name, []))
        return name in read.definitions or any(f"{source}.".startswith(f"{_PACKAGE}.") for source in sources)

    if isinstance(node, _DEFINITIONS):
        metaclasses = (keyword.value for keyword in getattr(node, "keywords", ()))
        return any(map(ours, (*node.decorator_list, *metaclasses)))
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return False
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        targets = getattr(node, "targets", None) or [node.target]
        methods = (n.func for n in ast.walk(node) if isinstance(n, ast.Call))
        methods = (m for m in methods if getattr(m, "attr", None) in _CHANGE)
        stored = (n for target in targets for n in ast.walk(target))
        return any(isinstance(n, (ast.Attribute, ast.Subscript)) for n in stored) or any(map(ours, methods))
    return True


@cache
def _names(node: ast.AST) -> tuple[list[tuple[str, ...]], list[ast.stmt], list[str]]:
    """What a definition refers to: names with their attributes, imports inside, texts."""
    inside = list(ast.walk(node))
    return (
        list(dict.fromkeys(map(tuple, _chains(node)))),
        [n for n in inside if isinstance(n, (ast.Import, ast.ImportFrom))],
        [n.value for n in inside if isinstance(n, ast.Constant) and isinstance(n.value, str)],
    )


def _chains(node: ast.AST) -> Iterator[list[str]]:
    """``["a", "b"]`` for each ``a.b`` below a node, the longest only."""
    chain: list[str] = []
    inner = node
    while isinstance(inner, ast.Attribute):
        chain.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name):
        yield [inner.id, *chain]
        return
    if chain:
        yield ["", *chain]  # of what is computed
    for child in ast.iter_child_nodes(inner):
        yield from _chains(child)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def normalised(node: ast.AST) -> str:
    """A tree as text that comments, docstrings, layout and the version of Python do not change."""
    pieces: list[str] = []
    _write(node, pieces.append)
    return "".join(pieces)


_SKIPPED = {"ctx", "kind", "type_comment", "type_ignores", "lineno"}


def _write(node, out: Callable[[str], None]) -> None:
    if isinstance(node, ast.AST):
        out(f"({type(node).__name__}")
        for name in node._fields:
            value = getattr(node, name, None)
            # Fields that one version of Python lacks are empty in the others.
            if name in _SKIPPED or value is None or value == []:
                continue
            if name == "body" and isinstance(value, list) and _is_text(value[0]):
                value = value[1:]
            if isinstance(node, ast.JoinedStr):  # Python 3.12 puts empty pieces in
                value = [v for v in value if getattr(v, "value", None) != ""]
            out(f" {name}=")
            _write(value, out)
        out(")")
    elif isinstance(node, list):
        for entry in node:
            _write(entry, out)
    else:
        out(repr(node))


# --- files edited while they are in use ---


def _refuse_edited(module: str, changed: str | None = None) -> None:
    """Refuse to go on with code that is not what its file says: people edit, run again, and wonder."""
    loaded = sys.modules.get(module)
    path = Path(getattr(loaded, "__file__", None) or "")
    if path.suffix != ".py" or not path.is_file():
        return
    status = path.stat()
    if max(status.st_mtime, status.st_ctime) <= voclab.IMPORTED_AT:
        return
    changed = changed or _differing(loaded, compile(path.read_bytes(), str(path), "exec"))
    if changed:
        raise VoclabError(
            f"{path} was edited ({changed}) after this process had imported it; restart the kernel or the"
            " command, so that what runs is what is written."
        )


def _differing(loaded: types.ModuleType, code: types.CodeType) -> str | None:
    """The first function of a file whose code is not that of the module loaded from it."""
    for constant in code.co_consts:
        if not isinstance(constant, types.CodeType):
            continue
        live = vars(loaded).get(constant.co_name)
        pairs = [(constant.co_name, _behind(live), constant)]
        if isinstance(live, type):
            inside = [c for c in constant.co_consts if isinstance(c, types.CodeType)]
            pairs = [
                (f"{constant.co_name}.{c.co_name}", _behind(vars(live).get(c.co_name)), c) for c in inside
            ]
        for name, function, written in pairs:
            own = getattr(function, "__code__", None)
            if own is not None and own.co_filename == code.co_filename and _bare(own) != _bare(written):
                return name
    return None


def _bare(code: types.CodeType) -> tuple:
    constants = tuple(_bare(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames
