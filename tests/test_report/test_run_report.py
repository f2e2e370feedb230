import json
import math
from pathlib import Path

import pytest

from csrm_plugin.report import write_report
from csrm_plugin.report.curves import group_keys, threshold_section
from csrm_plugin.report.formats import NONE
from csrm_plugin.report.markup import Ids
from csrm_plugin.report.scores import published_figure
from csrm_plugin.report.settings import differing_settings
from csrm_plugin.report.sources import load_runs
from csrm_plugin.utils import UserError

MORE_KEYS = (
    'affinity/mean',
    'decode.loss_ce',
    'base_lr',
    'reliable/u',
    'alpha',
    'sigma_s2c',
    'bank/age',
    'bank/fill',
    'pseudo/foreground',
    'queries/classes',
    'data_time',
)
HOSTILE = '<script>alert(1)</script>"&\'$x_1$'
CLASSIFIER = {'model.type': 'CAMClassifier', 'model.cam_head.type': 'CAMHead'}
COCO = {'train_dataloader.dataset.type': 'COCO14WSSSDataset'}
VOC = {'train_dataloader.dataset.type': 'VOC12WSSSDataset'}


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


def test_pictures_and_samples(tmp_path, build, read_page):
    page = read_page(write_report(build['pictures'](build['run'](tmp_path))))
    for text in ('Best: 90.0% img_best', 'Median: 50.0% img_median', 'Worst: 5.0% img_worst', 'Image labels: dog.'):
        assert text in page.text
    assert [found['alt'] for found in page.all('img')][:2] == ['input of img_best', 'CAM of img_best']
    (box,) = page.all('input', type='range')
    assert (box['min'], box['max'], box['value']) == ('0', '2', '2')
    frames = [found for found in page.all('img') if 'data-step' in found]
    assert [(found['data-step'], 'hidden' in found) for found in frames] == 2 * [
        ('20', True),
        ('40', True),
        ('60', False),
    ]
    colours = [found['style'] for found in page.all('i') if 'background:rgb' in found.get('style', '')]
    assert colours == [f'background:rgb({rgb})' for rgb in ('0,0,0', '128,0,0', '0,128,0', '0,0,128')]


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


def test_differing_settings_know_types_and_order(tmp_path, build):
    """Numbers that are equal are no difference, but True and 1 are; the main settings come first."""
    same = {'a': 1, 'b': True, 'z.c': [1, 2]}
    other = {'a': 1.0, 'b': 1, 'z.c': [1.0, 3], 'model.type': 'RML'}
    folders = [build['run'](tmp_path / name, settings=found) for name, found in (('x', same), ('y', other))]
    assert differing_settings(load_runs(folders)[0]) == {
        'model.type': ['CSRM', 'RML'],
        'b': [True, 1],
        'z.c': [[1, 2], [1.0, 3]],
    }


def test_seeds_have_mean_and_deviation(tmp_path, build, read_page):
    for seed, score in enumerate((50.0, 52.0, 57.0)):
        build['run'](tmp_path / f'seed_{seed}', seed=seed, score=score)
    page = read_page(write_report(tmp_path))
    rows = page.table('The 3 runs differ in their seeds alone (0, 1, 2). Scores at iteration 60')
    assert rows[1] == ['Segmentation mIoU', '53.0%', '3.61', '50.0% to 57.0%']


def test_other_data_labels_or_starts_are_other_settings(tmp_path, build, read_page):
    data, labels = 'train_dataloader.dataset.data_root', 'train_dataloader.dataset.pseudo_label_dir'
    build['run'](tmp_path / 'a', sources={data: 'data/a', labels: 'labels'}, load_from='cam/epoch_1.pth')
    build['run'](tmp_path / 'b', seed=1, sources={data: 'data/b', labels: 'labels'}, load_from='cam/epoch_2.pth')
    page = read_page(write_report(tmp_path))
    assert page.table('3 settings that differ')[1:] == [
        ['load_from', 'cam/epoch_1.pth', 'cam/epoch_2.pth'],
        ['randomness.seed', '0', '1'],
        [data, 'data/a', 'data/b'],
    ]
    assert 'seeds alone' not in page.text
    single = read_page(write_report(tmp_path / 'a')).table('The main settings')
    assert [data, 'data/a'] in single and [labels, 'labels'] in single


