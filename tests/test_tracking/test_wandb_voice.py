import logging

import pytest

from csrm_plugin.tracking.wandb_voice import Voice, first_line, shown_path


def test_each_thing_is_said_once(logged):
    voice = Voice()
    for text, key in (('one', 'a'), ('two', 'a'), ('three', 'b')):
        voice.say(text, key)
    assert [line for line in logged if line.startswith('W&B: ')] == ['W&B: one.', 'W&B: three.']
    Voice().say('one', 'a')  # another training says it again
    assert [line for line in logged if line.startswith('W&B: ')][-1] == 'W&B: one.'


def test_a_guard_lets_no_error_through_but_a_request_to_end(logged):
    voice = Voice()
    for _ in range(2):
        with voice.guard('a row was not kept'):
            raise RuntimeError('the service has gone\nand more')
    assert logged == ['W&B: a row was not kept: the service has gone; the training goes on.']
    for end in (KeyboardInterrupt, SystemExit):
        with pytest.raises(end), voice.guard('a row was not kept'):
            raise end


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('\n  <html>\n<body>not found</body>\n 404 Not Found. \nmore', '404 Not Found'),
        ('a' * 300, 'a' * 120),
        ('', 'ValueError'),
        ('<html>', 'ValueError'),
    ],
)
def test_the_first_line_of_an_error(text, expected):
    assert first_line(ValueError(text)) == expected


def test_paths_are_shown_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / 'run' / 'x')) == 'run/x'
    assert shown_path('/x') == '/x'


def test_trouble_is_a_warning(monkeypatch):
    found = []
    monkeypatch.setattr('csrm_plugin.tracking.wandb_voice.print_log', lambda *arguments: found.append(arguments))
    voice = Voice()
    with voice.guard('x'):
        raise RuntimeError('y')
    voice.say('z', 'z')
    assert [level for _, _, level in found] == [logging.WARNING, logging.INFO]
