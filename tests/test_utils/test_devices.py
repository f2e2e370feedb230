import pytest
import torch

from csrm_plugin.utils import UserError
from csrm_plugin.utils.cli import describe_error
from csrm_plugin.utils.devices import choose_device, is_out_of_memory


def test_a_device_is_found():
    assert choose_device('cpu') == torch.device('cpu')
    assert choose_device(None).type == ('cuda' if torch.cuda.is_available() else 'cpu') == choose_device('auto').type


@pytest.mark.parametrize('device', ['nonsense', 'cuda:99', ''])
def test_unknown_device(device):
    with pytest.raises(UserError, match=f'--device {device}: there is no such device'):
        choose_device(device)


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        torch.OutOfMemoryError('CUDA out of memory. Tried to allocate'),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError('[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory'),
    ],
)
def test_memory_that_is_short_is_known_and_told_in_one_line(error):
    assert is_out_of_memory(error)
    assert 'Mend: a smaller train_dataloader.batch_size' in describe_error(error)


def test_other_errors_are_not_taken_for_memory():
    assert not is_out_of_memory(RuntimeError('size mismatch'))
    assert not is_out_of_memory(ValueError('`memory` must not be out of memory'))
    assert describe_error(RuntimeError('size mismatch')) is None
