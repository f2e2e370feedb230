import pytest
import yaml

from csrm_plugin.experiments.sweep.definition import parse_sweep, read_sweep
from csrm_plugin.utils import MissingFileError, UserError

BASE = dict(
    program='tools/train.py',
    method='bayes',
    metric=dict(name='pseudo/mIoU', goal='maximize'),
    parameters={'model.b': dict(min=0.0, max=1.0), 'lr': dict(values=[1, 2, 3])},
)


def test_a_whole_file(tmp_path):
    path = tmp_path / 'sweep.yaml'
    path.write_text(yaml.safe_dump({**BASE, 'name': 'n', 'project': 'p', 'run_cap': 7, 'description': 'd'}))
    sweep = read_sweep(str(path))
    assert [parameter.name for parameter in sweep.parameters] == ['lr', 'model.b']
    assert (sweep.method, sweep.metric.name, sweep.metric.goal, sweep.run_cap) == (
        'bayes',
        'pseudo/mIoU',
        'maximize',
        7,
    )
    assert sweep.command == ('${env}', '${interpreter}', '${program}', '${args}')
    assert set(sweep.binding()) == {'program', 'method', 'metric', 'parameters'}


def test_goal_is_minimize_by_default_as_in_wandb():
    sweep = parse_sweep({**BASE, 'metric': dict(name='loss', target=0.5)})
    assert sweep.metric.goal == 'minimize'
    assert sweep.metric.reached(0.5) and sweep.metric.reached(0.1) and not sweep.metric.reached(0.6)
    better = parse_sweep({**BASE, 'metric': dict(name='a', goal='maximize', target=50)}).metric
    assert better.reached(50) and not better.reached(49.9)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(methods='grid'), 'unknown key `methods`; did you mean `method`'),
        (dict(method='gird'), '`method` must be'),
        (dict(method='custom'), '`method` must be'),
        (dict(controller=dict(type='local')), "`controller` is for W&B's own service"),
        (dict(metric=None), '`metric` must hold `name`'),
        (dict(metric=dict(name='a', gaol='minimize')), 'did you mean `goal`'),
        (dict(metric=dict(name='a', goal='max')), '`metric.goal`'),
        (dict(metric=dict(name='a', impute='best')), 'leave them out'),
        (dict(metric=dict(name='a', target='x')), '`metric.target`'),
        (dict(parameters={}), 'at least one parameter'),
        (dict(parameters={'a b': dict(value=1)}), 'parameter `a b`'),
        (dict(parameters={'a': dict(value=1)}), 'nothing to search'),
        (dict(method='grid'), 'infinitely many'),
        (dict(run_cap=0), '`run_cap`'),
        (dict(command='python x'), '`command` must be a list'),
        (dict(name=3), '`name` must be a text'),
        (dict(early_terminate=dict(type='envelope')), '`early_terminate.type`'),
        (dict(early_terminate=dict(type='hyperband')), 'either `min_iter`'),
        (dict(early_terminate=dict(type='hyperband', max_iter=9)), 'either `min_iter`'),
        (dict(early_terminate=dict(type='hyperband', min_iter=3, strict=True)), '`early_terminate.strict`'),
        (dict(early_terminate=dict(type='hyperband', min_iter=3, eta=1)), '`early_terminate.eta`'),
        (
            dict(early_terminate=dict(type='hyperband', min_iter=3, min_itr=1)),
            'did you mean `early_terminate.min_iter`',
        ),
        (dict(early_terminate=dict(type='hyperband', max_iter=2, s=2, eta=3)), 'no bracket'),
    ],
)
def test_errors_name_the_file_and_the_key(change, words, tmp_path):
    path = tmp_path / 'sweep.yaml'
    path.write_text(yaml.safe_dump({**BASE, **change}))
    with pytest.raises(UserError) as error:
        read_sweep(str(path))
    text = str(error.value)
    assert text.startswith(f'sweep file `{path}`: ') and words in text.replace(
        '`min_iter`?', '`early_terminate.min_iter`?'
    )
    assert '\n' not in text


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(MissingFileError, match='does not exist'):
        read_sweep(str(tmp_path / 'none.yaml'))
    broken = tmp_path / 'broken.yaml'
    broken.write_text('a: [1')
    with pytest.raises(UserError, match='is no YAML'):
        read_sweep(str(broken))
    broken.write_text('- 1')
    with pytest.raises(UserError, match='must hold keys'):
        read_sweep(str(broken))


@pytest.mark.parametrize(('version', 'told'), [('4.9.0', True), ('5.0.0', False)])
def test_an_older_optuna_is_told_of(monkeypatch, version, told):
    monkeypatch.setattr('importlib.metadata.version', lambda name: version)
    assert (
        any(f'Optuna {version} does not see trials that still run' in note for note in parse_sweep(BASE).notes) == told
    )


def test_what_differs_from_wandb_is_said():
    bayes = parse_sweep(BASE)
    assert bayes.sampler == 'gp' and any('GPSampler' in note for note in bayes.notes)
    assert any('no order' in note for note in bayes.notes)
    stopped = parse_sweep({**BASE, 'early_terminate': dict(type='hyperband', min_iter=3)})
    assert stopped.sampler == 'tpe' and any('TPE' in note for note in stopped.notes)
    assert any('3, 9, 27, 81, ... logged values' in note for note in stopped.notes)
    assert stopped.early_terminate['eta'] == 3
    text = parse_sweep(
        {**BASE, 'method': 'grid', 'parameters': {'lr': dict(values=['1e-3', 0.1, '{"a": null}', '1,2'])}}
    )
    assert text.notes == ('The text in lr=1e-3 reaches the config as 0.001, as it does under `wandb agent`.',)
    assert parse_sweep({**BASE, 'method': 'random'}).notes == ()
