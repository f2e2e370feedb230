"""Every public function says what it takes and what it gives, in hints, as its docstring does in words."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def public_functions(tree):
    """Public functions, methods of public classes, and their constructors, with their qualified names."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and (method.name == '__init__' or method.name[0] != '_'):
                    yield f'{node.name}.{method.name}', method
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith('_'):
            yield node.name, node


def missing_hints(function):
    """Names of the arguments without a hint, and `return`; what `*args` and `**kwargs` pass on is said elsewhere."""
    arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    missing = [item.arg for item in arguments if item.annotation is None and item.arg not in ('self', 'cls')]
    return missing + (['return'] if function.returns is None else [])


def check(folders):
    """Lines on what is missing, and of each package the share of public functions with all hints."""
    lines, all_of, hinted = [], Counter(), Counter()
    for path in sorted(path for folder in folders for path in folder.rglob('*.py')):
        parts = path.relative_to(ROOT if path.is_relative_to(ROOT) else folders[0]).parts
        package = '/'.join(parts[: 2 if len(parts) > 2 else 1])
        for name, function in public_functions(ast.parse(path.read_text(encoding='utf-8'))):
            missing = missing_hints(function)
            all_of[package] += 1
            hinted[package] += not missing
            if missing:
                lines.append(f'{"/".join(parts)}:{function.lineno} {name}: {", ".join(missing)}')
    return lines, {package: f'{hinted[package] / count:.0%} of {count}' for package, count in all_of.items()}


def test_public_functions_have_hints():
    missing, shares = check([ROOT / 'csrm_plugin', ROOT / 'tools'])
    assert len(shares) > 10
    assert not missing, '\n'.join([f'{package}: {share}' for package, share in shares.items()] + missing)


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('def f(a: int, *b, c: str = "", **d) -> None: ...', []),
        ('def f(a, *, b, c: int): ...', ['m.py:1 f: a, b, return']),
        ('def _f(a): ...', []),
        ('class _A:\n    def f(self, a): ...', []),
        ('class A:\n    def f(self): ...\n    def _g(self, a): ...', ['m.py:2 A.f: return']),
        ('class A:\n    def __init__(self, a) -> None: ...\n    def __len__(self): ...', ['m.py:2 A.__init__: a']),
        ('class A:\n    @classmethod\n    def f(cls, a: int) -> "A": ...', []),
        ('def f() -> int:\n    def g(a): ...', []),
    ],
)
def test_what_counts(tmp_path, text, found):
    (tmp_path / 'm.py').write_text(text)
    assert check([tmp_path])[0] == found