def test_a_record_without_its_data_folders_says_so(tmp_path, build, read_page):
    build['run'](tmp_path / 'a')
    for name in ('b', 'c'):
        path = build['run'](tmp_path / name) / 'record' / 'run.json'
        build['write'](path, {key: value for key, value in json.loads(path.read_text()).items() if key != 'sources'})
    page = read_page(write_report([tmp_path / 'b', tmp_path / 'c']))
    assert 'The settings of these runs are the same. Which folders the data came from was not recorded' in page.text
    page = read_page(write_report([tmp_path / 'a', tmp_path / 'b']))
    assert page.table('1 setting that differs')[1][1:] == ['data/demo', 'not recorded']


@pytest.mark.parametrize(
    ('more', 'text'),
    [
        (dict(git={'revision': 'f' * 40, 'dirty': False}), 'the revision of the code'),
        (dict(git={'revision': 'abcdef0123456789', 'dirty': True}), 'changes of the code that are not committed'),
        (dict(versions={'python': '3.11.7', 'torch': '2.4.0'}), 'the version of torch'),
        (dict(versions={'torch': '2.13.0'}), 'the version of python'),
    ],
)
def test_other_code_is_named_where_settings_are_the_same(tmp_path, build, read_page, more, text):
    build['run'](tmp_path / 'a')
    build['run'](tmp_path / 'b', **more)
    assert f'The settings of these runs are the same, but not {text}.' in read_page(write_report(tmp_path)).text
    build['run'](tmp_path / 'seeds' / 'a')
    build['run'](tmp_path / 'seeds' / 'b', seed=1, **more)
    page = read_page(write_report(tmp_path / 'seeds'))
    assert f'The 2 runs differ in their seeds (0, 1) and in {text}.' in page.text and 'seeds alone' not in page.text


def test_changes_that_are_not_committed_may_differ(tmp_path, build, read_page):
    for seed in (0, 1):
        build['run'](tmp_path / str(seed), seed=seed, git={'revision': 'a' * 40, 'dirty': True})
    text = read_page(write_report(tmp_path)).text
    assert 'seeds alone (0, 1)' in text and 'changes that are not committed, which may differ' in text
    build['run'](tmp_path / 'single')
    assert 'may differ' not in read_page(write_report(tmp_path / 'single')).text


def test_curves_of_all_keys_in_their_groups(tmp_path, build, read_page):
    folder = build['run'](tmp_path)
    log = folder / '20261122_101112' / 'vis_data' / 'scalars.json'
    line = build['training_line'](70, 60, **dict.fromkeys(MORE_KEYS, 0.5))
    log.write_text(log.read_text() + json.dumps(line) + '\n')
    runs = load_runs([folder])[0]
    groups = {title: keys for (title, _), keys in group_keys(runs).items()}
    assert groups == {
        'Losses': ['loss', 'decode.loss_ce', 'loss_s'],
        'Reliable pixels': ['reliable/s', 'reliable/u'],
        'Schedules': ['lr', 'alpha', 'base_lr', 'sigma_s2c'],
        'Memory bank': ['bank/age', 'bank/fill'],
        'Foreground': ['pseudo/foreground'],
        'Speed and memory': ['data_time', 'time'],
        'Other values': ['affinity/mean', 'queries/classes'],
    }
    page = read_page(write_report(folder))
    for key in (key for keys in groups.values() for key in keys):
        assert any(key in title for title in page.text.split('over the iteration')), key


