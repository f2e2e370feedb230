"""Reading the record of a run."""

import json

import pytest

from csrm_plugin.tracking.record import full_name, is_run, read_run, read_scalars
from csrm_plugin.utils import MissingFileError, UserError


def write_lines(path, lines, tail=''):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + tail)
    return str(path)


@pytest.fixture
def run(tmp_path):
    """A work directory with two starts of one run, and one of an older run."""
    for name, steps in {'20260101_000000': (99,), '20260102_000000': (10, 20, 30), '20260103_000000': (20, 40)}.items():
        lines = [dict(step=step, lr=0.1, iter=step, loss=float(name[6:8])) for step in steps]
        write_lines(tmp_path / name / 'vis_data' / 'scalars.json', lines)
    (tmp_path / 'record').mkdir()
    content = dict(format=1, status='running', log_dirs=['20260102_000000', '20260103_000000'])
    (tmp_path / 'record' / 'run.json').write_text(json.dumps(content))
    return tmp_path


def test_training_and_validation_lines_are_told_apart_and_sorted(tmp_path):
    lines = [dict(step=20, lr=0.1, iter=20), dict(step=20, **{'seg/mIoU': 50.0}), dict(step=30, lr=0.1, iter=30)]
    train, val = read_scalars([write_lines(tmp_path / 'scalars.json', lines)])
    assert [line['step'] for line in train] == [20, 30]
    assert [line['seg/mIoU'] for line in val] == [50.0]


def test_a_resumed_part_replaces_what_came_after_its_beginning(run):
    record = read_run(run)
    assert [(line['step'], line['loss']) for line in record.train] == [(10, 2.0), (20, 3.0), (40, 3.0)]


def test_starts_of_an_older_run_in_the_same_folder_do_not_count(run):
    assert 99 not in [line['step'] for line in read_run(run).train]
    (run / 'record' / 'run.json').unlink()
    assert 99 not in [line['step'] for line in read_run(run).train]  # what a later start logged replaces it


def test_a_half_written_last_line_is_left_out_and_one_in_the_middle_is_an_error(tmp_path):
    path = write_lines(tmp_path / 'scalars.json', [dict(step=1, lr=0.1)], tail='{"step": 2, "l')
    assert [line['step'] for line in read_scalars([path])[0]] == [1]
    with open(path, 'a') as file:
        file.write('\n{"step": 3}\n')
    with pytest.raises(UserError, match='line 2 of'):
        read_scalars([path])


def test_validations_pictures_and_samples_are_found(run):
    for step in (20, 40):
        (run / 'record' / f'validation_{step:07d}.json').write_text(json.dumps(dict(iteration=step, metrics={})))
    (run / 'record' / 'pictures.json').write_text('{"items": []}')
    images = run / '20260103_000000' / 'vis_data' / 'vis_image'
    images.mkdir()
    for name in ('sample_a_b_20.png', 'sample_a_b_8.png', 'other.png'):
        (images / name).touch()
    record = read_run(run)
    assert [entry['iteration'] for entry in record.validations] == [20, 40]
    assert record.pictures == {'items': []}
    assert [step for step, _ in record.samples['a_b']] == [8, 20]
    assert list(record.samples) == ['a_b']


@pytest.mark.parametrize('text', ['{"half', '[]', '{"log_dirs": 3}', '{"log_dirs": ["../other"]}'])
def test_a_broken_record_is_named(run, text):
    (run / 'record' / 'run.json').write_text(text)
    with pytest.raises(UserError, match=r'run\.json'):
        read_run(run)


def test_a_folder_without_a_run_is_named(tmp_path):
    assert not is_run(tmp_path)
    with pytest.raises(MissingFileError, match='no work directory'):
        read_run(tmp_path)
    with pytest.raises(MissingFileError, match='does not exist'):
        read_run(tmp_path / 'nowhere')


@pytest.mark.parametrize('text', ['{}', '{"iteration": 4}', '{"iteration": "4", "metrics": {}}'])
def test_what_is_no_validation_is_named(run, text):
    (run / 'record' / 'validation_0000004.json').write_text(text)
    with pytest.raises(UserError, match=r'validation_0000004\.json'):
        read_run(run)


def test_bytes_that_are_no_text_at_the_end_of_the_log_do_no_harm(tmp_path):
    path = write_lines(tmp_path / 'scalars.json', [dict(step=1, lr=0.1)])
    with open(path, 'ab') as file:
        file.write(b'{"step": 2, "\xff')
    assert [line['step'] for line in read_scalars([path])[0]] == [1]


def test_full_names_say_what_a_score_stands_on():
    context = dict(
        split='val',
        scales=[0.5, 1.0],
        flip=True,
        crf=False,
        weights='teacher',
        pseudo_label=dict(source='cam', threshold=0.3),
    )
    report = dict(context=context, metrics={'cam/threshold': 0.25})
    assert full_name('seg/mIoU', report) == 'seg/mIoU (val, scales 0.5 1, flip, no CRF, teacher)'
    assert 'val, at the best threshold, chosen with the masks, scales' in full_name('cam/mIoU', report)
    assert 'from the CAM at 0.3' in full_name('pseudo/mIoU', report)
    assert full_name('mIoU', {}) == 'mIoU'


def test_full_names_of_a_model_that_says_what_its_segmentation_stands_on():
    context = dict(
        split='val',
        scales=[1.0],
        flip=False,
        crf=False,
        segmentation='CAMs of three scales',
        pseudo_label=dict(source='propagated', threshold=0.35),
    )
    report = dict(context=context, metrics={})
    views = 'scale 1, no flip, no CRF'
    assert full_name('seg/mIoU', report) == f'seg/mIoU (val, CAMs of three scales, {views})'
    assert full_name('pseudo/mIoU', report) == (
        f'pseudo/mIoU (val, from the propagated CAM at 0.35, CAMs of three scales, {views})'
    )
    assert full_name('cam/mIoU', report) == f'cam/mIoU (val, {views})'
    assert full_name('affinity/AUC', report) == (
        'affinity/AUC (val, pairs of positions, against the masks, scale 1, no flip)'
    )
    context['pseudo_label'] = dict(source='cam', threshold=0.3)
    assert 'three scales' not in full_name('pseudo/mIoU', report)
