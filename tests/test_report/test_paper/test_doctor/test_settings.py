from csrm_plugin.report.paper import published


def test_many_settings_are_counted(run, other, card_of, compare, lower):
    card_of(run, 'csrm')['config']['settings'] |= {f'a{i:02d}': i for i in range(12)}
    lower(run, 'csrm', 'val', 2)
    findings, sentence = compare(run, other)
    assert len(findings['csrm']['settings']) == 12
    assert '12 settings differ: a00 0 against not set, ' in sentence
    assert 'a07 7 against not set, and 4 more' in sentence and 'a08' not in sentence


def test_a_part_that_is_switched_off_is_one_difference(run, other, card_of, compare):
    card_of(run, 'csrm')['config']['settings']['model.loss_m'] = None
    card_of(other, 'csrm')['config']['settings'] |= {'model.loss_m.type': 'L', 'model.loss_m.draw.number': 50}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'model.loss_m', 'here': None, 'there': 'set'}]


def test_seed_in_the_settings_is_no_setting_and_numbers_compare_as_numbers(run, other, card_of, compare):
    card_of(run, 'csrm')['config']['settings'] |= {'randomness.seed': 3, 'one': 1, 'yes': True}
    card_of(other, 'csrm')['config']['settings'] |= {'randomness.seed': 4, 'one': 1.0, 'yes': 1}
    findings, _ = compare(run, other)
    assert [entry['setting'] for entry in findings['csrm']['settings']] == ['yes']


def test_hashes_stand_in_where_settings_are_not_on_the_card(run, other, card_of, compare):
    card_of(run, 'csrm')['config'] = {'hash': 'g'}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'config', 'here': 'g', 'there': 'h'}]


def test_other_parts_of_the_key_are_settings_too(run, other, card_of, compare):
    card_of(run, 'csrm')['key_parts'] |= {'weights': {'W': 'a' * 64}, 'settings': 'b' * 64, 'data': 'x', 'mine': 1}
    card_of(other, 'csrm')['key_parts'] |= {'weights': {'W': 'c' * 64}, 'settings': 'b' * 64, 'data': 'y'}
    findings, _ = compare(run, other)
    assert findings['csrm']['settings'] == [{'setting': 'key.weights.W', 'here': 'a' * 12, 'there': 'c' * 12}]


def test_what_the_paper_sets_must_be_set_unless_it_is_our_default(card_of, compare, paper_run):
    run = paper_run()
    settings = card_of(run, 'csrm')['config']['settings']
    del settings['train_cfg.max_epochs'], settings['model.loss_m.loss_weight']
    settings['model.loss_m'] = None
    findings, _ = compare(run, published.paper_card_run('voc'))
    assert findings['csrm']['settings'] == [
        {'setting': 'model.loss_m', 'here': None, 'there': 'set'},
        {'setting': 'train_cfg.max_epochs', 'there': 15},
    ]