def test_threshold_curve_marks_best_and_fixed(tmp_path, build, read_page):
    page = read_page(write_report(build['run'](tmp_path / 'run')))
    fixed = 40 * math.exp(-(0.15**2) / 0.08)
    assert f'run: CAM: best 40.0% at 0.3, fixed {fixed:.1f}% at 0.15 (val, iteration 60)' in page.text
    assert 'The best threshold (star) was chosen' in page.text and 'segmentation, cut at t' not in page.text


def test_the_segmentation_cut_at_thresholds_stands_beside_the_cams(tmp_path, build, read_page):
    cuts = {'one': (61.0, 63.5, 60.0), 'two': (51.0, 50.0, 49.25)}
    for name, values in cuts.items():
        path = build['run'](tmp_path / name) / 'record' / 'validation_0000060.json'
        content = json.loads(path.read_text())
        content['metrics'] |= {f'pseudo/mIoU@{at}': value for at, value in zip(('0.05', '0.10', '0.15'), values)}
        build['write'](path, content)
    build['run'](tmp_path / 'old')
    page = read_page(write_report(tmp_path))
    assert page.text.count('one: CAM: best 40.0% at 0.3') == page.text.count('old: CAM: best 40.0% at 0.3') == 1
    assert 'one: segmentation, cut at t: best 63.5% at 0.1 (val, iteration 60)' in page.text
    assert 'two: segmentation, cut at t: best 51.0% at 0.05 (val, iteration 60)' in page.text
    assert 'old: segmentation' not in page.text
    # What is drawn, in words: first and last value, lowest and highest.
    drawn = '61% at threshold t 0.05, 60% at 0.15, between 60% and 63.5%'
    assert f'one: segmentation, cut at t: {drawn}' in page.text
    for kept in ('The best threshold of the CAMs (star)', 'The best threshold of the segmentation, which has no star'):
        assert kept in page.text
    # They are no charts, no scores and no rows of their own.
    assert 'mIoU@' not in page.text


def test_only_the_segmentation_of_a_run_was_cut(tmp_path, build):
    metrics = {'pseudo/mIoU@0.05': 61.0, 'pseudo/mIoU@0.10': 63.5}
    run = load_runs([build['run'](tmp_path / 'run')])[0][0]
    for item in run.record.validations:
        item['metrics'] = metrics
    text = ''.join(threshold_section(Ids(), [run]).content)
    assert 'run: segmentation, cut at t: best 63.5% at 0.1' in text and 'CAM:' not in text and '(star)' not in text
    for item in run.record.validations:
        item['metrics'] = {}
    assert threshold_section(Ids(), [run]).content == []


def test_paper_figures_stand_beside_where_there_are_some(tmp_path, build, read_page):
    settings = {**VOC, **{f'model.loss_{loss}.type': 'L' for loss in ('s2c', 'u', 'm')}}
    page = read_page(write_report(build['run'](tmp_path / 'voc', 'csrm_voc', settings=settings)))
    head, *rows = page.table('Scores of the validations')
    column = head.index('Paper')
    assert {row[0].split()[0]: row[column] for row in rows} == {
        'Segmentation': NONE,
        'Pseudo-label': '69.8%Table 1, row 4',
        'CAM': NONE,
        'Classification': NONE,
    }
    assert '10.5220/0013238400003912' in page.text and 'test-time augmentation' in page.text


@pytest.mark.parametrize(
    ('name', 'settings', 'expected'),
    [
        ('csrm_voc_1_s', VOC, ('Table 1, row 1', {'train': 69.9, 'val': 67.7})),
        ('csrm_voc', {**VOC, 'model.loss_m.type': 'L'}, None),  # s and m alone are in no row
        ('cam_voc', {**VOC, **CLASSIFIER}, ('Table 2, row 1', {'train': 59.9, 'val': 59.8})),
        # A method without a decoder is no classifier.
        ('rml_voc', {**VOC, **CLASSIFIER, 'model.type': 'RML'}, None),
        ('csrm_coco', {'train_dataloader.dataset.type': 'COCO14WSSSDataset'}, None),
        ('csrm_demo', {}, None),
    ],
)
def test_which_figure_of_the_paper_a_run_has(tmp_path, build, name, settings, expected):
    figure = published_figure(load_runs([build['run'](tmp_path, name, settings=settings)])[0][0])
    assert (figure and (figure.source, figure.scores)) == expected


