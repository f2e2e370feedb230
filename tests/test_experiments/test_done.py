from csrm_plugin.experiments.done import changed_parts, why_again


def test_what_was_finished_with_the_same_key_counts():
    key = dict(settings='a', code='b')
    assert why_again(True, key, dict(key)) is None
    assert why_again(False, key, key) == 'it was not finished'
    assert why_again(True, key, dict(settings='x', code='y')) == 'changed since: settings, code of the project'
    assert why_again(True, {}, dict(seed=None)) == 'changed since: seed'  # older ones did not know it
    assert changed_parts(dict(more=1, seed=0), dict(seed=0)) == []
