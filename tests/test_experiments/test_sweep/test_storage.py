import multiprocessing
import os

import optuna
import pytest

from csrm_plugin.experiments.sweep import owned_lock
from csrm_plugin.experiments.sweep.storage import hide_password, lock_path, open_storage
from csrm_plugin.utils import UserError


@pytest.mark.parametrize('rest', [b'{"op_code": 5, "tri', b'x' * 10000])
def test_half_a_line_is_cut_off(tmp_path, rest):
    study = optuna.create_study(storage=open_storage(str(tmp_path)), study_name='s')
    study.tell(study.ask(), 1.0)
    journal = tmp_path / 'journal.log'
    whole = journal.read_bytes()
    journal.write_bytes(whole + rest)
    again = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    again.tell(again.ask(), 2.0)
    last = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    assert [trial.value for trial in last.trials] == [1.0, 2.0]
    assert journal.read_bytes().startswith(whole) and rest not in journal.read_bytes()
    journal.write_bytes(b'no end')
    owned_lock._cut_last_line(str(journal))
    assert journal.read_bytes() == b''


def write_trials(folder):
    study = optuna.load_study(study_name='s', storage=open_storage(folder))
    for _ in range(10):
        study.tell(study.ask(), 1.0)


def test_processes_write_one_journal(tmp_path):
    optuna.create_study(storage=open_storage(str(tmp_path)), study_name='s')
    context = multiprocessing.get_context('fork')
    processes = [context.Process(target=write_trials, args=(str(tmp_path),)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    study = optuna.load_study(study_name='s', storage=open_storage(str(tmp_path)))
    assert sorted(trial.number for trial in study.trials) == list(range(30))
    assert os.listdir(tmp_path) == ['journal.log']


def test_locks_and_passwords():
    assert lock_path('f', 'sqlite:///a/b.db') == 'a/b.db.lock' and lock_path('f') == 'f/.lock'
    assert lock_path('f', 'postgresql://u:p@h/db') == 'f/.lock'
    assert hide_password('postgresql://u:secret@h:1/db') == 'postgresql://u:***@h:1/db'


def test_a_database_that_cannot_be_opened(tmp_path):
    with pytest.raises(UserError, match='cannot be opened'):
        open_storage(str(tmp_path), 'nonsense')
    with pytest.raises(UserError, match='cannot be opened') as error:
        open_storage(str(tmp_path), 'nodialect://me:secret@host/db')
    assert 'secret' not in str(error.value)
