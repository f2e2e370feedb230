import json
import math
from pathlib import Path

import pytest

from csrm_plugin.report import write_report
from csrm_plugin.report.page.formats import NONE

HOSTILE = '<script>alert(1)</script>"&\'$x_1$'


def test_one_run(tmp_path, build, read_page):
    folder = build['pictures'](build['run'](tmp_path / 'work'))
    path = write_report(folder)
    assert path == str(folder / 'report.html')
    page = read_page(path)
    rows = {row[0]: row for row in page.table('Scores of the validations')[1:]}
    assert rows['Segmentation mIoU seg/mIoU'][1:3] == ['50.0%iteration 60', '55.0%iteration 40']
    assert rows['CAM mIoU cam/mIoU'][1:3] == ['40.0%iteration 60', '44.0%iteration 40']
    assert rows['CAM mIoU cam/mIoU'][3] == (
        'val, 48 pictures, best threshold 0.3, chosen with the masks, classes restricted to the image labels, '
        "scale 1, no flip, no dCRF, teacher's weights, seed 0"
    )
    assert 'Status: finished, 60 of 60 iterations (6 epochs), 3 min 41 s on cpu, data set demo, seed 0.' in page.text
    assert 'No published figure for demo: the paper reports VOC 2012 and COCO 2014.' in page.text
    cost = dict(page.table('Times are')[1:])
    assert (cost['Time, all'], cost['of which training']) == ('3 min 41 s', '3 min 00 s (81%)')
    assert (cost['Images per second, training'], cost['Peak memory of the process']) == ('31.3', '1.5 GiB')
    assert 'Peak memory of the GPU' not in cost
    assert dict(page.table('What the numbers')[1:])['code (git)'] == 'abcdef0123'
    iou = dict(page.table('Segmentation: IoU')[1:])
    assert iou == {'background': '80.0%', 'dog': '55.0%', 'sofa': '41.0%', 'boat': 'absent'}
    assert 'csrm_demo' in page.text and 'To be noted' not in page.text


def test_three_runs_side_by_side(tmp_path, build, read_page):
    build['run'](tmp_path / 'a')
    build['run'](tmp_path / 'b', seed=1, score=60.0, settings={'model.extra': [1, 2]})
    build['run'](tmp_path / 'c', score=40.0, record=False)
    out = tmp_path / 'all.html'
    assert write_report([tmp_path / name for name in 'abc'], out) == str(out)
    page = read_page(out)
    assert not (tmp_path / 'a' / 'report.html').exists()
    rows = page.table('Scores of the validations')
    start = next(index for index, row in enumerate(rows) if row[0].startswith('Segmentation'))
    assert [(row[0], row[1]) for row in rows[start + 1 : start + 4]] == [
        ('a', '50.0%iteration 60'),
        ('b', '60.0%iteration 60'),
        ('c', '40.0%iteration 60'),
    ]
    assert page.table('2 settings that differ')[1:] == [
        ['randomness.seed', '0', '1', NONE],
        ['model.extra', NONE, '[1, 2]', NONE],
    ]
    assert 'No record of c, only the log' in page.text and 'Not recorded, so not compared: c.' in page.text
    assert not any(caption.startswith('The 3 runs differ in their seeds') for caption in page.tables)


def test_what_must_be_noted(tmp_path, build, read_page):
    build['run'](tmp_path / 'failed', status='failed', reason='loss is nan', iteration=30)
    build['run'](tmp_path / 'running', status='running', iterations=80)
    log = tmp_path / 'running' / '20261122_101112' / 'vis_data' / 'scalars.json'
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    next(line for line in lines if line.get('iter') == 30)['loss_s'] = math.nan
    log.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    last = tmp_path / 'running' / 'record' / 'validation_0000080.json'
    found = json.loads(last.read_text())
    found['metrics']['seg/foreground'] = 0.0
    found['context']['scales'] = [0.5, 1.0]
    last.write_text(json.dumps(found))
    text = read_page(write_report([tmp_path / 'failed', tmp_path / 'running'])).text
    for part in (
        'failed failed at iteration 60 of 60: loss is nan.',
        'running is not finished (iteration 80 of 80)',
        'running: loss_s is not a finite number at iteration 30.',
        'running: at the last validation the segmentation is background only.',
        'their validations differ in scales.',
        '(1 value not a number)',
        'The runs were scored in different ways',
    ):
        assert part in text, part


