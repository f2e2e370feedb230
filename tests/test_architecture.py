"""The order of the packages, as pyproject.toml has it, holds; docs/architecture.py reads it from the code."""

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load():
    spec = importlib.util.spec_from_file_location('architecture', ROOT / 'docs' / 'architecture.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


architecture = load()


@pytest.fixture(scope='module')
def rules():
    return architecture.read_rules()


@pytest.fixture(scope='module')
def modules():
    return architecture.find_modules()


@pytest.fixture(scope='module')
def imports():
    return architecture.find_imports()


def shown(items):
    return [f'{item.module}, line {item.line}, imports {item.target}' for item in items]


def test_the_scanner_sees_the_project(modules, imports):
    assert len(modules) > 100 and len(imports) > 300
    assert {'csrm_plugin', 'csrm_plugin.functional.cam', 'tools.train'} <= modules.keys()
    assert ('csrm_plugin.evaluation.confusion', 'csrm_plugin.utils') in {item[:2] for item in imports}


def test_every_package_has_its_place_in_the_order(rules, modules):
    found = {architecture.layer_of(module) for module in modules} - {'', architecture.TOOLS}
    assert sorted(rules['layers']) == sorted(found)


def test_no_package_imports_upwards(rules, imports):
    assert shown(architecture.find_upward(imports, rules['layers'])) == []


def test_no_circle_between_packages(modules, imports):
    assert architecture.find_circle(architecture.room_graph(imports, modules)) is None


def test_no_circle_between_modules_at_their_start(imports):
    started = [item for item in imports if not item.inside]
    assert architecture.find_circle(architecture.module_graph(started)) is None


def test_no_import_within_a_function_hides_a_circle(imports):
    assert architecture.find_circle(architecture.module_graph(imports)) is None


def test_methods_do_not_import_each_other(rules, modules, imports):
    graph = architecture.module_graph(imports)
    names = {name: {module for module in modules if _belongs(module, name)} for name in rules['separate']}
    assert all(names.values())
    for name, own in names.items():
        others = set().union(*(found for other, found in names.items() if other != name))
        for module in own:
            assert architecture.reachable(graph, module) & others == set(), module


def _belongs(module, name):
    return module.startswith('csrm_plugin.models.') and re.match(rf'{name}(_|$)', module.rpartition('.')[2])


def test_imports_are_absolute(imports):
    assert shown(item for item in imports if item.relative) == []


def test_the_formatter_is_never_told_to_look_away():
    """`fmt: off` and its kin leave two layouts side by side."""
    told = re.compile(r'#\s*(fmt:\s*(skip|off)|yapf:)')
    listed = subprocess.run(['git', 'ls-files', '*.py'], cwd=ROOT, capture_output=True, text=True).stdout.split()
    paths = [ROOT / name for name in listed] or sorted(
        path for folder in ('csrm_plugin', 'tools', 'tests', 'mmcfg') for path in (ROOT / folder).rglob('*.py')
    )
    assert [str(path) for path in paths if path.is_file() and told.search(path.read_text(encoding='utf-8'))] == []


def test_the_uncertain_label_goes_by_its_name():
    """255 as a label is `IGNORE_INDEX`; bare it is a grey level."""
    paths = [path for path in (ROOT / 'csrm_plugin').rglob('*.py') if path.name != 'labels.py']
    assert [f'{path.relative_to(ROOT)}:{line}' for path in paths for line in bare_labels(path.read_text())] == []


def bare_labels(text):
    """Lines where 255 is compared with, is an index, fills an array, or gets a name."""
    found = []
    for node in ast.walk(ast.parse(text)):
        name = getattr(node.func, 'attr', '') if isinstance(node, ast.Call) else ''
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.Subscript):
            parts = list(ast.walk(node.slice))
        elif name in ('full', 'full_like', 'new_full', 'where', 'masked_fill', 'masked_fill_'):
            parts = node.args
        elif isinstance(node, ast.Assign) and all(isinstance(target, ast.Name) for target in node.targets):
            parts = [node.value]
        else:
            continue
        found += [node.lineno for part in parts if isinstance(part, ast.Constant) and part.value == 255]
    return sorted(found)


def test_what_counts_as_a_bare_label():
    bare = ['a == 255', 'a < b < 255', 'a[255]', 'a[:, :255]', 'np.full(3, 255)', 'x.masked_fill(a, 255)', 'N = 255']
    assert bare_labels('\n'.join(bare)) == list(range(1, len(bare) + 1))
    grey = ['a[b] = 255', '255 * a', 'a.clip(0, 255)', 'f((255, 255, 255))', 'a == IGNORE_INDEX', '"255"']
    assert bare_labels('\n'.join(grey)) == []


def test_the_picture_is_that_of_the_code():
    assert architecture.PICTURE.read_text(encoding='utf-8') == architecture.draw(), 'renew it: `make picture`'


