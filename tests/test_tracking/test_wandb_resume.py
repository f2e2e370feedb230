"""The W&B backend, with the real client: runs that go on, and runs that are sent later."""

import os

import numpy as np
import pytest

pytest.importorskip('wandb')


def test_resume_goes_on_with_the_same_run(online, server, logged, start, train, note, steps):
    backend = start()
    train(backend, 10, 50)
    backend.close()
    backend = start(resume=True, timestamp='20260101_000001')
    train(backend, 30, 80)
    backend.add_image('a', np.zeros((4, 4, 3), np.uint8), step=40)
    backend.close()
    ((run_id, run),) = server.runs.items()
    assert steps(run) == [10, 20, 30, 40, 50, 60, 70, 80]
    assert sum('holds the iterations up to 50' in line for line in logged) == 1
    assert (note()['id'], note()['step'], len(note()['parts'])) == (run_id, 80, 2)


def test_a_fresh_start_in_the_same_folder_is_another_run(online, server, start, train, note, steps):
    for number in range(2):
        backend = start(timestamp=f'2026010{number}_000000')
        train(backend, 10, 20)
        backend.close()
    assert [steps(run) for run in server.runs.values()] == [[10, 20]] * 2
    assert note()['id'] == list(server.runs)[1]


def test_under_an_agent_the_id_is_the_agents(online, server, monkeypatch, capfd, start, train, note):
    monkeypatch.setenv('WANDB_RUN_ID', 'theirs')
    backend = start()
    train(backend, 10, 10)
    backend.close()
    assert list(server.runs) == ['theirs'] and note()['id'] == 'theirs'


def test_without_a_key_the_run_is_offline_and_can_be_sent_later(
    no_wandb, server, monkeypatch, logged, capfd, start, train, note, steps, sync
):
    monkeypatch.setenv('WANDB_BASE_URL', server.url)
    monkeypatch.setenv('WANDB_MODE', 'online')
    monkeypatch.setenv('WANDB_DISABLE_CODE', 'true')
    for number, (first, last) in enumerate([(10, 50), (30, 80)]):
        backend = start(resume=bool(number), timestamp=f'2026010{number}_000000')
        train(backend, first, last)
        backend.add_image('sample', np.zeros((4, 4, 3), np.uint8), step=last)
        backend.close()
    lines = [line for line in logged if 'there is no key' in line]
    assert len(lines) == 2 and not server.asked
    folders = lines[1].split('`')[1].removeprefix('wandb sync ').split()
    assert lines[0].split('`')[1] == f'wandb sync {folders[0]}' and len(folders) == 2
    assert all(folder.startswith(os.path.join('run', '2026010')) for folder in folders)
    out, err = capfd.readouterr()
    assert 'wandb' not in (out + err).replace('W&B', '').replace('`wandb sync', '').replace('/wandb/', '')

    # A key turns up while the first parts are still here: what comes next must not overtake them.
    monkeypatch.setenv('WANDB_API_KEY', 'k' * 40)
    backend = start(resume=True, timestamp='20260109_000000')
    train(backend, 90, 90)
    backend.close()
    line = next(line for line in logged if 'not been sent yet' in line)
    folders = line.split('`')[1].removeprefix('wandb sync ').split()
    assert len(folders) == 3 and not server.runs

    sync(*folders)
    backend = start(resume=True, timestamp='20260110_000000')
    train(backend, 90, 100)
    backend.close()
    ((run_id, run),) = server.runs.items()
    assert run_id == note()['id']
    assert steps(run) == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert run['config']['model.pseudo_label.fg_threshold'] == 0.35
    assert [name for _, name in server.files if name.endswith('.png')]


def test_a_server_that_refuses_the_key_costs_nothing_but_a_line(
    online, server, logged, capfd, start, train, steps, sync
):
    server.reject = True
    backend = start()
    train(backend, 10, 20)
    backend.close()
    (line,) = [line for line in logged if 'W&B' in line]
    assert 'the server did not take it (this key is not known)' in line
    assert 'wandb:' not in ''.join(capfd.readouterr())
    server.reject = False
    sync(line.split('`')[1].split()[-1])
    (run,) = server.runs.values()
    assert steps(run) == [10, 20]


def test_a_broken_note_begins_a_new_run(no_wandb, logged, start, train, note):
    os.makedirs('run')
    with open('run/wandb_run.json', 'w') as file:
        file.write('{"id": ')
    backend = start(resume=True)
    train(backend, 10, 10)
    backend.close()
    assert note()['step'] == 10
    assert sum('is broken' in line for line in logged) == 1
