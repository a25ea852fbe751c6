"""Which code takes part in a piece of work: a digest of every definition that it reaches, by name.

A training must not be taken for done when the code that made it was changed since. Starting from functions
and classes, the names in each definition are followed through the imports of this package: what is reached
takes part, nothing else does. Comments, docstrings and layout do not count. What was changed in the running
process counts too: a function that a notebook cell replaced, an entry that it added to a registry.
"""

import ast
import builtins
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
from dataclasses import dataclass, field, is_dataclass
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
_KEEPERS = {_PACKAGE} | {
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
    {str(Path(path).resolve()) for path in (*sysconfig.get_paths().values(), *site.getsitepackages()) if path}
)


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
    return {m: ", ".join(f"{n} {found[m][n]}" for n in sorted(found[m])) for m in sorted(found)}


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

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(
        default_factory=dict
    )  # name -> (module, its name there)
    always: list[ast.stmt] = field(default_factory=list)
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

    def follow(self) -> None:
        while self._left:
            module, name = self._left.pop()
            read = self._enter(module)
            if read is None:
                self.found[(module, name)] = _ELSEWHERE
            elif read.compiled:
                self.found[(module, name)] = read.compiled
            elif name in read.definitions:
                nodes = [self._chosen(module, name, node) for node in read.definitions[name]]
                text = "".join(map(normalised, nodes)) + self._changed_since_import(module, name, read)
                self.found[(module, name)] = _digest(text)
                for node in nodes:
                    self._references(module, read, node)
            else:
                self.found[(module, name)] = _ELSEWHERE
                self._resolve(module, read, [name])

    def _read(self, module: str) -> _Module | None:
        if module not in self._modules:
            self._modules[module] = _read(module)
        return self._modules[module]

    def _enter(self, module: str) -> _Module | None:
        """Read a module; what it does when it is imported takes part with any of its definitions."""
        read = self._read(module)
        if read is not None and module not in self._entered:
            self._entered.add(module)
            _refuse_edited(module)
            if read.always:
                self.found[(module, "(on import)")] = _digest("".join(map(normalised, read.always)))
                for node in read.always:
                    self._references(module, read, node)
        return read

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
        for chain in _names(node):
            self._resolve(module, read, chain)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Import):  # perhaps only for what it registers
                for alias in inner.names:
                    if (there := self._read(alias.name)) is not None and alias.name not in _KEEPERS:
                        for name, nodes in there.definitions.items():
                            if any(getattr(n, "decorator_list", None) for n in nodes):
                                self.reach(alias.name, name)

    def _resolve(self, module: str, read: _Module, chain: Sequence[str]) -> None:
        """Reach what ``a.b.c`` names in a module; of a module that is handed on as it is, everything."""
        name, *rest = chain
        if name in read.definitions:
            self.reach(module, name)
            return
        if name in read.imports:
            source, attribute = read.imports[name]
            if _holds(live := vars(sys.modules.get(module, builtins)).get(name), _is_mains):
                self.found[(module, name)] = _digest(self._fingerprint(live))
            if (there := self._read(source)) is None:
                return  # of a library
            if attribute is not None:
                exported = there.imports.get(attribute) not in (None, (source, attribute))
                if attribute != "*" and attribute not in there.definitions and not exported:
                    source, attribute = f"{source}.{attribute}", None  # from package import module
        elif (
            self._read(f"{module}.{name}") is not None
        ):  # a module of the package that was imported elsewhere
            source, attribute = f"{module}.{name}", None
        else:
            return
        while attribute is None and rest and self._read(f"{source}.{rest[0]}") is not None:
            source, rest = f"{source}.{rest[0]}", rest[1:]
        if attribute is None and rest:
            attribute = rest[0]
        if attribute not in (None, "*"):
            self.reach(source, attribute)
        elif (there := self._read(source)) is not None and source != _PACKAGE:
            for every in there.definitions:
                self.reach(source, every)

    # --- what differs from the source in this process ---

    def _changed_since_import(self, module: str, name: str, read: "_Module") -> str:
        """Fingerprint of what the name means now, where that is not what the source says; else empty."""
        loaded = sys.modules.get(module)
        if loaded is None or name not in vars(loaded):
            return ""
        live, node = vars(loaded)[name], read.definitions[name][-1]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            plain = _behind(live)
            if (getattr(plain, "__module__", None), getattr(plain, "__name__", None)) != (module, name):
                return self._fingerprint(live) if _is_ours(plain) or _holds(live, _is_mains) else ""
            changed = "".join(map(self._fingerprint, _set_anew(node, plain)))
        elif isinstance(value := getattr(node, "value", None), ast.Dict) and isinstance(live, dict):
            changed = self._entries_set_anew(value, live, vars(loaded), (module, name) in _CHOSEN_BY_NAME)
        else:
            written, known = _literal(value)
            same = not known or (type(live) is type(written) and live == written)
            changed = self._fingerprint(live) if not same or _holds(live) else ""
        if changed:
            _refuse_edited(module, name)
        return changed

    def _entries_set_anew(self, written: ast.Dict, live: dict, names: dict, by_name: bool) -> str:
        """Fingerprints of the entries of a registry that are not those of the source."""
        entries = {k.value: v for k, v in zip(written.keys, written.values) if isinstance(k, ast.Constant)}
        cache = not written.keys  # filled while the process runs
        chosen = [key for key in live if by_name and key in self.named] or list(live)
        changed = ""
        for key in chosen:
            entry, node = live[key], entries.get(key)
            if isinstance(node, ast.Name) and names.get(node.id) is entry:
                continue
            value, known = _literal(node)
            if known and type(value) is type(entry) and value == entry:
                continue
            computed = cache or isinstance(node, (ast.Lambda, ast.Call)) or None in written.keys
            if not computed or _holds(entry) or (_is_ours(type(entry)) and is_dataclass(entry)):
                changed += f"{key}{self._fingerprint(entry)}"
        return changed

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
            return f"code({''.join(map(inner, (value.co_code, value.co_consts, value.co_names)))})"
        plain = _behind(value)
        if isinstance(plain, types.MethodType):
            return inner(plain.__self__) + inner(plain.__func__)
        if _is_ours(plain):
            self.reach(plain.__module__, plain.__qualname__.split(".")[0])
            return f"{plain.__module__}.{plain.__qualname__};"
        if _is_users(plain):
            return self._of_users(plain, inner)
        if isinstance(plain, types.ModuleType):
            return f"module:{plain.__name__};"
        if hasattr(plain, "__qualname__"):  # of a library, or compiled
            return f"{getattr(plain, '__module__', None)}.{plain.__qualname__};"
        return self._of_instance(plain, inner)

    def _of_users(self, value, inner: Callable[[object], str]) -> str:
        if isinstance(value, types.ModuleType):
            if not getattr(value, "__file__", None):
                return _OPAQUE
            file = Path(value.__file__)
            return (
                normalised(ast.parse(file.read_bytes())) if file.suffix == ".py" else inner(file.read_bytes())
            )
        if isinstance(value, type):
            own = sorted((k, v) for k, v in vars(value).items() if not _made_by_python(k))
            return f"class({inner(value.__bases__)}{''.join(k + inner(v) for k, v in own)})"
        code, used = value.__code__, value.__globals__
        constants = code.co_consts
        if value.__doc__ is not None and constants[:1] == (value.__doc__,):
            code = code.replace(co_consts=(None, *constants[1:]))
        used = [used[name] for name in sorted(_globals_of(code)) if name in used]
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return f"def({''.join(map(inner, (code, value.__defaults__, value.__kwdefaults__, cells, used)))})"

    def _of_instance(self, value, inner: Callable[[object], str]) -> str:
        text = inner(type(value))
        if isinstance(value, keras.Variable):
            return text + inner(np.asarray(value))
        if isinstance(value, keras.layers.Layer):
            return text + inner(value.get_config()) + inner(value.get_weights())
        if not (_is_users(type(value)) or _is_ours(type(value))):
            return text + (inner(value.get_config()) if hasattr(value, "get_config") else _OPAQUE)
        return text + (inner(vars(value)) if hasattr(value, "__dict__") else _OPAQUE)


