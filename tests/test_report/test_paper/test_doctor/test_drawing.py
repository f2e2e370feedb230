from csrm_plugin.report.paper import doctor, published


def change_setting(card):
    card['config']['settings'] |= {'lr': 0.2, 'new': None}
    del card['config']['settings']['model.width']


def test_table_shows_stages_differences_and_scores(run, other, card_of, lower, drawn):
    change_setting(card_of(run, 'csrm'))
    card_of(run, 'csrm')['config']['settings']['bold'] = '[red]'  # no markup
    card_of(run, 'csrm')['config']['settings'] |= {f'z{i}': i for i in range(9)}
    lower(run, 'csrm', 'val', 2.25)
    lower(run, 'classifier', 'train', -1)
    table = drawn(doctor.compare_runs(run[:4], other))
    for text in ('lr 0.2 against 0.1', 'bold [red] against not set', 'and 5 more', 'not in this run', 'nothing'):
        assert text in table
    cells = [[cell.strip() for cell in line.split('│')[3:-1]] for line in table.splitlines() if 'mIoU val' in line]
    assert ['pseudo/mIoU val', '42.75', '45.0', '-2.25'] in cells
    assert '+1.0' in table


def test_notes_of_the_reference_are_given_once(paper_run, drawn):
    findings = doctor.compare_runs(paper_run(), published.paper_card_run('voc'))
    lines = doctor.note_lines(findings)
    assert any(line.startswith('classifier, csrm: ') for line in lines)
    assert any(line.startswith('labels_csrm_crf: the check marks') for line in lines)
    assert len(lines) == len(set(lines))
    assert 'Table 2, second row 4' in drawn(findings)
