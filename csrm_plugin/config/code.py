"""Which modules of the project decide on a result, and a hash of what they do.

The modules are found without running anything: those of the classes that a config names, those that a tool imports,
and what these import in turn. A hash sees what code does, not how it is laid out or explained: comments, docstrings,
formatting, type hints of functions and help texts of arguments do not count.
"""

import ast
import functools
import hashlib
import inspect
import os
import os.path as osp
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from csrm_plugin.config.keys import find_classes

_PACKAGE = 'csrm_plugin'
_PACKAGE_FOLDER = osp.dirname(osp.dirname(osp.abspath(__file__)))

#: Packages and modules at which the search ends: what they find out is in a key by itself (the resolved config), or
#: they read, write, show or report without a part in any number.
WITHOUT_EFFECT = (
    'csrm_plugin.config',
    'csrm_plugin.engine.diagnosis',
    'csrm_plugin.engine.hooks.collapse_alarm_hook',
    'csrm_plugin.engine.training_watch',
    'csrm_plugin.inference.evaluate_labels.printing',
    'csrm_plugin.inference.finished',
    'csrm_plugin.tracking',
    'csrm_plugin.utils.cli',
    'csrm_plugin.utils.errors',
    'csrm_plugin.utils.files',
    'csrm_plugin.utils.processes',
    'csrm_plugin.utils.progress',
    'csrm_plugin.utils.set_aside',
    'csrm_plugin.utils.spelling',
    'csrm_plugin.version',
    'csrm_plugin.visualization.curves',
)

#: Settings whose value is the name of something registered.
TYPE_KEYS = ('type', 'constructor', 'runner_type')

#: Arguments of calls that only tell people something.
_WORDS = ('help', 'metavar', 'epilog')


@dataclass(frozen=True)
class _Module:
    """What is read from one file.

    Attributes:
        digest (str): Hash of what it does.
        imports (tuple[tuple[str, str | None], ...]): Module and name that it imports; None for the module as a whole.
        given_on (dict[str, tuple[str, str]]): Names that it only passes on, with where it has them from.
        types (tuple[str, ...]): Registered names in dicts with a ``type``.
    """

    digest: str
    imports: tuple
    given_on: dict
    types: tuple


def code_hash(modules: Iterable[str] = (), files: Iterable[str] = ()) -> str:
    """SHA-256, in hex, over what some modules and files do, and everything of this package that they import.

    Args:
        modules (Iterable[str]): What :func:`modules_of_settings` gives: names of modules of this package, and files.
        files (Iterable[str]): Python files outside of the package, such as ``tools/train.py``; they count by their
            names, not by where they lie.

    Raises:
        ValueError: If there is no such module.
    """
    modules = set(modules)
    own = {name for name in modules if name.endswith('.py')}
    files = sorted({*files, *own}, key=osp.basename)
    entries = [(osp.basename(path), _read(path).digest) for path in files]
    entries += [(name, _read(_path_of(name)).digest) for name in sorted(reached_modules(modules - own, files))]
    digest = hashlib.sha256()
    for name, found in entries:
        digest.update(f'{name}\0{found}\n'.encode())
    return digest.hexdigest()


def reached_modules(modules: Iterable[str] = (), files: Iterable[str] = ()) -> set[str]:
    """Modules of this package that are imported from some modules and files, themselves included.

    What a package imports from its parts to pass it on is followed to the part that defines it: who imports one
    function of ``csrm_plugin.functional`` does not depend on the others. Classes that are built by name are followed
    like those that are imported.

    Args:
        modules (Iterable[str]): Names of modules of this package.
        files (Iterable[str]): Paths of Python files outside.

    Raises:
        ValueError: If there is no such module.
    """
    todo = list(modules)
    for name in todo:
        if _path_of(name) is None:
            raise ValueError(f'there is no module `{name}`')
    for path in files:
        todo += _targets(_read(path))
    reached: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in reached and not _is_without_effect(name):
            reached.add(name)
            todo += _targets(_read(_path_of(name)))
    return reached


def modules_of_settings(settings: dict) -> set[str]:
    """Modules of the classes that flat settings name with ``type``: of this package, and files of the user's own.

    Args:
        settings (dict): As :func:`csrm_plugin.config.provenance.config_settings` gives them, that is without what
            changes no result.

    Returns:
        set[str]: Names of modules of this package; paths of files that belong to no installed package.
    """
    names = {
        value
        for key, value in settings.items()
        if isinstance(value, str) and key.rsplit('.', 1)[-1] in TYPE_KEYS and value
    }
    return {module for name in names for module in _modules_of_type(name)}


def _modules_of_type(name: str) -> set[str]:
    """Where everything registered as ``name`` is defined: modules of this package, files of the user's own."""
    if name.startswith(f'{_PACKAGE}.'):  # a class itself, written by its full name
        module = name.rpartition('.')[0]
        return {module} if _path_of(module) else set()
    found = set()
    for entry in find_classes(name):
        module = getattr(entry, '__module__', None) or ''
        if module.split('.')[0] == _PACKAGE:
            found.add(module)
        elif (path := _source_of(entry)) and not path.startswith(_installed_folders()):
            found.add(path)
    return found


