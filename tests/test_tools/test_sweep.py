import os
import subprocess
import sys

import pytest
import yaml

from csrm_plugin.config.arguments import OptionsAction


@pytest.fixture
def tool(root, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(root / 'tools'))
    monkeypatch.chdir(tmp_path)
    sys.modules.pop('sweep', None)
    import sweep

    yield sweep
    sys.modules.pop('sweep', None)


def test_arguments(tool):
    args = tool.build_parser().parse_args(
        ['a.yaml', '--trials', '7', '--jobs', '2', '--cfg-options', 'load_from=x.pth', 'a.b=1', '--config', 'c.py']
    )
    assert (args.sweep, args.trials, args.jobs, args.config) == ('a.yaml', 7, 2, 'c.py')
    assert args.cfg_options == {'load_from': 'x.pth', 'a.b': OptionsAction.parse_value('1')}
    assert (args.retries, args.max_failures, args.seed, args.storage, args.work_dir, args.name) == (0, 5, *[None] * 4)


def test_everything_is_handed_on(tool, root, monkeypatch):
    from csrm_plugin.experiments.sweep import runner
    from csrm_plugin.report import write_sweep_report

    calls = []
    monkeypatch.setattr(runner, 'run_sweep', lambda *args, **more: calls.append((args, more)))
    options = ['--storage', 'sqlite:///a', '--name', 'n', '--retries', '1', '--max-failures', '2', '--seed', '3']
    tool.main(tool.build_parser().parse_args(['a.yaml', '--work-dir', 'w', *options]))
    (path, folder, _), more = calls[0]
    assert (path, folder) == ('a.yaml', str(root))
    assert more == dict(
        trials=None,
        jobs=1,
        config=None,
        options={},
        work_dir='w',
        storage='sqlite:///a',
        name='n',
        retries=1,
        max_failures=2,
        seed=3,
        report=write_sweep_report,
    )


def test_errors_are_one_line(root, tmp_path):
    path = tmp_path / 'a.yaml'
    path.write_text(yaml.safe_dump({'method': 'grid', 'parameter': {}}))
    done = subprocess.run(
        [sys.executable, str(root / 'tools' / 'sweep.py'), str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(root)},
    )
    assert done.returncode == 1 and done.stdout == ''
    assert done.stderr == f'error: sweep file `{path}`: unknown key `parameter`; did you mean `parameters`?\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ['a.yaml']
