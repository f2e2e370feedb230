from torch import nn

from csrm_plugin.utils.models import unwrap


def test_all_wrappers_are_taken_off():
    model = nn.Linear(2, 2)
    assert unwrap(model) is model
    assert unwrap(nn.DataParallel(nn.DataParallel(model))) is model
