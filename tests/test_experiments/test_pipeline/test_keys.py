"""What stages of the pipelines of the project stand on."""

import os
from dataclasses import replace

import pytest

from csrm_plugin.config import code
from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.experiments.pipeline.keys import fingerprints, identity, key_parts, keys_of, reason_to_run
from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run


@pytest.fixture
def demo(root, tmp_path, monkeypatch):
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    return Run(load_recipe('demo', str(root)), str(root), str(tmp_path / 'run'))


def with_options(run, stage, **options):
    """The run with other options of one stage."""
    stages = [
        replace(spec, options={**spec.options, **options}) if spec.name == stage else spec for spec in run.recipe.stages
    ]
    return Run(replace(run.recipe, stages=tuple(stages)), run.root, run.folder, run.gpus)


def test_what_decides_on_a_result_is_in_the_key(demo, tmp_path):
    ensure_synthetic(str(tmp_path / 'data'), image_size=(32, 32), num_train=2, num_val=2, seed=0)
    data, csrm = demo.stages['data'], demo.stages['csrm']
    before, trained = key_parts(data, {}), key_parts(csrm, dict(classifier='1'))
    assert set(before['data']) == {'train', 'val'} and before['data']['train']['pictures'] == 2
    assert key_parts(data, {}) == before and key_parts(csrm, dict(classifier='1')) == trained
    assert key_parts(csrm, dict(classifier='2')) != trained
    # Masks are scored, and one stage trains on them.
    mask = next((tmp_path / 'data' / 'SegmentationClass').glob('train*.png'))
    mask.write_bytes(mask.read_bytes() + b'x')
    assert fingerprints(demo)['train'] != before['data']['train']
    assert fingerprints(demo)['val'] == before['data']['val']
    # Where the run lies does not count, what it is told does.
    elsewhere = Run(demo.recipe, demo.root, str(tmp_path / 'other'))
    assert key_parts(elsewhere.stages['csrm'], dict(classifier='1')) == trained
    seeded = Run(replace(demo.recipe, seed=5), demo.root, demo.folder)
    assert key_parts(seeded.stages['csrm'], dict(classifier='1'))['seed'] == 5
    changed = [
        replace(spec, options={**spec.options, 'options': {'model.bank_capacity': 7}}) if spec.name == 'csrm' else spec
        for spec in demo.recipe.stages
    ]
    other = Run(replace(demo.recipe, stages=tuple(changed)), demo.root, demo.folder)
    parts = key_parts(other.stages['csrm'], dict(classifier='1'))
    assert parts['config'] != trained['config'] and parts['settings'] != trained['settings']


def test_weights_count_by_their_content(root, tmp_path, monkeypatch):
    weights = tmp_path / 'w.pth'
    weights.write_bytes(b'1')
    monkeypatch.setenv('MSRC_WEIGHTS', str(weights))
    run = Run(load_recipe('msrc', str(root)), str(root), 'RUN')
    before = key_parts(run.stages['classifier'], {})
    weights.write_bytes(b'2')
    assert key_parts(run.stages['classifier'], {})['weights'] != before['weights']


