"""The demo's labels at an equal budget; that they are made is seen in `tests/test_tools/test_demo.py`."""

from csrm_plugin.experiments.demo_labels import Trained, baseline_verdict, label_cards


def cards(before, after):
    scores = dict(labels_cam_crf=before, labels_csrm_crf=after)
    return [dict(stage=stage, scores=dict(train=dict(miou=score))) for stage, score in scores.items()]


def test_the_verdict_is_on_labels_with_dcrf():
    start = 'Labels for train at an equal budget (flip, dCRF), mIoU: '
    assert baseline_verdict(cards(50.0, 60.0)) == (
        f'{start}50.0 by the plain baseline, 60.0 by CSRM, 1.20 times as much.'
    )
    assert baseline_verdict(cards(50.0, 49.0)).endswith('49.0 by CSRM, not above it.')


def test_labels_of_both_are_made_anew_from_the_same_views(root, demo_options, checkpoint_of, tmp_path):
    trained = [
        Trained(str(root / 'mmcfg' / f'{name}.py'), checkpoint_of(name), demo_options)
        for name in ('cam_demo', 'csrm_demo')
    ]
    (tmp_path / 'labels').mkdir()
    (tmp_path / 'labels' / 'old.png').write_bytes(b'of another checkpoint')
    found = label_cards(*trained, ('train', 'val'), str(tmp_path / 'labels'), 7)
    assert [card['stage'] for card in found] == [
        'classifier',
        'csrm',
        'labels_cam',
        'labels_cam_crf',
        'labels_csrm',
        'labels_csrm_crf',
    ]
    assert sorted(path.name for path in (tmp_path / 'labels').iterdir()) == [
        'cam',
        'cam_crf',
        'csrm',
        'csrm_crf',
        'threshold_val.json',
    ]
    labels = found[2:]
    assert {(repr(card['context']['scales']), card['context']['flip']) for card in labels} == {('[1.0]', True)}
    assert [bool(card['context']['crf']) for card in labels] == [False, True, False, True]
    choice = found[2]['choice']
    assert choice['threshold'] == max(choice['curve'], key=lambda point: point['miou'])['threshold']
    assert [card['context']['threshold'] for card in labels[:2]] == [choice['threshold']] * 2
    assert {card['seed'] for card in found} == {7} and found[5]['inputs'] == dict(labels_csrm=None)
