from csrm_plugin.utils.spelling import did_you_mean, nearest


def test_the_nearest_name_or_none():
    assert nearest('model.bakbone', {'model.neck': 1, 'model.backbone': 2}) == 'model.backbone'
    assert nearest('x', ['method']) is None and nearest('x', []) is None
    assert nearest('mxxxxx', ['method', 'zzz'], cutoff=0.0) == 'method'
    assert nearest(3, ['30', 'z']) == '30'  # a key of YAML may be a number


def test_a_message_ends_with_the_nearest_name_or_with_all():
    assert did_you_mean('methd', iter(['metric', 'method'])) == '; did you mean `method`?'
    assert did_you_mean('x', iter(['metric', 'method'])) == '; known are metric, method'
