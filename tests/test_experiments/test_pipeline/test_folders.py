"""What becomes of what is in the way of a stage: no training is ever lost."""

import json
from dataclasses import replace

import pytest

from csrm_plugin.experiments.pipeline.folders import make_way, may_go_on
from csrm_plugin.experiments.pipeline.keys import Reason, key_parts
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run
from csrm_plugin.utils import UserError


def aside(project, stage):
    """Names of what was set aside of a stage, without the time."""
    names = sorted(path.name for path in (project / 'run').glob(f'{stage}.set_aside_*'))
    return [name.split('_', 4)[-1] for name in names]


def fail(run, monkeypatch, stage, **given):
    monkeypatch.setenv('TOY_FAIL', stage)
    with pytest.raises(UserError):
        run(**given)
    monkeypatch.delenv('TOY_FAIL')


def edit_tool(project):
    tool = project / 'tools' / 'toy.py'
    tool.write_text(tool.read_text() + 'done = True\n')


def test_an_interrupted_training_whose_code_changed_is_set_aside(project, run, change, monkeypatch):
    change(resume=True)
    fail(run, monkeypatch, 'second')
    (project / 'run' / 'second' / 'train').mkdir()
    (project / 'run' / 'second' / 'train' / 'epoch_3.pth').write_text('three days')
    edit_tool(project)
    _, text = run()
    assert aside(project, 'second') == ['not_finished_code_changed']
    (place,) = (project / 'run').glob('second.set_aside_*')
    assert (place / 'train' / 'epoch_3.pth').read_text() == 'three days'
    assert f'what was there is set aside in run/{place.name}' in text
    assert not (project / 'run' / 'second' / 'train').exists()


def test_an_interrupted_training_that_starts_again_is_set_aside(project, run, monkeypatch):
    fail(run, monkeypatch, 'second')
    (project / 'run' / 'second' / 'epoch_3.pth').write_text('old')
    fail(run, monkeypatch, 'second')
    assert aside(project, 'second') == ['not_finished'] and not (project / 'run' / 'second' / 'epoch_3.pth').exists()
    # Nothing was made since: nothing to keep.
    run()
    assert aside(project, 'second') == ['not_finished']


def test_a_training_goes_on_where_the_pipeline_asks_for_it(project, run, change, monkeypatch):
    change(resume=True)
    fail(run, monkeypatch, 'second')
    (project / 'run' / 'second' / 'epoch_3.pth').write_text('old')
    run()
    assert aside(project, 'second') == [] and (project / 'run' / 'second' / 'epoch_3.pth').exists()


def test_a_finished_training_that_is_made_again_is_set_aside_and_kept(project, run, monkeypatch):
    run()
    fail(run, monkeypatch, 'second', start='second')
    run()
    assert aside(project, 'second') == ['asked_for']
    edit_tool(project)
    run()
    assert aside(project, 'second') == ['asked_for', 'code_changed']
    assert aside(project, 'third') == ['code_changed']
    places = (project / 'run').glob('*.set_aside_*')
    assert all((place / 'out.txt').read_text() == place.name.split('.')[0] for place in places)
    assert aside(project, 'first') == []  # of the kind that can be made again in minutes


def test_label_maps_stay_until_the_new_ones_are_done(project, run, change, monkeypatch):
    monkeypatch.setenv('TOY_MASKS', 'x')
    run()
    change('extra', options=['--other', '1'])
    fail(run, monkeypatch, 'extra')
    (place,) = (project / 'run').glob('extra.set_aside_*')
    assert (place / 'out.txt').exists()
    run()
    assert aside(project, 'extra') == []


def test_label_maps_of_the_same_settings_are_kept(project, run, change, monkeypatch):
    monkeypatch.setenv('TOY_MASKS', 'x')
    fail(run, monkeypatch, 'extra')
    left = project / 'run' / 'extra' / 'mask.json'  # whole, for tools write by renaming; each is skipped if it is there
    left.write_text('made')
    assert run()[0]['ran'] == ['extra'] and left.exists()
    (project / 'run' / 'extra' / 'card.json').unlink()
    change('extra', options=['--other', '1'])
    assert run()[0]['ran'] == ['extra'] and not left.exists()


def test_a_folder_says_what_it_stands_on_from_the_start(project):
    run = Run(load_recipe(str(project / 'toy.yaml'), str(project)), str(project), 'run')
    stage = run.stages['second']
    parts = key_parts(stage, {'first': 'key 1'})
    assert make_way(stage, parts, Reason('it has not run here yet', 'not finished')) is None
    assert json.loads((project / 'run' / 'second' / 'key').read_text()) == parts
    (project / 'run' / 'second' / 'key').write_text('a hash of an older version')
    (project / 'run' / 'second' / 'epoch_1.pth').write_text('1')
    assert make_way(stage, parts, Reason('it was not finished', 'not finished')).endswith('_not_finished')


def test_trainings_go_on_where_that_is_exact_or_asked_for(project):
    recipe = load_recipe(str(project / 'toy.yaml'), str(project))
    for resume in (False, True):
        run = Run(replace(recipe, resume=resume), str(project), 'run')
        assert may_go_on(run.stages['second']) is resume and may_go_on(run.stages['extra'])
        assert ('--resume' in run.train_command('c.py', [])) is resume


def test_a_training_survives_when_its_stage_becomes_one_of_another_kind(project, run, change, monkeypatch):
    monkeypatch.setenv('TOY_MASKS', 'x')
    run()
    (project / 'run' / 'extra' / 'train').mkdir()
    (project / 'run' / 'extra' / 'train' / 'epoch_3.pth').write_text('three days')
    run(start='extra')  # a stage of masks, whose folder was that of a training
    (place,) = (project / 'run').glob('extra.set_aside_*')
    assert (place / 'train' / 'epoch_3.pth').read_text() == 'three days'
    fail(run, monkeypatch, 'extra', start='extra')
    (project / 'run' / 'extra' / 'epoch_4.pth').write_text('four days')
    run(start='extra')
    kept = sorted(path.name for path in (project / 'run').glob('extra.set_aside_*/**/*.pth'))
    assert kept == ['epoch_3.pth', 'epoch_4.pth']


def test_an_interrupted_training_goes_on_if_what_it_stands_on_holds_the_same(project, run, change, monkeypatch):
    change(resume=True)
    fail(run, monkeypatch, 'third')
    (project / 'run' / 'third' / 'epoch_3.pth').write_text('old')
    claim = project / 'run' / 'third' / 'key'
    parts = json.loads(claim.read_text())
    parts['inputs'] = {name: f'another_key {value.split()[-1]}' for name, value in parts['inputs'].items()}
    claim.write_text(json.dumps(parts))
    run()
    assert aside(project, 'third') == [] and (project / 'run' / 'third' / 'epoch_3.pth').exists()
