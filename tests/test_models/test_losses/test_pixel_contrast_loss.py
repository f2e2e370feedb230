import pytest
import torch

from csrm_plugin.functional import QUERY_RULES, contrastive_loss
from csrm_plugin.models.losses import PixelContrastLoss
from csrm_plugin.models.memory_bank import MemoryBank
from csrm_plugin.utils import UserError

OPTIONS = dict(
    low_rank=1,
    high_rank=4,
    num_queries=7,
    num_negatives=5,
    temperature=0.2,
    query_confidence=0.2,
    max_negative_confidence=0.9,
)


@pytest.mark.parametrize('rule', QUERY_RULES)
def test_equals_the_function(rule):
    student, teacher = torch.randn(2, 2, 6, 8, 8)
    probs, pseudo = torch.randn(2, 5, 8, 8).softmax(dim=1), torch.randint(0, 5, (2, 8, 8))
    batch = (student, teacher, probs, pseudo, torch.ones(2, 4))
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    torch.manual_seed(1)
    expected = contrastive_loss(*batch, MemoryBank(5, 6, 9), 0.5, **OPTIONS, query_rule=rule)
    torch.manual_seed(1)
    terms = PixelContrastLoss(**OPTIONS, loss_weight=3, queries=rule)(*batch, MemoryBank(5, 6, 9), 0.5, valid)
    assert expected > 0 and terms.num_classes > 1
    torch.testing.assert_close(terms.loss, 3 * expected)


def test_defaults_are_the_papers_but_for_the_queries():
    options = PixelContrastLoss().options
    assert (options['low_rank'], options['high_rank'], options['temperature']) == (3, 6, 0.5)
    assert (options['num_queries'], options['num_negatives'], options['query_confidence']) == (50, 256, 0.3)
    assert options['max_negative_confidence'] == 1.0
    assert options['query_rule'] == 'reliable'


def test_an_unknown_rule_is_refused_when_the_model_is_built():
    with pytest.raises(UserError, match=r"`model\.loss_m\.queries` is 'reliabel'; did you mean 'reliable'"):
        PixelContrastLoss(queries='reliabel')