@pytest.mark.parametrize(
    ('name', 'settings', 'labels', 'expected'),
    [
        ('deeplabv2_r101_voc_pseudo', VOC, 'labels_csrm_crf', ('Table 3', {'val': 69.8, 'test': 70.4})),
        ('deeplabv2_r101_voc_pseudo', VOC, 'true masks', ('Table 3', {'val': 76.8, 'test': 76.2})),
        ('deeplabv2_r101_voc_pseudo', VOC, 'labels_cam_crf', None),
        ('deeplabv2_r101_voc_pseudo', VOC, None, None),
        ('deeplabv2_r101_coco_pseudo', COCO, 'labels_csrm', ('Table 4', {'val': 46.2})),
        ('deeplabv2_r101_coco_pseudo', COCO, 'true masks', None),
    ],
)
def test_the_figure_of_a_network_depends_on_its_labels(tmp_path, build, read_page, name, settings, labels, expected):
    if labels:  # as the card of a pipeline says
        card = dict(stage='verify', kind='verify', run='voc', number=1, status='done', context={'labels': labels})
        build['write'](tmp_path / 'verify' / 'card.json', card)
    folder = build['run'](tmp_path / 'verify' / 'train', name, settings=settings)
    given = tmp_path if labels else folder
    figure = published_figure(load_runs([given])[0][0])
    assert (figure and (figure.source, figure.scores)) == expected
    if figure:
        assert figure.note.startswith(
            'trained on true masks' if labels == 'true masks' else 'trained on labels by CSRM'
        )
        return
    page = read_page(write_report(given))
    head, row, *_ = page.table('Scores of the validations')
    assert row[head.index('Paper')] == NONE
    assert ('which are not known here: train' in page.text) == (labels is None)


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


def test_a_broken_record_is_named_and_no_report_is_left(tmp_path, build):
    folder = build['run'](tmp_path)
    (folder / 'record' / 'run.json').write_text('{')
    with pytest.raises(UserError, match=r'run\.json'):
        write_report(folder)
    assert not list(folder.glob('*.html')) and not list(folder.glob('.report*'))
    with pytest.raises(UserError, match='at least one'):
        write_report([])


@pytest.mark.parametrize(
    ('file', 'change', 'message'),
    [
        ('run', {'settings': 3}, '`settings` must be an object'),
        ('run', {'cost': [1]}, '`cost` must be an object'),
        ('run', {'cost': {'peak_memory_mib': 3}}, '`peak_memory_mib` must be an object'),
        ('run', {'palette': [3]}, '`palette` must hold lists of three numbers'),
        ('run', {'checkpoint': 3}, '`checkpoint` must be a text'),
        ('pictures', {'items': 3}, '`items` must be a list'),
        ('pictures', {'items': [3]}, 'picture 0 or a panel of it is no object'),
        ('pictures', {'items': [{'role': 'best', 'panels': ['a']}]}, 'picture 0 or a panel of it is no object'),
        ('pictures', {'items': [{'role': 'best', 'labels': 3}]}, '`labels` must be a list'),
        ('validation_0000060', {'parts': [1]}, '`parts` must be an object'),
        ('validation_0000060', {'parts': {'seg': 3}}, 'parts: `seg` must be an object'),
        ('validation_0000060', {'parts': {'seg': {'iou': 3}}}, 'parts: seg: `iou` must be an object'),
        ('validation_0000060', {'context': 'val'}, '`context` must be an object'),
        ('validation_0000060', {'context': {'pseudo_label': 'cam'}}, 'context: `pseudo_label` must be an object'),
        ('validation_0000060', {'metrics': None, 'iteration': None}, 'validation'),
    ],
)
def test_what_is_of_the_wrong_type_is_named(tmp_path, build, file, change, message):
    path = build['pictures'](build['run'](tmp_path)) / 'record' / f'{file}.json'
    build['write'](path, {**json.loads(path.read_text()), **change})
    with pytest.raises(UserError, match=path.name) as info:
        write_report(tmp_path)
    assert message in str(info.value) and '\n' not in str(info.value) and not list(tmp_path.glob('*.html'))