_OPAQUE = "\0what stands here cannot be told from another\0"


def _digest(text: str) -> str:
    if _OPAQUE in text:
        return f"{UNREADABLE}{uuid.uuid4().hex[:8]}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _made_by_python(name: str) -> bool:
    """Whether an attribute of a class is none that its author wrote."""
    kept = ("__init__", "__call__", "__new__", "__post_init__")
    return name == "_abc_impl" or (name.startswith("__") and name.endswith("__") and name not in kept)


def _set_anew(node: ast.AST, live) -> Iterator[object]:
    """Defaults, methods and constants of a function or class that are not those of the source."""
    if isinstance(live, types.FunctionType):
        positional = node.args.defaults, live.__defaults__ or ()
        keywords = live.__kwdefaults__ or {}
        named = {a.arg: d for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults) if d is not None}
        pairs = [*zip(*positional), *((d, keywords.get(name)) for name, d in named.items())]
        if len(positional[0]) != len(positional[1]):
            yield positional[1]
        yield from (value for default, value in pairs if _is_other(default, value))
    if not isinstance(live, type):
        return
    members = {}
    for statement in node.body:
        members |= dict.fromkeys(_defined(statement), statement)
    for name, value in vars(live).items():
        plain, statement = _behind(value), members.get(name)
        if isinstance(plain, types.FunctionType):
            if _is_mains(plain):
                yield name, value
            elif isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield from _set_anew(statement, plain)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and _is_other(statement.value, value):
            yield name, value


