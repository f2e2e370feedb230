import importlib.util
import json

import pytest
from PIL import Image

from csrm_plugin.inference.audit_labels import recommend, settings
from csrm_plugin.utils.cli import run_tool


@pytest.fixture
def module(root):
    spec = importlib.util.spec_from_file_location('audit_labels', root / 'tools' / 'audit_labels.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(root, module, capsys, demo_options, checkpoint_of, tmp_path, monkeypatch):
    """Run the tool in an empty folder; gives exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, config='csrm_demo', checkpoint='csrm_demo'):
        options = [
            f'{key}={value[0]},{value[1]}' if isinstance(value, tuple) else f'{key}={value}'
            for key, value in demo_options.items()
        ]
        weights = checkpoint if checkpoint.endswith('.pth') else checkpoint_of(checkpoint)
        given = [str(root / 'mmcfg' / f'{config}.py'), weights, '--workers', '0', '--device', 'cpu']
        with pytest.raises(SystemExit) as end:
            run_tool(module.main, module.build_parser(), [*given, *arguments, '--cfg-options', *options])
        return end.value.code, *capsys.readouterr()

    return run


def test_table_json_and_plot(tool, tmp_path):
    arguments = ['--scales', '0.5', '1', '--flip', '--no-crf', '--fg', '0.4', '0.6', '--bg', '0.2', '0.5']
    status, out, err = tool(*arguments, '--json', 'new/audit.json', '--plot', 'audit.png')
    assert status == 0, err
    report = json.loads((tmp_path / 'new' / 'audit.json').read_text())
    context = report['context']
    assert (context['scales'], context['flip'], context['crf']) == ([0.5, 1], True, False)
    assert (context['fg_thresholds'], context['bg_thresholds']) == ([0.4, 0.6], [0.2, 0.5])
    assert len(report['settings']) == 3 + 1
    assert '* recommended' in out and "config's" in out and 'wrote new/audit.json' in out and 'wrote audit.png' in out
    assert Image.open(tmp_path / 'audit.png').width > 500


def test_what_is_not_given_is_the_configs(tool, tmp_path):
    status, _, err = tool(
        '--no-crf', '--limit', '1', '--split', 'train', '--json', 'a.json', config='rml_demo', checkpoint='rml_demo'
    )
    assert status == 0, err
    context = json.loads((tmp_path / 'a.json').read_text())['context']
    assert (context['scales'], context['flip']) == ([0.75, 1, 1.25], True)
    assert (context['split'], context['pictures'], context['pictures_of_split']) == ('train', 1, 4)


def test_help_says_the_defaults_in_force_and_the_criterion(module, capsys):
    parser = module.build_parser()
    assert parser.get_default('min_coverage') == recommend.MIN_COVERAGE
    with pytest.raises(SystemExit):
        parser.parse_args(['--help'])
    out = ' '.join(capsys.readouterr().out.split())
    for values in (settings.FG_THRESHOLDS, settings.BG_THRESHOLDS):
        assert f'(default: {" ".join(map(str, values))})' in out
    for words in (
        'best mIoU on the labelled pixels among',
        '(default: 80)',
        'percent',
        'chosen with them',
        'at most 8',
    ):
        assert words in out


@pytest.mark.parametrize(
    'arguments, given, message',
    [
        (['--plot', 'x.gif'], {}, '.png'),
        (['--json', '.'], {}, '--json'),
        (['--split', 'nosuch'], {}, 'nosuch.txt does not exist'),
        (['--fg', '2'], {}, '--fg'),
        (['--scales', '-1'], {}, '--scales'),
        (['--workers', '-1'], {}, '--workers'),
        ([], dict(checkpoint='none.pth'), 'none.pth'),
        ([], dict(config='deeplabv2_r18_demo_pseudo'), 'has no CAM'),
        ([], dict(config='nosuch'), 'nosuch'),
    ],
)
def test_errors_are_one_line(tool, tmp_path, arguments, given, message):
    status, out, err = tool('--no-crf', *arguments, **given)
    lines = [line for line in err.splitlines() if line.startswith('error: ')]
    assert status == 1 and not out and 'Traceback' not in err
    assert len(lines) == 1 and message in lines[0]
    assert list(tmp_path.iterdir()) == []
