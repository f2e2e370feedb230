import json

import pytest

from csrm_plugin.report import write_sweep_report
from csrm_plugin.report.paper.delta_fg import compare
from csrm_plugin.report.runs.sweeps import read_sweep
from csrm_plugin.utils import MissingFileError, UserError

KEY = 'model.pseudo_label.fg_threshold'


def test_reference_of_ones_own(figure_2, tmp_path, build, read_page):
    other = build['run'](tmp_path / 'other_cam', score=80.0)
    page = read_page(write_sweep_report(figure_2, tmp_path / 'out.html', reference=other))
    assert {row[0]: row[2] for row in page.table('The same as numbers')}['0.3'] == '64.0%'
    with pytest.raises(MissingFileError, match='nowhere'):
        write_sweep_report(figure_2, reference=tmp_path / 'nowhere')
    log = other / '20261122_101112' / 'vis_data' / 'scalars.json'
    log.write_text(json.dumps({'step': 1, 'seg/mIoU': 3.0}) + '\n')
    for path in (other / 'record').glob('validation*'):
        path.unlink()
    with pytest.raises(UserError, match='other_cam` has no CAM scores per threshold'):
        write_sweep_report(figure_2, reference=other)


@pytest.mark.parametrize('record', [True, False])
@pytest.mark.parametrize('reference', [True, False])  # naming its folder changes nothing
@pytest.mark.parametrize(
    ('checkpoint', 'step'),
    [
        ('epoch_2.pth', 20),
        ('iter_40.pth', 40),
        ('best_cam_mIoU_epoch_4.pth', 40),
        ('epoch_3.pth', None),
        ('latest.pth', None),
    ],
)
def test_the_curve_is_that_of_the_checkpoint(figure_2, build, record, reference, checkpoint, step):
    cam = figure_2.parent / 'start'
    build['run'](cam, record=record)
    log = cam / '20261122_101112' / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    # An epoch has 10 iterations, and what is logged is not its end.
    lines = [
        {**line, 'epoch': line['step'] // 10, 'step': line['step'] - 2} if 'lr' in line else line for line in lines
    ]
    log.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    content = json.loads((figure_2 / 'sweep.json').read_text())
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {'load_from': str(cam / checkpoint)}})
    found = compare(read_sweep(figure_2), str(cam) if reference else None)
    assert found.validation['iteration'] == step or (step is None and found.validation['iteration'] == 60)
    assert dict(found.cam)[0.3] == found.validation['metrics']['cam/mIoU@0.30']
    started = 'the classifier that the trainings started from' in found.who
    assert started == (step is not None)
    assert any(f'started from {checkpoint}' in note for note in found.notes) == (step is None)


def test_the_text_names_a_classifier_of_ones_own(figure_2, tmp_path, build, read_page):
    start = figure_2.parent / 'cam' / 'epoch_6.pth'
    assert (
        f'The second curve is the classifier that the trainings started from ({start})'
        in read_page(write_sweep_report(figure_2)).text
    )
    other = build['run'](tmp_path / 'other_cam')
    text = read_page(write_sweep_report(figure_2, reference=other)).text
    assert f'The second curve is the classifier in {other}, at its last validation' in text
    assert 'that the trainings started from' not in text


def test_reference_from_the_record_of_a_trial(figure_2, build):
    content = json.loads((figure_2 / 'sweep.json').read_text())
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {}})
    build['run'](figure_2 / 'trial_0001', load_from=str(figure_2.parent / 'cam' / 'epoch_6.pth'))
    found = compare(read_sweep(figure_2))
    assert len(found.cam) == 19 and len(found.notes) == 1 and 'did not record' in found.notes[0]
    assert found.who == f'the classifier that the trainings started from ({figure_2.parent / "cam" / "epoch_6.pth"})'
    build['write'](figure_2 / 'sweep.json', {**content, 'cfg_options': {'load_from': 'gone/epoch_1.pth'}})
    assert 'gone is no work directory here' in compare(read_sweep(figure_2)).notes[0]
