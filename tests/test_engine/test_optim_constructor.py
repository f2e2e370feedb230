from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import csrm_plugin  # noqa: F401  (registers)


def build(model):
    init_default_scope('mmseg')
    return build_optim_wrapper(
        model,
        dict(
            type='OptimWrapper',
            constructor='TrainableOptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=0.1),
            paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10))),
        ),
    )


def test_a_frozen_module_is_left_out_and_multipliers_hold():
    model = nn.ModuleDict(dict(student=nn.Linear(2, 2), head=nn.Linear(2, 2), teacher=nn.Linear(2, 2)))
    model['teacher'].requires_grad_(False)
    groups = build(model).optimizer.param_groups
    given = {id(parameter): group['lr'] for group in groups for parameter in group['params']}
    assert all(id(parameter) not in given for parameter in model['teacher'].parameters())
    assert all(given[id(parameter)] == 0.1 for parameter in model['student'].parameters())
    assert all(given[id(parameter)] == 1.0 for parameter in model['head'].parameters())


def test_a_module_that_is_frozen_in_part_stays():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    given = [id(parameter) for group in build(model).optimizer.param_groups for parameter in group['params']]
    assert id(model.weight) in given
