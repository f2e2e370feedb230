import json
import math

from csrm_plugin.report import write_report
from csrm_plugin.report.page.markup import Ids
from csrm_plugin.report.runs.sources import load_runs
from csrm_plugin.report.sections.curves import group_keys, threshold_section

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
    'contrast/positive',
    'contrast/negative',
    'data_time',
)


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
        'Contrast': ['contrast/negative', 'contrast/positive', 'queries/classes'],
        'Other values': ['affinity/mean'],
    }
    page = read_page(write_report(folder))
    for key in (key for keys in groups.values() for key in keys):
        assert any(key in title for title in page.text.split('over the iteration')), key
    assert 'Cosine of queries with their positives contrast/positive' in page.text
    assert 'Cosine of queries with their negatives contrast/negative' in page.text


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
