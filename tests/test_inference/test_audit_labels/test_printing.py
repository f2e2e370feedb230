import io

import pytest
from PIL import Image
from rich.console import Console

from csrm_plugin.inference.audit_labels import plot_audit, print_audit
from csrm_plugin.inference.audit_labels.printing import audit_lines, describe_setting


@pytest.fixture
def report(audit):
    return audit(crf=False, fg=[0.5, 0.7], bg=[0.2], scales=[0.5, 1], flip=True)


def test_tables_and_lines(report):
    console = Console(file=io.StringIO(), width=160)
    print_audit(report, console)
    text = console.file.getvalue()
    assert 'labels from CAMs of scales 0.5 1 with flip against masks, percent' in text
    assert text.count('* recommended') == 1 and "config's, unrefined, scales 1 with flip" in text
    for row in report['settings']:
        assert f'{row["miou"]:.2f}' in text and f'{row["coverage"]:.2f}' in text
    for name in report['context']['classes']:
        assert f'│ {name} ' in text
    assert 'stands on: 3 pictures with masks, of the 3 of the split val' in text
    assert 'caution: 3 pictures are a handful' in text and 'Chosen with the masks of 3 pictures' in text


def test_the_reason_is_one_line(report):
    lines = audit_lines(report)
    (line,) = [line for line in lines if line.startswith('recommended: ')]
    choice = report['recommended'][0]
    assert describe_setting(report['settings'][choice['setting']]) in line and choice['reason'] in line
    assert not any('\n' in line for line in lines)


def test_a_model_without_a_setting_of_its_own(audit):
    console = Console(file=io.StringIO(), width=160)
    print_audit(audit('cam_demo', crf=False, fg=[0.5], bg=[0.2]), console)
    assert "config's" not in console.file.getvalue()


@pytest.mark.parametrize('name', ['csrm_demo', 'cam_demo'])
def test_the_plot(audit, tmp_path, name):
    report = audit(name, crf=False, fg=[0.5, 0.7], bg=[0.2])
    plot_audit(tmp_path / 'new' / 'audit.png', report)
    assert Image.open(tmp_path / 'new' / 'audit.png').width > 500
