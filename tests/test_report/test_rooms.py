"""Only `report/paper` knows this paper, and only the entry points know both it and the rest."""

import ast
import re

import pytest

from csrm_plugin.report.paper import published

ROOMS = ('page', 'charts', 'runs', 'sections')
ENTRIES = ('pipeline_report', 'run_report', 'sweep_report')

#: What names this paper, its method or its tables; ``csrm_plugin`` is the package.
NAMES = re.compile(rf'\bCSRM\b|VISAPP|\bthe paper\b|\bTable \d|{re.escape(published.DOI)}')


@pytest.fixture
def modules(root):
    """Name below ``csrm_plugin.report`` to syntax tree."""
    folder = root / 'csrm_plugin' / 'report'
    paths = sorted(folder.rglob('*.py'))
    return {'.'.join(path.relative_to(folder).with_suffix('').parts): ast.parse(path.read_text()) for path in paths}


def imported(tree):
    """Names below ``csrm_plugin.report`` that a module imports from."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    found = [f'{node.module}.{alias.name}' for node in nodes for alias in node.names]
    return [name.removeprefix('csrm_plugin.report.') for name in found if name.startswith('csrm_plugin.report.')]


def test_the_general_rooms_do_not_import_the_paper_nor_the_entries(modules):
    rooms = {name: tree for name, tree in modules.items() if name.startswith(ROOMS)}
    assert len(rooms) > 25
    for name, tree in rooms.items():
        assert [found for found in imported(tree) if found.startswith(('paper', *ENTRIES))] == [], name


def test_the_paper_does_not_import_the_entries(modules):
    for name, tree in modules.items():
        if name.startswith('paper'):
            assert [found for found in imported(tree) if found.startswith(ENTRIES)] == [], name


def test_every_module_has_its_room(modules):
    alone = {name for name in modules if '.' not in name}
    assert alone == {'__init__', *ENTRIES}
    assert {name.split('.')[0] for name in modules if '.' in name} == {*ROOMS, 'paper'}


def test_nothing_outside_names_the_paper(modules):
    for name, tree in modules.items():
        if not name.startswith('paper'):
            texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            assert [text for text in texts if isinstance(text, str) and NAMES.search(text)] == [], name
