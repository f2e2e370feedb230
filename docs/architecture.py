"""Which package imports which, read from the code, and the picture of it in docs/architecture.md.

The order of the packages stands in pyproject.toml (``tool.csrm_plugin.architecture``); the sentences in the picture are
the first lines of the packages' docstrings. ``tests/test_architecture.py`` holds the code to that order, and fails
while the picture is not that of the code. Nothing of the package is imported here.

Examples:
    python docs/architecture.py           # draw docs/architecture.svg again
    python docs/architecture.py --check   # say what is against the order
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import tomllib

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = 'csrm_plugin'
PICTURE = Path(__file__).with_suffix('.svg')

#: Places outside the package that may import all of it.
TOOLS = 'tools'

#: Module or package -> those it imports.
Graph = dict[str, set[str]]


class Import(NamedTuple):
    """One import of a module of this project.

    Attributes:
        module (str): Who imports, such as ``csrm_plugin.datasets.synthetic``; a package stands for its ``__init__``.
        target (str): What is imported: a module or package of the project.
        line (int): Where, from 1.
        inside (bool): Whether within a function, where it happens when that is called.
        relative (bool): Whether it is written with dots.
    """

    module: str
    target: str
    line: int
    inside: bool
    relative: bool


def read_rules(root: Path = ROOT) -> dict:
    """What pyproject.toml says: ``layers`` (list of str, from the bottom up) and ``separate`` (list of str)."""
    with open(root / 'pyproject.toml', 'rb') as file:
        return tomllib.load(file)['tool'][PACKAGE]['architecture']


def find_modules(root: Path = ROOT) -> dict[str, Path]:
    """File of each module below ``csrm_plugin/`` and ``tools/``, by its dotted name."""
    modules = {}
    for path in sorted(path for folder in (PACKAGE, TOOLS) for path in (root / folder).rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        modules['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return modules


def find_imports(root: Path = ROOT) -> list[Import]:
    """All imports among the modules of the project, in files, then lines; those within functions too."""
    modules = find_modules(root)
    found = []
    for module, path in modules.items():
        package = module if path.name == '__init__.py' else module.rpartition('.')[0]
        for node, inside in _walk(ast.parse(path.read_text(encoding='utf-8'))):
            relative = getattr(node, 'level', 0) > 0
            targets = sorted({target for name in _names(node, package) if (target := _resolve(name, modules))})
            found += [Import(module, target, node.lineno, inside, relative) for target in targets]
    return sorted(found)


def _walk(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All nodes below ``node``, and whether they are within a function."""
    for child in ast.iter_child_nodes(node):
        yield child, inside
        yield from _walk(child, inside or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def _names(node: ast.AST, package: str) -> list[str]:
    """Dotted names that a statement of a module in ``package`` imports; `import_module('a.b')` counts as well."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = package.split('.')[: len(package.split('.')) - node.level + 1] if node.level else []
        origin = '.'.join([*base, *([node.module] if node.module else [])])
        return [f'{origin}.{alias.name}' for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, 'id', None)
        return [str(node.args[0].value)] if called in ('import_module', '__import__') else []
    return []


def _resolve(name: str, modules: dict[str, Path]) -> str | None:
    """The module that ``name`` is or is in; None if it is not of the project."""
    while name and name not in modules:
        name = name.rpartition('.')[0]
    return name or None


def layer_of(module: str) -> str:
    """The layer that a module belongs to: a package or module right below ``csrm_plugin``, or ``tools``.

    The package's own ``__init__``, which registers all, belongs to none: an empty string.
    """
    top, _, rest = module.partition('.')
    return rest.partition('.')[0] if top == PACKAGE else top


def room_of(module: str, modules: dict[str, Path]) -> str:
    """The innermost package that a module is in."""
    return module if modules[module].name == '__init__.py' else module.rpartition('.')[0]


def find_upward(imports: Iterable[Import], layers: list[str]) -> list[Import]:
    """The imports of a layer above the importer's own, of the package as a whole, and of a tool."""
    height = {layer: index for index, layer in enumerate(layers)}
    upward = []
    for item in imports:
        own, other = layer_of(item.module), layer_of(item.target)
        if TOOLS in (own, other):  # programs, which nobody imports, themselves not either
            wrong = other == TOOLS
        elif own == '':  # registers everything
            wrong = False
        else:
            wrong = own not in height or other not in height or height[other] > height[own]
        if wrong:
            upward.append(item)
    return upward


def module_graph(imports: Iterable[Import]) -> Graph:
    """Module -> modules that it imports."""
    graph = {}
    for item in imports:
        graph.setdefault(item.module, set()).add(item.target)
    return graph


def room_graph(imports: Iterable[Import], modules: dict[str, Path]) -> Graph:
    """Package -> packages that it imports, each package without those inside it.

    A package and what is inside it are one house: they may know each other, as long as no modules import in a circle.
    """
    graph = {}
    for item in imports:
        own, other = room_of(item.module, modules), room_of(item.target, modules)
        one_house = f'{own}.'.startswith(f'{other}.') or f'{other}.'.startswith(f'{own}.')
        if not one_house:
            graph.setdefault(own, set()).add(other)
    return graph


def find_circle(graph: Graph) -> list[str] | None:
    """One circle as a list whose last entry is its first, or None."""
    done, path = set(), []

    def visit(node: str) -> list[str] | None:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return None
        path.append(node)
        for other in sorted(graph.get(node, ())):
            if circle := visit(other):
                return circle
        path.pop()
        done.add(node)
        return None

    return next((circle for node in sorted(graph) if (circle := visit(node))), None)


def reachable(graph: Graph, start: str) -> set[str]:
    """All that ``start`` imports, directly or through others."""
    seen, waiting = set(), [start]
    while waiting:
        new = graph.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen


def count_imports(imports: Iterable[Import]) -> dict[tuple[str, str], int]:
    """For two layers: how many modules of the first import from the second."""
    pairs = {(item.module, layer_of(item.target)) for item in imports}
    counts: dict[tuple[str, str], int] = {}
    for module, other in sorted(pairs):
        counts[layer_of(module), other] = counts.get((layer_of(module), other), 0) + 1
    return counts


def first_sentence(path: Path) -> str:
    """First line of a module's docstring, without the full stop; empty where there is none."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    return text.partition('\n')[0].rstrip('.')


_CELL, _TOP, _LEFT, _WIDTH = 28, 76, 118, 1010
_STYLE = 'font-family="Helvetica, Arial, sans-serif"'


def draw(root: Path = ROOT) -> str:
    """The picture as SVG: a triangle in which a row imports its columns, and what each package holds."""
    layers, modules = [*read_rules(root)['layers'], TOOLS], find_modules(root)
    counts = count_imports(find_imports(root))
    most = max((count for (own, other), count in counts.items() if own != other), default=1)
    height = _TOP + _CELL * len(layers) + 14
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 26, 'Who imports whom', 17, weight='bold'),
        _text(
            12,
            48,
            'Row by row: in how many of its files a package imports from the package of that column (the one whose '
            'black square stands above).',
        ),
        _text(12, 65, 'Nothing stands right of the diagonal: no package imports from one further down this list.'),
    ]
    for row, layer in enumerate(layers):
        top = _TOP + row * _CELL
        middle = top + _CELL // 2 + 4
        parts.append(_text(_LEFT - 8, middle, layer, weight='bold', anchor='end'))
        for column, other in enumerate(layers):
            count = counts.get((layer, other), 0)
            if column < row:
                parts.append(_cell(column, top, _shade(count, most)))
            elif column > row and count:  # upwards: must not be
                parts.append(_cell(column, top, '#f87171'))
            if column != row and count:
                centre = _LEFT + column * _CELL + _CELL // 2
                parts.append(_text(centre, middle, str(count), 12, anchor='middle'))
        parts.append(_cell(row, top, '#1f2937'))
        path = modules.get(f'{PACKAGE}.{layer}')
        sentence = first_sentence(path) if path else 'The commands: parse arguments, call the package'
        parts.append(_text(_LEFT + (row + 1) * _CELL + 8, middle, sentence, 12, colour='#4b5563'))
    return '\n'.join([*parts, '</svg>', ''])


def _text(
    x: int, y: int, text: str, size: int = 13, weight: str = 'normal', anchor: str = 'start', colour: str = '#111827'
) -> str:
    return (
        f'<text x="{x}" y="{y}" {_STYLE} font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def _cell(column: int, top: int, colour: str) -> str:
    left, side = _LEFT + column * _CELL + 1, _CELL - 2
    return f'<rect x="{left}" y="{top + 1}" width="{side}" height="{side}" rx="3" fill="{colour}"/>'


def _shade(count: int, most: int) -> str:
    """White-blue for none, deeper with more; text on it stays legible."""
    if not count:
        return '#f3f4f6'
    share = (count / most) ** 0.5
    red, green, blue = (round(light + share * (deep - light)) for light, deep in ((224, 96), (236, 165), (252, 250)))
    return f'#{red:02x}{green:02x}{blue:02x}'


def find_problems(root: Path = ROOT) -> list[str]:
    """One line for each import that goes against the order, for a circle, and for a picture that is out of date."""
    imports, modules, rules = find_imports(root), find_modules(root), read_rules(root)
    problems = [
        f'{modules[item.module].relative_to(root)}:{item.line}: {item.module} must not import {item.target}'
        for item in find_upward(imports, rules['layers'])
    ]
    for what, graph in (('packages', room_graph(imports, modules)), ('modules', module_graph(imports))):
        if circle := find_circle(graph):
            problems.append(f'{what} import in a circle: {" -> ".join(circle)}')
    picture = root / PICTURE.relative_to(ROOT)
    if not picture.is_file() or picture.read_text(encoding='utf-8') != draw(root):
        problems.append(f'{PICTURE.relative_to(ROOT)} is not that of the code: `python docs/architecture.py` renews it')
    return problems


def main(arguments: list[str]) -> int:
    """Draw the picture, or check."""
    if arguments == ['--check']:
        problems = find_problems()
        print('\n'.join(problems or ['The order of the packages holds.']))
        return 1 if problems else 0
    if arguments:
        print('error: the only argument is --check', file=sys.stderr)
        return 2
    PICTURE.write_text(draw(), encoding='utf-8')
    print(f'Wrote {PICTURE.relative_to(ROOT)}')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
