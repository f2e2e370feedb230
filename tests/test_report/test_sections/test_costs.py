from csrm_plugin.report import write_report


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