def _literal(node) -> tuple[object, bool]:
    """(value, whether it is known) of what stands in the source."""
    try:
        return ast.literal_eval(node), node is not None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None, False


def _is_other(node, live) -> bool:
    value, known = _literal(node)
    return known and not (type(live) is type(value) and live == value)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


def _globals_of(code: types.CodeType) -> set[str]:
    """Global names that a function reads, and those inside it."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
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
    return inspect.unwrap(value) if callable(value) else value


def _is_ours(value) -> bool:
    module = getattr(value, "__module__", None)
    named = isinstance(value, (type, types.FunctionType)) and isinstance(module, str)
    return named and f"{module}.".startswith(f"{_PACKAGE}.") and "." in module


def _is_users(value) -> bool:
    """Whether a function, class or module is neither ours nor of a library."""
    if isinstance(value, types.ModuleType):
        name = value.__name__
    elif isinstance(value, (type, types.FunctionType)):
        name = value.__module__ or ""
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
    """Whether a function or class is of the notebook or script: only these replace what is in the package.

    What a module replaces there, a test or a profiler, watches and is no part of the work.
    """
    return isinstance(value, (type, types.FunctionType)) and value.__module__ == "__main__"


def _holds(value, wanted: Callable[[object], bool] = _is_users) -> bool:
    """Whether a user's code stands in a value, a partial, or a container of either."""
    value = _behind(value)
    if isinstance(value, partial):
        parts = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict):
        parts = value.values()
    elif isinstance(value, (list, tuple, set)):
        parts = value
    elif isinstance(value, (type, types.FunctionType)):
        return wanted(value)
    else:
        parts = vars(value).values() if _is_ours(type(value)) and hasattr(value, "__dict__") else ()
    return wanted(type(value)) or any(_holds(part, wanted) for part in parts)


# --- reading modules ---


@cache
def _place(root, module: str):
    """Where a module of the package lies, perhaps in a ZIP; ``None`` if nowhere. Nothing is imported."""
    package, *parts = module.split(".")
    if package != _PACKAGE:
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
    found = _Module()
    package = module if place.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.split(".")[0]
                found.imports[bound] = (alias.name if alias.asname else bound, None)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                base = package.rsplit(".", node.level - 1)[0]
                source = f"{base}.{source}".rstrip(".")
            for alias in node.names:
                found.imports[alias.asname or alias.name] = (source, alias.name)
    for node in tree.body:
        names = _defined(node)
        for name in names:
            found.definitions.setdefault(name, []).append(node)
        imports = isinstance(node, (ast.Import, ast.ImportFrom))
        if not names and not imports and not _is_text(node):
            found.always.append(node)
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _defined(node: ast.stmt) -> list[str]:
    """Names that a statement of a module defines; none if it also does something else."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        flat = [t for target in targets for t in getattr(target, "elts", [target])]
        return [t.id for t in flat] if all(isinstance(t, ast.Name) for t in flat) else []
    if isinstance(node, (ast.If, ast.Try, ast.With, ast.For)):
        inside = [
            n for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt) for n in _defined(child)
        ]
        for handler in getattr(node, "handlers", ()):
            inside += [n for child in handler.body for n in _defined(child)]
        return inside
    return []


@cache
def _names(node: ast.AST) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(map(tuple, _chains(node))))


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
    for child in ast.iter_child_nodes(inner if chain else node):
        yield from _chains(child)


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
