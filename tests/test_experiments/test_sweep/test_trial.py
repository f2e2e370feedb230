import json
import math

from csrm_plugin.experiments.sweep.trial import ScalarReader, metric_values, outcome_of


def test_lines_are_read_once_and_half_a_line_later(tmp_path):
    path = tmp_path / '20260101_000000' / 'vis_data' / 'scalars.json'
    reader = ScalarReader(str(tmp_path))
    assert reader.read() == []
    path.parent.mkdir(parents=True)
    path.write_text('{"loss": 1.5, "step": 10}\n{"m": 2')
    assert reader.read() == [{'loss': 1.5, 'step': 10}] and reader.read() == []
    with open(path, 'a') as file:
        file.write('.5, "step": 20}\nno json\n[1]\n{"m": NaN, "step": 30}\n{"m": 4, "step": 40}')
    lines = reader.read()
    assert [line['step'] for line in lines] == [20, 30]
    lines += reader.read(last=True)
    values = metric_values(lines, 'm')
    assert values[0] == (20, 2.5) and math.isnan(values[1][1]) and values[2] == (40, 4.0)
    assert reader.names == {'loss', 'm', 'step'}
    later = tmp_path / '20260102_000000' / 'vis_data'  # a resumed run has another one
    later.mkdir(parents=True)
    (later / 'scalars.json').write_text(json.dumps({'m': 5, 'iter': 50}) + '\n')
    assert metric_values(reader.read(), 'm') == [(50, 5.0)]


def test_only_numbers_are_values():
    lines = [{'m': 'x', 'step': 1}, {'m': True, 'step': 2}, {'m': None}, {'n': 1}, {'m': 3}]
    assert metric_values(lines, 'm') == [(None, 3.0)]


def end(tmp_path, status, values, names=('loss', 'step'), text=''):
    log = tmp_path / 'trial.log'
    log.write_text(text)
    return outcome_of(status, values, 'seg/mIoU', names, str(log))


def test_how_a_training_ended(tmp_path):
    assert end(tmp_path, 0, [(10, 50.0), (20, 40.0)]) == dict(state='COMPLETE', value=40.0)
    crash = end(tmp_path, 1, [(10, 50.0)], text='one\ntwo\nerror: no space left\nlast words\n')
    assert crash['state'] == 'FAIL' and crash['reason'] == 'no space left' and crash['tail'][-1] == 'last words'
    assert end(tmp_path, 3, [], text='a\nlast words\n')['reason'] == 'last words'
    assert end(tmp_path, -9, [(1, 1.0)], text='a\n')['reason'] == 'it was killed by SIGKILL (memory full?)'
    assert end(tmp_path, -15, [(1, 1.0)])['reason'] == 'it was killed by SIGTERM'
    assert end(tmp_path, 0, [(10, 50.0), (20, math.nan)])['reason'] == '`seg/mIoU` is nan at iteration 20'
    assert end(tmp_path, 0, [(20, math.inf)])['state'] == 'FAIL'
    long = end(tmp_path, 1, [], text='\n'.join(map(str, range(100))))
    assert long['tail'] == [str(number) for number in range(80, 100)] and long['why'] == 'failed'


def test_a_metric_that_was_never_logged(tmp_path):
    missing = end(tmp_path, 0, [], names=('loss', 'step', 'seg/miou', 'time'))
    assert missing['reason'] == ('`seg/mIoU` was never logged; it logged loss, seg/miou; did you mean `seg/miou`?')
    assert end(tmp_path, 0, [], names=())['reason'] == '`seg/mIoU` was never logged; it logged no numbers at all'