@pytest.mark.parametrize('place', ['../../secret.png', 'pictures/../../secret.png', '/etc/secret.png', '..'])
def test_pictures_outside_the_record_are_refused(tmp_path, build, place):
    folder = build['pictures'](build['run'](tmp_path / 'run'))
    (folder / 'record' / 'pictures' / 'best_input.png').rename(tmp_path / 'secret.png')
    path = folder / 'record' / 'pictures.json'
    content = json.loads(path.read_text())
    content['items'][0]['panels'][0]['file'] = place
    build['write'](path, content)
    with pytest.raises(UserError, match=r'pictures\.json.*lies outside'):
        write_report(folder)


def test_half_written_samples_are_left_out_with_a_note(tmp_path, build, read_page):
    folder = build['pictures'](build['run'](tmp_path))
    images = folder / '20261122_101112' / 'vis_data' / 'vis_image'
    for name in ('sample_s1_60.png', 'sample_s2_60.png', 'sample_s2_20.png'):
        path = images / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    page = read_page(write_report(folder))
    frames = [(found['alt'].split()[0], found['data-step']) for found in page.all('img') if 'data-step' in found]
    assert frames == [('s1', '20'), ('s1', '40'), ('s2', '40')]
    (box,) = page.all('input', type='range')
    assert box['max'] == '1' and page.all('div', **{'data-scrub': '[20, 40]'})
    assert 'cannot be read (a run that was killed leaves such): sample_s1_60.png sample_s2_20.png' in page.text
    for path in images.iterdir():
        path.write_bytes(b'')
    page = read_page(write_report(folder))
    assert not page.all('input', type='range') and 'sample_s1_20.png' in page.text


@pytest.mark.parametrize(
    ('panel', 'settings', 'expected'),
    [
        (
            'training label',
            {},
            ('The panel "training label" is what the model learns from: the CAM at two thresholds', 1),
        ),
        ('training label', {}, ('two thresholds, refined with dCRF, with', 1)),
        ('training label', {'model.pseudo_label.refine': 'par'}, ('two thresholds, refined with PAR, with', 1)),
        ('training label', {'model.pseudo_label.refine': 'none'}, ('two thresholds, not refined, with', 1)),
        ('training label', {'model.pseudo_label.crf': None}, ('two thresholds, not refined, with', 1)),
        ('pseudo label', {}, ('The panel "pseudo label" is what the model learns from', 1)),  # an older record of CSRM
        ('pseudo label', CLASSIFIER, ('The panel "pseudo label" is what Pseudo-label mIoU scores: the CAM of', 0)),
    ],
)
def test_what_the_panel_of_labels_is(tmp_path, build, read_page, panel, settings, expected):
    folder = build['pictures'](build['run'](tmp_path, settings=settings))
    path = folder / 'record' / 'pictures.json'
    content = json.loads(path.read_text())
    for item in content['items']:
        item['panels'][2]['name'] = panel
    build['write'](path, content)
    text = read_page(write_report(folder)).text
    assert expected[0] in text and text.count('It is not what Pseudo-label mIoU scores') == expected[1]
    assert 'each over the classes in its mask or its prediction' in text