def _source_of(entry) -> str | None:
    try:
        return osp.abspath(inspect.getsourcefile(entry))
    except TypeError:  # built in
        return None


@functools.cache
def _installed_folders() -> tuple[str, ...]:
    return tuple(osp.join(sysconfig.get_path(name), '') for name in ('purelib', 'platlib', 'stdlib', 'platstdlib'))


def _is_without_effect(name: str) -> bool:
    return any(name == stop or name.startswith(f'{stop}.') for stop in WITHOUT_EFFECT)


def _targets(module: _Module) -> list[str]:
    """The modules of this package that a module stands on."""
    found = [target for imported, name in module.imports for target in _defining(imported, name)]
    return found + [name for kind in module.types for name in _modules_of_type(kind) if not name.endswith('.py')]


def _defining(module: str, name: str | None) -> list[str]:
    """The module that defines ``name`` of ``module``, or ``module`` as a whole; an empty list if it is not there."""
    seen = set()
    while (module, name) not in seen:
        seen.add((module, name))
        if name is not None and _path_of(f'{module}.{name}'):
            module, name = f'{module}.{name}', None
        path = _path_of(module)
        if path is None or _is_without_effect(module):
            return []
        given_on = _read(path).given_on
        if name is None or name not in given_on:
            break
        module, name = given_on[name]
    return [module]


def _path_of(module: str) -> str | None:
    """The file of a module or package of ours; None if there is none."""
    parts = module.split('.')
    if parts[0] != _PACKAGE:
        return None
    base = osp.join(_PACKAGE_FOLDER, *parts[1:])
    return next((path for path in (f'{base}.py', osp.join(base, '__init__.py')) if osp.isfile(path)), None)


def _read(path: str) -> _Module:
    """Read a file, once in a process for each state of it."""
    status = os.stat(path)
    return _parse(path, status.st_mtime_ns, status.st_size)


@functools.cache
def _parse(path: str, *state: int) -> _Module:
    with open(path, encoding='utf-8') as file:
        tree = ast.parse(file.read(), path)
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            node.module, node.level = _absolute(path, node), 0
    given_on = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    digest = hashlib.sha256('\n'.join(_essence(tree)).encode()).hexdigest()
    return _Module(digest, tuple(dict.fromkeys(_imports(nodes))), given_on, tuple(sorted(set(_types(nodes)))))


def _absolute(path: str, node: ast.ImportFrom) -> str:
    """The module that a relative import names; outside of this package one that does not exist."""
    parts = [_PACKAGE, *osp.relpath(path, _PACKAGE_FOLDER).split(os.sep)]
    return '.'.join([*parts[: len(parts) - node.level], *filter(None, [node.module])])


def _imports(nodes: list[ast.AST]) -> Iterator[tuple[str, str | None]]:
    """What a file imports from this package; of a package that it only takes parts from, those parts."""
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [(alias.name, None, alias.asname) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or '', alias.name, alias.asname or alias.name) for alias in node.names]
        for module, name, known_as in names:
            if module.split('.')[0] != _PACKAGE:
                continue
            whole = module if name is None else f'{module}.{name}'
            path = _path_of(whole)
            parts = _parts_used(nodes, known_as) if path and osp.basename(path) == '__init__.py' else None
            if parts is None:
                yield module, None if name == '*' else name
            else:
                yield from ((whole, part) for part in parts)


def _parts_used(nodes: list[ast.AST], name: str | None) -> set[str] | None:
    """The attributes that a file takes from what it calls ``name``; None if it does something else with it."""
    if name is None:  # `import a.b`, without a name of its own
        return None
    taken, uses = set(), 0
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == name:
            taken.add(node.attr)
            uses -= 1
        if isinstance(node, ast.Name) and node.id == name:
            uses += 1
    return taken if uses == 0 else None


def _types(nodes: list[ast.AST]) -> Iterator[str]:
    """Names of registered classes in dicts that a file builds something from."""
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
        elif isinstance(node, ast.Dict):
            pairs = [(getattr(key, 'value', None), value) for key, value in zip(node.keys, node.values)]
        else:
            continue
        for key, value in pairs:
            if key == 'type' and isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def _essence(node: ast.AST) -> Iterator[str]:
    """What a syntax tree does, as lines: the same for every layout, and in every version of Python that reads it."""
    yield type(node).__name__
    for field, value in ast.iter_fields(node):
        if field in ('type_comment', 'kind', 'ctx', 'returns') or (field == 'annotation' and isinstance(node, ast.arg)):
            continue
        if value is None and not isinstance(node, ast.Constant):
            continue
        items = [item for item in value if not _is_words(item)] if isinstance(value, list) else [value]
        if not items:  # which lists there are differs between versions of Python
            continue
        yield f'.{field}'
        for item in items:
            if isinstance(item, ast.AST):
                yield from _essence(item)
            else:
                yield f'{type(item).__name__} {item!r}'
    yield 'end'


def _is_words(node) -> bool:
    """Whether a part of a syntax tree only tells people something."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return isinstance(node, ast.keyword) and node.arg in _WORDS
