"""What a call runs, skips and takes, and that nothing else is lost when it is stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import yaml

from csrm_plugin.experiments.pipeline import cards
from csrm_plugin.experiments.pipeline.folders import only_one
from csrm_plugin.utils import UserError


def test_every_stage_runs_once_and_leaves_a_card(project, run):
    outcome, text = run()
    assert outcome['ran'] == ['first', 'second', 'third'] and outcome['left_out'] == ['extra']
    assert 'extra: left out, TOY_MASKS is not set' in text and 'first: runs, it has not run here yet' in text
    card = json.loads((project / 'run' / 'second' / 'card.json').read_text())
    assert (card['stage'], card['number'], card['status'], card['seed']) == ('second', 2, 'done', 0)
    assert card['scores'] == dict(val=dict(miou=50.0)) and card['context'] == dict(flip=True)
    assert card['inputs'] == dict(first=cards.read_card('run/first')['key'])
    assert card['data']['val']['pictures'] == 1
    assert card['time']['seconds'] >= 0 and card['memory']['peak_mib'] > 1 and card['versions']['torch']
    assert card['command'] == [f'python tools/toy.py {os.path.join("run", "second", "out.txt")} second']

    outcome, text = run()
    assert outcome['ran'] == [] and outcome['skipped'] == ['first', 'second', 'third']
    assert text.count('skipped, inputs, code and settings are those of') == 3


def test_what_changed_decides_what_runs_again(project, run, change, monkeypatch):
    run()
    change('second', options=dict(lr=1))
    outcome, text = run()
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'second: runs, changed since: settings of the pipeline' in text
    assert 'third: runs, changed since: inputs (second)' in text

    assert 'changed since: seed' in run(seed=1)[1]
    monkeypatch.setenv('TOY_MASKS', 'x')
    assert run(seed=1)[0]['ran'] == ['extra']
    tool = project / 'tools' / 'toy.py'
    tool.write_text(tool.read_text().replace('time.sleep(600)', 'time.sleep(601)'))
    assert 'first: runs, changed since: code of the project' in run(seed=1)[1]


def test_a_comment_makes_nothing_run_again(project, run):
    run()
    tool = project / 'tools' / 'toy.py'
    tool.write_text('# A comment.\n' + tool.read_text().replace('"""A tool."""', '"""The tool."""'))
    assert run()[0]['ran'] == []


def test_outputs_count_by_content(project, run):
    run()
    out = project / 'run' / 'first' / 'out.txt'
    os.utime(out, (1, 1))
    copy = project / 'copy.txt'
    shutil.copyfile(out, copy)
    out.unlink()
    copy.rename(out)
    assert run()[0]['ran'] == []
    before = out.stat()
    out.write_text('fixed')  # as long as `first`
    os.utime(out, ns=(before.st_atime_ns, before.st_mtime_ns))
    outcome, text = run()
    assert outcome['ran'] == ['first'] and 'first: runs, its output out.txt was changed' in text
    assert out.read_text() == 'first'


def test_what_was_made_again_makes_what_stands_on_it_run_again_if_it_is_not_the_same(project, run, monkeypatch):
    run()
    (project / 'run' / 'first' / 'out.txt').unlink()
    outcome, text = run()
    assert outcome['ran'] == ['first'] and 'first: runs, its output out.txt is gone' in text
    (project / 'run' / 'second' / 'out.txt').write_text('edited')
    monkeypatch.setenv('TOY_MORE', ', other this time')  # as the draws of a GPU
    outcome, text = run()
    assert outcome['ran'] == ['second', 'third'] and 'second: runs, its output out.txt was changed' in text
    assert 'third: runs, changed since: inputs (second)' in text
    assert (project / 'run' / 'second' / 'out.txt').read_text() == 'second, other this time'
    monkeypatch.delenv('TOY_MORE')
    (project / 'data' / 'JPEGImages' / 'a.jpg').write_text('another picture')
    outcome, text = run()
    assert outcome['ran'] == ['first', 'second', 'third'] and 'first: runs, changed since: data' in text
    assert run()[0]['ran'] == []


def test_what_was_made_in_another_way_and_is_the_same_is_as_good(project, run, change):
    recipe = yaml.safe_load((project / 'toy.yaml').read_text())
    change(stages=[*recipe['stages'], dict(name='last', kind='table')])
    assert run()[0]['ran'] == ['first', 'second', 'third', 'last']
    change('second', options=dict(nothing=''))  # another command, the same outcome but for a blank
    outcome, _ = run()
    assert outcome['ran'] == ['second', 'third', 'last']
    (project / 'run' / 'second' / 'out.txt').write_text('x')
    assert run()[0]['ran'] == ['second']
    change('second', config='other.py')  # another setting, the same outcome
    outcome, _ = run()
    assert outcome['ran'] == ['second', 'last'] and outcome['skipped'] == ['first', 'third']  # the table shows how
    # The card knows what it stands on now.
    second, third = (cards.read_card(f'run/{name}') for name in ('second', 'third'))
    assert third['inputs']['second'] == second['key'] and run()[0]['ran'] == []


def test_until_ends_a_call_and_mistakes_are_named(project, run):
    assert run(until='second')[0]['ran'] == ['first', 'second']
    with pytest.raises(UserError, match='--until first comes before --from second'):
        run(start='second', until='first')
    with pytest.raises(UserError, match='--gpus must be at least 1'):
        run(gpus=0)
    with pytest.raises(UserError, match='has no stage `secnd`; did you mean `second`'):
        run(until='secnd')


def test_from_runs_everything_from_a_stage_on_anew(project, run):
    run(until='second')
    left = project / 'run' / 'second' / 'left.txt'
    left.write_text('old')
    outcome, text = run(start='second')
    assert not left.exists()
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'asked for by --from' in text and 'first: taken as it is\n' in text


def test_from_takes_earlier_stages_as_they_are(project, run, change):
    run()
    change('first', config='other.py')
    (project / 'run' / 'second' / 'out.txt').write_text('mended by hand')
    outcome, text = run(start='third')
    assert outcome['skipped'] == ['first', 'second'] and outcome['ran'] == ['third']
    assert 'first: taken as it is, although changed since: settings of the pipeline' in text
    assert 'second: taken as it is, although its output out.txt was changed' in text
    assert (project / 'run' / 'second' / 'out.txt').read_text() == 'mended by hand'
    assert run(start='third', dry_run=True)[0]['ran'] == ['third']


def test_from_needs_earlier_stages_that_have_finished(project, run, monkeypatch):
    run(until='first')
    with pytest.raises(UserError, match='--from third: the stage `second` before it has not finished'):
        run(start='third')
    run(until='second')
    (project / 'run' / 'second' / 'out.txt').unlink()
    with pytest.raises(UserError, match=r'--from third: the output out\.txt of the stage `second` before it is gone'):
        run(start='third')


def test_a_dry_run_shows_commands_and_changes_nothing(project, run):
    outcome, text = run(dry_run=True)
    assert 'first: would run' in text and 'python tools/toy.py run/first/out.txt first' in text
    assert len(outcome['ran']) == 3 and not (project / 'run').exists()


def test_a_failure_is_one_line_with_the_reason_and_the_log_and_can_be_mended(project, run, monkeypatch):
    monkeypatch.setenv('TOY_FAIL', 'second')
    with pytest.raises(UserError, match=r'stage second failed at toy: the toy is broken; its log is run.*01_toy\.log'):
        run()
    monkeypatch.delenv('TOY_FAIL')
    outcome, text = run()
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
    assert 'second: runs, it was not finished' in text


def test_a_second_pipeline_is_kept_out(project, run):
    os.makedirs('run', exist_ok=True)
    with only_one('run'), pytest.raises(UserError, match='another process is at work in `run`'):
        run()
    assert run()[0]['ran']


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
import conftest
conftest.install()
conftest.run_pipeline({recipe!r}, {root!r}, conftest.Console(), work_dir='run')
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='needs the parent-death signal of Linux')
def test_a_killed_pipeline_takes_its_child_with_it_and_goes_on_later(project, run, root):
    script = SCRIPT.format(here=os.path.dirname(__file__), recipe=str(project / 'toy.yaml'), root=str(project))
    (project / 'go.py').write_text(textwrap.dedent(script))
    environment = {**os.environ, 'TOY_SLEEP': 'second', 'PYTHONPATH': str(root)}
    process = subprocess.Popen([sys.executable, 'go.py'], env=environment, stdout=subprocess.DEVNULL)
    begun = project / 'run' / 'second' / 'out.txt.begun'
    deadline = time.monotonic() + 120
    while not begun.exists():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    tool, deadline = str(project / 'tools' / 'toy.py'), time.monotonic() + 20
    while subprocess.run(['pgrep', '-f', tool], capture_output=True, text=True).stdout:
        assert time.monotonic() < deadline  # it would sleep for ten minutes
        time.sleep(0.05)
    outcome, _ = run()
    assert outcome['skipped'] == ['first'] and outcome['ran'] == ['second', 'third']
