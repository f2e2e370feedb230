import pytest

from csrm_plugin.inference.audit_labels.recommend import cautions, reach, recommend
from csrm_plugin.inference.audit_labels.settings import make_plan
from csrm_plugin.models.segmentors import PseudoLabelSettings

#: fg, bg: coverage, labelled of the objects, mIoU
TABLE = {
    (0.5, 0.3): (82, 90, 54.0),
    (0.6, 0.4): (85, 88, 43.9),
    (0.7, 0.1): (40, 50, 70.0),
    (0.8, 0.3): (92, 60, 58.0),
    (0.5, 0.4): (95, 95, 53.5),
}


def plan_of(pairs, crf=False, config=(0.9, 0.9)):
    own = PseudoLabelSettings(*config, refine='none')
    fg, bg = zip(*pairs)
    plan = make_plan(own, fg=fg, bg=bg, crf=crf)
    return plan


def rows_of(plan, table, other=(10, 10, 5.0)):
    rows = []
    for setting in plan.settings:
        coverage, labelled, miou = table.get(setting[2:], other)
        rows.append(dict(coverage=float(coverage), miou=miou, foreground=dict(labelled=labelled)))
    return rows


def test_best_miou_among_those_that_label_enough():
    plan = plan_of(TABLE)
    (choice,) = recommend(rows_of(plan, TABLE), plan)
    assert (choice['fg_threshold'], choice['bg_threshold'], choice['reached']) == (0.5, 0.3, True)
    assert 'best mIoU on labelled pixels (54.00)' in choice['reason'] and 'at least 80 %' in choice['reason']
    assert '3 of' in choice['reason'], 'neither the one with few pixels nor the one with few objects'
    assert [plan.settings[place][2:] for place in choice['close']] == [(0.5, 0.4)]


def test_another_least_coverage():
    plan = plan_of(TABLE)
    (choice,) = recommend(rows_of(plan, TABLE), plan, 40)
    assert (choice['fg_threshold'], choice['bg_threshold']) == (0.7, 0.1)
    (choice,) = recommend(rows_of(plan, TABLE), plan, 99)
    assert (choice['fg_threshold'], choice['bg_threshold'], choice['reached']) == (0.5, 0.4, False)
    assert 'none of the' in choice['reason'] and '--min-coverage' in choice['reason'] and choice['close'] == []


def test_equally_good_ones_go_by_coverage():
    table = {(0.5, 0.3): (81, 90, 50.0), (0.6, 0.3): (90, 90, 50.0)}
    plan = plan_of(table)
    assert recommend(rows_of(plan, table), plan)[0]['fg_threshold'] == 0.6


def test_one_for_each_refinement_the_best_first():
    pytest.importorskip('pydensecrf')
    plan = plan_of([(0.5, 0.3)], crf=None)
    rows = rows_of(plan, {})
    for setting, row in zip(plan.settings, rows):
        row.update(coverage=90.0, miou=50.0 if setting.refine == 'crf' else 40.0, foreground=dict(labelled=None))
    assert [choice['refine'] for choice in recommend(rows, plan)] == ['crf', 'none']


def test_other_views_of_the_config_are_no_candidates():
    own = PseudoLabelSettings(0.9, 0.9, refine='none')
    plan = make_plan(own, scales=[0.5], fg=[0.5], bg=[0.3], crf=False)
    rows = rows_of(plan, {(0.9, 0.9): (100, 100, 99.0), (0.5, 0.3): (90, 90, 50.0)})
    assert recommend(rows, plan)[0]['fg_threshold'] == 0.5


def test_reach_is_the_lesser_of_both():
    assert reach(dict(coverage=90, foreground=dict(labelled=70))) == 70
    assert reach(dict(coverage=60, foreground=dict(labelled=None))) == 60


def test_cautions():
    assert cautions(50, dict(background=5, cat=5)) == []
    (few,) = cautions(49, dict(background=5, cat=5))
    assert few.startswith('49 pictures are a handful')
    assert cautions(1, dict(background=5, cat=5))[0].startswith('1 picture is a handful')
    (absent,) = cautions(99, dict(background=0, cat=5, dog=0))
    assert absent == '1 of 2 classes are in none of the masks: dog'
    assert 'and 2 more' in cautions(99, dict(background=0, **{f'c{i}': 0 for i in range(7)}))[0]
