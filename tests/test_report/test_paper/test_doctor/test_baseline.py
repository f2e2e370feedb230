import copy

import pytest

from csrm_plugin.report.paper import doctor
from csrm_plugin.report.paper.doctor import baseline_lines, compare_with_baseline, is_below


@pytest.fixture
def pipeline(label_card):
    """Cards of a run on MSRC: the CAM of the classifier, CSRM's labels, and a network on either and on true masks."""
    labels = [
        label_card('labels_cam', 2, 53.9, 50.0, made_by='CAMClassifier', own='cam', threshold=0.3),
        label_card('labels_csrm', 3, 47.6, 50.2),
    ]
    networks = [
        dict(
            stage=f'verify_{name}',
            kind='verify',
            number=number,
            scores=dict(val={'seg/mIoU': score}),
            context=dict(labels=name, scales=[1], flip=True, crf={}),
            config=dict(file='mmcfg/deeplabv3plus_x.py', settings={}),
        )
        for number, (name, score) in enumerate((('labels_cam', 41.0), ('labels_csrm', 43.0), ('true masks', 30.0)), 4)
    ]
    return [{**card, 'run': 'msrc', 'dataset': 'msrc', 'status': 'done'} for card in (*labels, *networks)]


def test_labels_below_the_plain_baseline_are_named_first(pipeline):
    found = compare_with_baseline(pipeline)
    assert is_below(found)
    assert baseline_lines(found) == [
        "CSRM's labels are below the plain baseline, at the same scales, flip and dCRF: labels_csrm mIoU train 47.6 "
        'against 53.9 of labels_cam (-6.3).'
    ]
    assert {score['stage'] for score in found['scores']} == {'labels_csrm', 'verify_labels_csrm'}  # no true masks


def test_networks_on_the_labels_count_as_well(pipeline):
    pipeline[3]['scores']['val']['seg/mIoU'] = 40.0
    line = baseline_lines(compare_with_baseline(pipeline))[1]
    assert line == (
        'The network trained on labels_csrm is below that on the plain baseline, at the same scales, flip and dCRF: '
        'verify_labels_csrm seg/mIoU val 40.0 against 41.0 of verify_labels_cam (-1.0).'
    )


def test_what_is_within_the_tolerance_is_fine(pipeline):
    found = compare_with_baseline(pipeline, tolerance=6.3)
    assert not is_below(found)
    (line,) = baseline_lines(found)
    assert line.startswith('Nothing is more than 6.3 points below the plain baseline, at the same scales')
    assert 'labels_csrm mIoU val 50.2 against 50.0 of labels_cam (+0.2)' in line


def test_a_run_without_a_baseline_or_without_its_budget(pipeline):
    assert baseline_lines(compare_with_baseline(pipeline[1:])) == []
    pipeline[1]['context']['scales'] = [1]
    found = compare_with_baseline(pipeline[:2])
    assert not is_below(found) and baseline_lines(found) == [
        'Nothing in this run has the budget of the plain baseline.'
    ]


def test_a_run_with_a_baseline_needs_no_other_reference(pipeline, write):
    folder = write('run', pipeline)
    assert [card['stage'] for card in doctor.load_pair(folder)[0]] == [card['stage'] for card in pipeline]
    assert doctor.load_pair(folder)[1] == []
    other = write('other', copy.deepcopy(pipeline))
    assert len(doctor.load_pair(folder, other)[1]) == len(pipeline)
