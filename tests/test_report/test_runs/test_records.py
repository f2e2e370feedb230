import json

import pytest

from csrm_plugin.report import write_report
from csrm_plugin.utils import UserError


def test_a_broken_record_is_named_and_no_report_is_left(tmp_path, build):
    folder = build['run'](tmp_path)
    (folder / 'record' / 'run.json').write_text('{')
    with pytest.raises(UserError, match=r'run\.json'):
        write_report(folder)
    assert not list(folder.glob('*.html')) and not list(folder.glob('.report*'))
    with pytest.raises(UserError, match='at least one'):
        write_report([])


@pytest.mark.parametrize(
    ('file', 'change', 'message'),
    [
        ('run', {'settings': 3}, '`settings` must be an object'),
        ('run', {'cost': [1]}, '`cost` must be an object'),
        ('run', {'cost': {'peak_memory_mib': 3}}, '`peak_memory_mib` must be an object'),
        ('run', {'palette': [3]}, '`palette` must hold lists of three numbers'),
        ('run', {'checkpoint': 3}, '`checkpoint` must be a text'),
        ('pictures', {'items': 3}, '`items` must be a list'),
        ('pictures', {'items': [3]}, 'picture 0 or a panel of it is no object'),
        ('pictures', {'items': [{'role': 'best', 'panels': ['a']}]}, 'picture 0 or a panel of it is no object'),
        ('pictures', {'items': [{'role': 'best', 'labels': 3}]}, '`labels` must be a list'),
        ('validation_0000060', {'parts': [1]}, '`parts` must be an object'),
        ('validation_0000060', {'parts': {'seg': 3}}, 'parts: `seg` must be an object'),
        ('validation_0000060', {'parts': {'seg': {'iou': 3}}}, 'parts: seg: `iou` must be an object'),
        ('validation_0000060', {'context': 'val'}, '`context` must be an object'),
        ('validation_0000060', {'context': {'pseudo_label': 'cam'}}, 'context: `pseudo_label` must be an object'),
        ('validation_0000060', {'metrics': None, 'iteration': None}, 'validation'),
    ],
)
def test_what_is_of_the_wrong_type_is_named(tmp_path, build, file, change, message):
    path = build['pictures'](build['run'](tmp_path)) / 'record' / f'{file}.json'
    build['write'](path, {**json.loads(path.read_text()), **change})
    with pytest.raises(UserError, match=path.name) as info:
        write_report(tmp_path)
    assert message in str(info.value) and '\n' not in str(info.value) and not list(tmp_path.glob('*.html'))


@pytest.mark.parametrize('place', ['../../secret.png', 'pictures/../../secret.png', '/etc/secret.png', '..'])
def test_pictures_outside_the_record_are_refused(tmp_path, build, place):
    folder = build['pictures'](build['run'](tmp_path / 'run'))
    (folder / 'record' / 'pictures' / 'best_input.png').rename(tmp_path / 'secret.png')
    path = folder / 'record' / 'pictures.json'
    content = json.loads(path.read_text())
    content['items'][0]['panels'][0]['file'] = place
    build['write'](path, content)
    with pytest.raises(UserError, match=r'pictures\.json.*lies outside'):
        write_report(folder)