def test_the_cost_of_a_run_that_did_not_finish_is_a_part(tmp_path, build, read_page):
    build['run'](tmp_path / 'a', status='failed', iteration=40)
    build['run'](tmp_path / 'b')
    text = read_page(write_report(tmp_path)).text
    assert 'a did not finish: its cost is up to iteration 40' in text and 'b did not finish' not in text
    assert '2 runs together, a up to iteration 40.' in text
    page = read_page(write_report(tmp_path / 'a'))
    assert '3 min 41 s up to iteration 40 on cpu' in page.text
    assert dict(page.table('Times are')[1:])['Trainable parameters'] == '11.70 million'
    assert 'up to iteration' not in read_page(write_report(tmp_path / 'b')).text


def test_the_same_run_gives_the_same_file(tmp_path, build):
    folder = build['pictures'](build['run'](tmp_path))
    first, second = (Path(write_report(folder, tmp_path / name)).read_text() for name in ('1.html', '2.html'))
    assert first == second


def test_tests_of_checkpoints_are_listed(tmp_path, build, read_page):
    context = dict(checkpoint='w/epoch_6.pth', ann_file='ImageSets/Segmentation/train.txt', pictures=7, scales=[1])
    for seed, name in enumerate(('a', 'b')):
        build['run'](tmp_path / name, seed=seed + 3)
        context['checkpoint'] = f'work_dirs/{name}/epoch_6.pth'
        # The seed of the test's config is not that of the training.
        test = {'seg/mIoU': 51.24 + seed, 'cam/mIoU': 40.0, 'cam/threshold': 0.1, 'context': {**context, 'seed': 99}}
        build['write'](tmp_path / f'{name}_train.json', test)
    more = {'ann_file': 'lists/val.txt', 'checkpoint': 'epoch_6.pth'}
    build['write'](tmp_path / 'a_val.json', {'seg/mIoU': 33.0, 'context': {**context, **more}})
    head, *rows = read_page(write_report(tmp_path)).table('Scores of finished')
    assert head == ['Score', 'a', 'b', 'Stands on']
    stands = 'train, 7 pictures, no labels given, scale 1, no flip, no dCRF, checkpoint epoch_6.pth'
    assert rows[0] == ['Segmentation mIoU', '51.2%seed 3', '52.2%seed 4', stands]
    assert rows[1][:2] == ['CAM mIoU', '40.0%at 0.1, seed 3']
    assert rows[1][3].endswith('epoch_6.pth; best threshold of each, chosen with the masks')
    assert rows[2][:3] == ['Segmentation mIoU', '33.0%seed 3', NONE]


def test_tests_of_one_run_stand_side_by_side(tmp_path, build, read_page):
    """Other checkpoints, test-time augmentation, and what only the names of the files tell."""
    folder = build['run'](tmp_path / 'run')
    context = dict(split='val', scales=[1], checkpoint='work_dirs/run/epoch_6.pth', tta=False)
    for index, more in enumerate(
        ({}, {'tta': True}, {'checkpoint': 'work_dirs/run/epoch_4.pth'}, {'checkpoint': 'other/epoch_6.pth'}, {}, {})
    ):
        report = {'seg/mIoU': 50.0 + min(index, 4), 'context': {**context, **more}}
        build['write'](folder / f'test_{index}.json', report)
    rows = read_page(write_report(folder)).table('Scores of finished')[1:]
    start = 'val, no labels given, scale 1, no flip, no dCRF, '
    assert [(row[1], row[2].removeprefix(start)) for row in rows] == [
        ('50.0%seed 0', 'checkpoint epoch_6.pth'),
        ('51.0%seed 0', 'test-time augmentation, checkpoint epoch_6.pth'),
        ('52.0%seed 0', 'checkpoint epoch_4.pth, not the last one, epoch_6.pth'),
        ('53.0%seed not recorded', 'checkpoint other/epoch_6.pth, of another folder'),
        ('54.0%seed 0', 'checkpoint epoch_6.pth, test_4.json'),
        ('54.0%seed 0', 'checkpoint epoch_6.pth, test_5.json'),
    ]
