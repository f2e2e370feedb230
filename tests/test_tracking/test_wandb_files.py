"""The W&B backend, with the real client."""

import pytest

from csrm_plugin.tracking import wandb_files


def test_code_of_an_installed_package_is_the_package(tmp_path):
    for name in ('csrm_plugin/a.py', 'csrm_plugin/__pycache__/a.py', 'csrm_plugin/b.pth', 'tools/theirs.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('')
    assert wandb_files.code_files(tmp_path) == ['csrm_plugin/a.py']


@pytest.mark.parametrize(
    'names, ended, sent',
    [
        ({}, True, True),
        ({'run.wandb': 7}, False, True),  # killed before the first block was written
        ({'run.wandb': 99}, True, False),
        ({'run.wandb': 99, 'run.wandb.syncstate': 9}, True, False),  # `wandb sync` was tried
        ({'run.wandb': 99, 'run.wandb.syncstate': 9}, False, True),  # as far as it goes: killed, so never whole
        ({'run.wandb': 99, 'run.wandb.syncstate': 9, 'run.wandb.synced': 0}, True, True),
    ],
)
def test_which_parts_are_still_to_be_sent(tmp_path, names, ended, sent):
    (tmp_path / 'part').mkdir()
    for name, size in names.items():
        (tmp_path / 'part' / name).write_bytes(b'x' * size)
    parts = [
        {'folder': 'part', 'mode': 'offline', 'ended': ended},
        {'folder': 'other', 'mode': 'online', 'ended': True},
    ]
    left = wandb_files.RunNote('id', 3, parts).not_sent(str(tmp_path))
    assert left == ([] if sent else [str(tmp_path / 'part')])