def test_the_page_names_every_package(rules, root):
    """In its table, in the order of pyproject.toml, and none that is gone."""
    page = (root / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    rows = re.findall(r'^\| `(\w+)(?:\.py|/)` \|', page, flags=re.MULTILINE)
    assert rows == [*rules['layers'], 'tools']


def test_the_page_names_files_that_exist(root):
    page = (root / 'docs' / 'architecture.md').read_text(encoding='utf-8')
    paths = re.findall(r'`((?:csrm_plugin|mmcfg|sweeps|tests|tools|docs)/[\w/.*]+)`', page)
    assert paths
    assert [path for path in paths if not list(root.glob(path.rstrip('/')))] == []


@pytest.fixture
def project(tmp_path):
    """Function that writes modules of a small project and returns its imports and modules."""

    def write(files):
        for name, text in {'csrm_plugin/__init__.py': '', **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            init = path.parent / '__init__.py'
            if path.parts[-2] != 'tools' and not init.exists():
                init.write_text('')
        return architecture.find_imports(tmp_path), architecture.find_modules(tmp_path)

    return write


LAYERS = ['low', 'middle', 'high']


@pytest.mark.parametrize(
    'text',
    [
        'from csrm_plugin.high.a import name',
        'from csrm_plugin import high',
        'import csrm_plugin.high.a as a',
        'from ..high import a',
        'def function():\n    from csrm_plugin.high import a',
        'import importlib\nimportlib.import_module("csrm_plugin.high.a")',
        'import csrm_plugin',
        'from csrm_plugin import __version__',
        'import tools.train',
    ],
)
def test_what_is_written_upwards_is_found(project, text):
    imports, _ = project({'csrm_plugin/low/b.py': text, 'csrm_plugin/high/a.py': '', 'tools/train.py': ''})
    (found,) = architecture.find_upward(imports, LAYERS)
    assert found.module == 'csrm_plugin.low.b' and found.line == len(text.splitlines())
    assert found.inside is text.startswith('def') and found.relative is ('..' in text)


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('csrm_plugin/high/b.py', 'import csrm_plugin.low.a\nfrom csrm_plugin.high import c\nimport os, numpy.low'),
        ('csrm_plugin/__init__.py', 'from csrm_plugin import high'),
        ('tools/test.py', 'import csrm_plugin\nfrom csrm_plugin.high import c'),
    ],
)
def test_what_is_written_downwards_is_none(project, file, text):
    imports, _ = project({'csrm_plugin/low/a.py': '', 'csrm_plugin/high/c.py': '', file: text})
    assert imports and architecture.find_upward(imports, LAYERS) == []


def test_a_package_without_a_place_and_a_tool_that_imports_a_tool_are_found(project):
    imports, _ = project(
        {'csrm_plugin/new/a.py': 'import csrm_plugin.low', 'csrm_plugin/low/a.py': '', 'tools/b.py': 'import tools.c'}
        | {'tools/c.py': ''}
    )
    assert [item.module for item in architecture.find_upward(imports, LAYERS)] == ['csrm_plugin.new.a', 'tools.b']


def test_circles_of_modules_are_found(project):
    imports, _ = project(
        {
            'csrm_plugin/low/a.py': 'from csrm_plugin.low import b',
            'csrm_plugin/low/b.py': 'from csrm_plugin.low.c import name',
            'csrm_plugin/low/c.py': 'def function():\n    import csrm_plugin.low.a',
        }
    )
    a, b, c = (f'csrm_plugin.low.{name}' for name in 'abc')
    assert architecture.find_circle(architecture.module_graph(imports)) == [a, b, c, a]
    assert architecture.find_circle(architecture.module_graph(item for item in imports if not item.inside)) is None
    assert architecture.reachable(architecture.module_graph(imports), b) == {a, b, c}


def test_circles_of_packages_are_found_but_a_house_is_none(project):
    files = {
        'csrm_plugin/high/__init__.py': 'from csrm_plugin.high import inner',
        'csrm_plugin/high/a.py': '',
        'csrm_plugin/high/inner/b.py': 'from csrm_plugin.high.a import name',
        'csrm_plugin/high/c.py': 'from csrm_plugin.high.inner.b import name',
        'csrm_plugin/high/other/d.py': 'from csrm_plugin.high.inner.b import name',
    }
    imports, modules = project(files)
    assert architecture.find_circle(architecture.room_graph(imports, modules)) is None
    imports, modules = project(files | {'csrm_plugin/high/inner/e.py': 'from csrm_plugin.high.other.d import name'})
    inner, other = 'csrm_plugin.high.inner', 'csrm_plugin.high.other'
    assert architecture.find_circle(architecture.room_graph(imports, modules)) == [inner, other, inner]


def test_the_picture_shows_counts_of_files_and_what_is_wrong(project, tmp_path):
    (tmp_path / 'pyproject.toml').write_text('[tool.csrm_plugin.architecture]\nlayers = ["low", "high"]\n')
    project(
        {
            'csrm_plugin/low/__init__.py': '"""Holds < everything."""',
            'csrm_plugin/high/a.py': 'from csrm_plugin.low import x, y\nimport csrm_plugin.low',
            'csrm_plugin/high/b.py': 'from csrm_plugin.low import z',
        }
    )
    picture = architecture.draw(tmp_path)
    assert architecture.find_problems(tmp_path) == [
        'docs/architecture.svg is not that of the code: `python docs/architecture.py` renews it'
    ]
    (tmp_path / 'docs').mkdir()
    (tmp_path / 'docs' / 'architecture.svg').write_text(picture)
    assert architecture.find_problems(tmp_path) == []
    assert '>2</text>' in picture and '>Holds &lt; everything</text>' in picture and '#f87171' not in picture
    project({'csrm_plugin/low/b.py': 'import csrm_plugin.high'})
    assert '#f87171' in architecture.draw(tmp_path)
    upward, circle, _ = architecture.find_problems(tmp_path)
    assert upward == 'csrm_plugin/low/b.py:1: csrm_plugin.low.b must not import csrm_plugin.high'
    assert circle == 'packages import in a circle: csrm_plugin.high -> csrm_plugin.low -> csrm_plugin.high'
