import importlib.util
import json

import numpy as np
import pytest
from PIL import Image

from csrm_plugin.experiments import demo
from csrm_plugin.tracking.record import read_run
from csrm_plugin.utils.cli import run_tool


@pytest.fixture(scope='module')
def tool(request):
    path = request.config.rootpath / 'tools' / 'demo.py'
    spec = importlib.util.spec_from_file_location('demo_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_quick_run_trains_scores_and_draws(tool, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main, tool.build_parser(), ['--quick', '--seed', '3', '--work-dir', str(tmp_path)])
    out, err = capsys.readouterr()
    assert end.value.code == 0, err
    for expected in ('epoch   2/2', 'CAM classifier against CSRM', 'Seed 3; 16 + 4 synthetic', 'contact_sheet.png'):
        assert expected in out
    said = ' '.join(out.split())
    assert 'Labels for train at an equal budget (flip, dCRF), mIoU' in said and '(demo, seed 3)' in said
    rows = json.loads((tmp_path / 'table' / 'table.json').read_text())['labels']
    assert [(row['stage'], row['baseline'], row['over']) for row in rows] == [
        ('labels_cam', 'plain baseline', None),
        ('labels_cam_crf', 'plain baseline', None),
        ('labels_csrm', None, 'labels_cam'),
        ('labels_csrm_crf', None, 'labels_cam_crf'),
    ]
    threshold = json.loads((tmp_path / 'labels' / 'threshold_val.json').read_text())['best']['threshold']
    for row in rows:
        assert set(row['scores']) == set(demo.SPLITS) and (row['context']['scales'], row['context']['flip']) == (
            [1],
            True,
        )
        masks = ['masks of val for the threshold'] if row['baseline'] else []
        assert row['knowledge'] == ['image labels', *masks]
        assert row['context']['threshold'] == (threshold if row['baseline'] else None)
    reports = {}
    for stage in ('cam_demo', 'csrm_demo'):
        for split in demo.SPLITS:
            reports[stage, split] = json.loads((tmp_path / f'{stage}_{split}.json').read_text())
            assert reports[stage, split]['context']['ann_file'].endswith(f'{split}.txt')
            assert reports[stage, split]['context']['seed'] == 3
    assert 'seg/mIoU' in reports['csrm_demo', 'val'] and 'seg/mIoU' not in reports['cam_demo', 'val']
    # CSRM started from the classifier of this run.
    first_log = min((tmp_path / 'csrm_demo').glob('*/*.log'))
    assert 'Plain checkpoint into student and teacher' in first_log.read_text()
    sheet = np.asarray(Image.open(tmp_path / 'contact_sheet.png'))
    assert sheet.shape[1] > 6 * 256 and sheet.std() > 10
    # Each stage has its own curves, though one process trained both.
    for stage, scores in reports.items():
        logged = read_run(tmp_path / stage[0]).val[-1]
        assert ('seg/mIoU' in logged) == ('seg/mIoU' in scores), stage
    page = (tmp_path / 'report.html').read_text()
    assert 'cam_demo' in page and 'csrm_demo' in page and 'CAM of the classifier (plain baseline)' in page
    assert out.rstrip().endswith('report.html')


def report(pseudo, cam=40.0, **more):
    context = dict(pseudo_label=dict(source='cam', threshold=0.2), scales=[1.0], flip=False, pictures=7)
    return {'pseudo/mIoU': pseudo, 'cam/mIoU': cam, 'cam/threshold': 0.3, 'cls/mAP': 80.0, 'context': context, **more}


def table_text(table):
    return [' '.join(cell for cell in cells) for cells in zip(*(column._cells for column in table.columns))]


def test_table_gives_both_models_their_gain_and_a_dash_for_what_is_not_there():
    reports = dict(
        a=dict(train=report(50.0), val=report(40.0)),
        b=dict(train=report(60.0), val=report(30.0, **{'seg/mIoU': 35.0})),
    )
    lines = table_text(demo.comparison(reports))
    assert 'pseudo/mIoU train 50.0 60.0 +10.0  (x 1.20)' in lines
    assert 'pseudo/mIoU val 40.0 30.0 -10.0  (x 0.75)' in lines
    assert 'cam/mIoU val 40.0 at 0.30 40.0 at 0.30 +0.0  (x 1.00)' in lines
    assert 'seg/mIoU val - 35.0 ' in lines and 'seg/mIoU train - - ' in lines
    assert '1.20 times' in demo.verdict(reports)
    assert 'Seed 5; 7 + 7 synthetic pictures' in demo.context_line(reports, 5)


def test_a_loss_is_called_a_loss():
    reports = dict(a=dict(train=report(50.0), val=report(40.0)), b=dict(train=report(45.0), val=report(50.0)))
    assert 'did not improve' in demo.verdict(reports)


def test_errors_are_one_line(tool, capsys):
    with pytest.raises(SystemExit) as end:
        run_tool(tool.main, tool.build_parser(), ['--seed', '-1'])
    assert end.value.code == 1 and '--seed' in capsys.readouterr().err