def test_alarms_of_the_training_are_noted(tmp_path, build, read_page):
    folder = build['run'](tmp_path / 'work')
    path = folder / 'record' / 'run.json'
    found = json.loads(path.read_text())
    alarms = [('a', True), ('b', False), ('c', None)]
    found['alarms'] = [
        dict(kind=f'kind {name}', text='Likely cause: `x.lr`.', first=1200, last=1700, at_end=end)
        for name, end in alarms
    ]
    path.write_text(json.dumps(found))
    text = ' '.join(read_page(write_report(folder)).text.split())
    for part in (
        'work: collapse alarm since iteration 1 200 and at the end: kind a. Likely cause: x.lr.',
        'work: collapse alarm at iteration 1 200, but not at the end: kind b.',
        'work: collapse alarm since iteration 1 200, last said at iteration 1 700: kind c.',
    ):
        assert part in text, part


def test_a_change_of_the_network_that_is_validated_is_noted(tmp_path, build, read_page):
    folder = build['run'](tmp_path / 'work')
    assert 'not all validations' not in read_page(write_report(folder)).text
    first = min((folder / 'record').glob('validation_*.json'))
    found = json.loads(first.read_text())
    found['context']['weights'] = 'student (the teacher is frozen in the warm-up)'
    first.write_text(json.dumps(found))
    wanted = (
        f"student's weights (the teacher is frozen in the warm-up) up to iteration {found['iteration']}, then teacher's"
    )
    assert wanted in read_page(write_report(folder)).text


def test_hostile_names_are_text(tmp_path, build, read_page):
    folder = tmp_path / '<b>&"run$'
    build['pictures'](
        build['run'](
            folder,
            name=HOSTILE,
            settings={HOSTILE: HOSTILE},
            status='failed',
            reason=HOSTILE,
            classes=[HOSTILE] * 4,
            versions={HOSTILE: HOSTILE},
        )
    )
    path = folder / 'record' / 'validation_0000060.json'
    found = json.loads(path.read_text())
    found['parts']['seg']['iou'] = {HOSTILE: 50.0}
    found['context'].update(split=HOSTILE, weights=HOSTILE)
    found['metrics'][f'{HOSTILE}/mIoU'] = 5.0
    path.write_text(json.dumps(found))
    pictures = folder / 'record' / 'pictures.json'
    content = json.loads(pictures.read_text())
    content['items'][0].update(id=HOSTILE, labels=[HOSTILE])
    content['items'][0]['panels'][0]['name'] = HOSTILE
    pictures.write_text(json.dumps(content))
    page = read_page(write_report([folder, build['run'](tmp_path / 'other')]))
    assert len(page.all('script')) == 1 and not page.all('b', **{'"run$': None})
    assert page.source.count('<script>') == 1 and page.text.count(HOSTILE) > 10


@pytest.mark.parametrize('part', ['validations', 'pictures', 'cost', 'settings', 'log', 'scores'])
def test_missing_parts_are_left_out(tmp_path, build, read_page, part):
    folder = build['pictures'](build['run'](tmp_path))
    path = folder / 'record' / 'run.json'
    build['write'](path, {key: value for key, value in json.loads(path.read_text()).items() if key != part})
    log = folder / '20261122_101112' / 'vis_data' / 'scalars.json'
    if part in ('validations', 'scores'):
        for path in (folder / 'record').glob('validation_*.json'):
            path.unlink()
    if part == 'pictures':
        (folder / 'record' / 'pictures.json').unlink()
    if part in ('log', 'scores'):
        log.unlink()
    page = read_page(write_report(folder))
    gone = {
        'validations': 'IoU per class',
        'pictures': 'Pictures: best',
        'settings': 'All settings',
        'log': 'Losses',
        'scores': 'Scores of the validations',
        'cost': 'of which training',
    }
    assert gone[part] not in page.text
    if part == 'validations':  # the log has the scores, but not what they stand on
        assert page.table('Scores of the validations')[1][3] == 'split not recorded, no labels given, seed 0'
    if part == 'scores':
        assert 'no validation was logged' in page.text


def test_the_same_run_gives_the_same_file(tmp_path, build):
    folder = build['pictures'](build['run'](tmp_path))
    first, second = (Path(write_report(folder, tmp_path / name)).read_text() for name in ('1.html', '2.html'))
    assert first == second
