import pytest
import torch

from csrm_plugin.models.checkpoints.io import read_checkpoint
from csrm_plugin.utils import MissingFileError, UserError


def test_safetensors_are_read_like_other_files(tmp_path):
    save_file = pytest.importorskip('safetensors.torch').save_file
    save_file({'a.weight': torch.arange(3.0)}, tmp_path / 'model.safetensors')
    assert read_checkpoint(tmp_path / 'model.safetensors')['a.weight'].tolist() == [0, 1, 2]


def test_mistakes_with_safetensors_name_file_and_setting(tmp_path):
    pytest.importorskip('safetensors')
    (tmp_path / 'model.safetensors').write_bytes(b'no tensors at all')
    with pytest.raises(UserError, match=r'model\.safetensors \(\$W\) cannot be read as safetensors'):
        read_checkpoint(tmp_path / 'model.safetensors', setting='$W')
    with pytest.raises(MissingFileError, match=r'other\.safetensors'):
        read_checkpoint(tmp_path / 'other.safetensors')
