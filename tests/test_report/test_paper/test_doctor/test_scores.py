from csrm_plugin.report.paper import doctor


def test_scores_are_what_is_better_when_higher_at_one_threshold(run, other, card_of, compare):
    card_of(run, 'classifier')['scores']['train'] |= {'cam/threshold': 0.1, 'cam/mIoU@0.05': 1.0, 'iou': {'cow': 1.0}}
    card_of(other, 'classifier')['scores']['train'] |= {'cam/mIoU@0.05': 9.0, 'seg/foreground': 70.0}
    findings, _ = compare(run, other)
    assert [score['metric'] for score in findings['classifier']['scores']] == ['pseudo/mIoU', 'cam/mIoU']
    assert findings['classifier']['state'] == 'same'


def test_scores_that_are_no_numbers_or_not_there(run, other, card_of, compare):
    card_of(run, 'csrm')['scores']['train']['pseudo/mIoU'] = None  # NaN, as it is written
    findings, sentence = compare(run, other)
    assert findings['csrm']['state'] == 'off' and 'pseudo/mIoU train no number against 50.0' in sentence
    card_of(run, 'csrm')['scores'] = {'val': {'pseudo/mIoU': 45.0}}
    findings, _ = compare(run, other)
    assert findings['csrm']['state'] == 'same'
    card_of(run, 'csrm')['scores'] = {}
    findings, sentence = compare(run, other)
    assert findings['csrm']['state'] == 'unscored' and doctor.is_off(findings['csrm'])
    assert 'csrm: it holds none of the scores of the reference (pseudo/mIoU train, pseudo/mIoU val)' in sentence
