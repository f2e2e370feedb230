import io

from rich.console import Console

from csrm_plugin.utils import progress


def test_without_a_terminal_lines_tell_rate_and_time_left(monkeypatch):
    monkeypatch.setattr(progress, 'LINE_INTERVAL', 0.0)
    out = io.StringIO()
    assert list(progress.track('abc', 3, 'Labels', console=Console(file=out))) == list('abc')
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and lines[0].startswith('Labels: 1/3 images,') and lines[-1].endswith(' 0 s left')


def test_on_a_terminal_there_is_a_bar():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    assert list(progress.track(iter(range(5)), 5, 'Masks', console=console)) == list(range(5))
    assert '5/5' in out.getvalue() and 'images/s' in out.getvalue()