def test_settings_do_not_say_where_a_run_and_its_data_lie(root, tmp_path, monkeypatch):
    found = []
    for data, folder in (('a/voc', 'ou'), ('b/voc', str(tmp_path / 'train'))):
        monkeypatch.setenv('VOC_ROOT', str(tmp_path / data))
        run = Run(load_recipe('voc', str(root)), str(root), folder)
        found.append({name: stage.settings() for name, stage in run.stages.items() if name != 'masks'})
    assert found[0] == found[1]
    setting = 'train_dataloader.dataset.pseudo_label_dir='
    assert f'{setting}RUN/labels_cam/crf/train_aug' in found[0]['verify_cam']['commands'][0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('VOC_ROOT', 'c/voc')
    run = Run(load_recipe('voc', str(root)), str(root), 'out')
    assert {name: stage.settings() for name, stage in run.stages.items() if name != 'masks'} == found[0]


def test_the_number_of_gpus_counts_for_trainings_alone(demo):
    more = Run(demo.recipe, demo.root, demo.folder, gpus=2)
    for name in ('csrm', 'labels_cam', 'masks', 'labels_cam_sepl', 'verify_cam'):
        before, after = key_parts(demo.stages[name], {}), key_parts(more.stages[name], {})
        trains = name in ('csrm', 'verify_cam')
        assert (before.pop('processes', None), after.pop('processes', None)) == ((1, 2) if trains else (None, None))
        assert before == after


def test_a_stage_stands_on_its_own_part_of_the_code(demo, tmp_path, monkeypatch):
    def codes():
        return {name: key_parts(stage, {})['code'] for name, stage in demo.stages.items() if name != 'data'}

    before = codes()
    real = code._parse

    def changed_by(part):
        monkeypatch.setattr(
            code,
            '_parse',
            lambda path, *state: replace(real(path, *state), digest='x') if part in path else real(path, *state),
        )
        return {name for name, found in codes().items() if found != before[name]}

    labels = {'labels_cam', 'labels_csrm'}
    networks = {'verify_cam', 'verify_csrm', 'verify_masks'}
    assert changed_by('segmentors/rml.py') == set()
    assert changed_by('hooks/sample_pictures_hook.py') == changed_by('hooks/run_record_hook.py') == set()
    assert changed_by('segmentors/csrm.py') == {'csrm', 'labels_csrm'}
    assert changed_by('segmentors/csrm_network.py') == {'csrm', 'labels_csrm'}  # named by CSRM, not by the config
    assert changed_by('functional/contrast.py') == {'csrm', 'labels_csrm'}
    assert changed_by('segmentors/cam_classifier.py') == {'classifier', 'labels_cam'}
    assert changed_by('transforms/load_pseudo_labels.py') == networks
    assert changed_by('refine/sam.py') == {'masks', 'labels_cam_sepl', 'labels_cam_crf_sepl', 'labels_csrm_crf_sepl'}
    assert changed_by('tools/train.py') == {'classifier', 'csrm', *networks}
    assert changed_by('tools/evaluate_labels.py') >= {*labels, *networks, 'labels_cam_crf', 'labels_cam_sepl'}
    assert 'csrm' not in changed_by('tools/evaluate_labels.py') | changed_by('tools/pseudo_labels.py')


def test_the_data_stage_does_not_stand_on_how_a_model_is_trained(demo, tmp_path):
    ensure_synthetic(str(tmp_path / 'data'), image_size=(32, 32), num_train=2, num_val=2, seed=0)
    before = key_parts(demo.stages['data'], {})
    config = tmp_path / 'other.py'
    config.write_text(
        f"_base_ = '{os.path.join(demo.root, 'mmcfg', 'csrm_demo.py')}'\noptim_wrapper = dict(optimizer=dict(lr=9))\n"
    )
    options = {'config': str(config)}
    other = with_options(demo, 'data', **options)
    assert {**key_parts(other.stages['data'], {}), 'settings': ''} == {**before, 'settings': ''}
    parts = key_parts(with_options(demo, 'csrm', **options).stages['csrm'], {})
    assert parts['config'] != key_parts(demo.stages['csrm'], {})['config']


def test_what_is_handed_on_counts_and_for_the_table_how_it_was_made_too(demo):
    labels, table = demo.stages['labels_cam'], demo.stages['table']
    outputs = {'plain/train': {'files': 2, 'sha256': 'a'}}
    first, again = identity(labels, 'key1', outputs), identity(labels, 'key2', outputs)
    other = identity(labels, 'key1', {'plain/train': {'files': 2, 'sha256': 'b'}})
    assert keys_of({'labels_cam': again}) == {'labels_cam': 'key2'}
    changed = 'changed since: inputs (labels_cam)'
    for stage, expected in ((demo.stages['verify_cam'], [None, changed]), (table, [changed, changed])):
        stage.outputs = list
        parts = key_parts(stage, {'labels_cam': first})
        card = dict(status='done', key_parts=parts)
        assert reason_to_run(stage, card, parts, {}) is None
        reasons = [
            reason_to_run(stage, card, {**parts, 'inputs': {'labels_cam': found}}, {}) for found in (again, other)
        ]
        assert [reason and reason.text for reason in reasons] == expected
        assert reasons[1].short == 'inputs changed'
    # Of a stage that hands on nothing the key counts, and of the data what they are.
    refined, data = demo.stages['labels_cam_crf'], demo.stages['data']
    assert identity(refined, 'key1', {}).split()[1] != identity(refined, 'key2', {}).split()[1]
    assert identity(data, 'key1', {}, {'train': 1}).split()[1] == identity(data, 'key2', {}, {'train': 1}).split()[1]
    assert identity(data, 'key1', {}, {'train': 1}) != identity(data, 'key1', {}, {'train': 2})


def test_masks_of_sam_stand_on_the_content_of_its_weights(root, tmp_path, monkeypatch):
    monkeypatch.setenv('VOC_ROOT', 'voc')
    found = []
    for folder, content in (('a', '1'), ('b', '1'), ('c', '2')):
        weights = tmp_path / folder / 'sam'
        weights.mkdir(parents=True)
        (weights / 'model.safetensors').write_text(content)
        monkeypatch.setenv('SAM_CHECKPOINT', str(weights))
        run = Run(load_recipe('voc', str(root)), str(root), 'RUN')
        found.append(key_parts(run.stages['masks'], {})['settings'])
    assert found[0] == found[1] != found[2]
