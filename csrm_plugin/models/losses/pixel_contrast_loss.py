"""Contrastive learning of pixel representations."""

from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.functional import ContrastTerms, KeyBank, check_query_rule, contrastive_terms


@MODELS.register_module()
class PixelContrastLoss(nn.Module):
    """InfoNCE between reliable and unreliable pixels: ``loss_m``, Eq. 13 of CSRM (VISAPP 2025).

    Args:
        low_rank (int): gamma_l.
        high_rank (int): gamma_h.
        num_queries (int): P, per class. The released code of CSRM swaps it with ``num_negatives``.
        num_negatives (int): N, per query.
        temperature (float): tau.
        query_confidence (float): Least probability of a query, in 0..1.
        queries (str): Which pixels are queries, positives and negatives: ``'reliable'`` or ``'low_entropy'``, see
            :func:`csrm_plugin.functional.pick_candidates`.
        max_negative_confidence (float): Upper bound of a negative's probability, in 0..1 (paper 0.01, code 1.0).
        loss_weight (float): lambda_m.
    """

    def __init__(
        self,
        low_rank: int = 3,
        high_rank: int = 6,
        num_queries: int = 50,
        num_negatives: int = 256,
        temperature: float = 0.5,
        query_confidence: float = 0.3,
        max_negative_confidence: float = 1.0,
        loss_weight: float = 1.0,
        queries: str = 'reliable',
    ) -> None:
        super().__init__()
        check_query_rule(queries, 'model.loss_m.queries')
        self.options = dict(
            low_rank=low_rank,
            high_rank=high_rank,
            num_queries=num_queries,
            num_negatives=num_negatives,
            temperature=temperature,
            query_confidence=query_confidence,
            max_negative_confidence=max_negative_confidence,
            query_rule=queries,
        )
        self.loss_weight = loss_weight

    def forward(
        self,
        student_rep: Tensor,
        teacher_rep: Tensor,
        teacher_probs: Tensor,
        pseudo_labels: Tensor,
        labels: Tensor,
        bank: KeyBank,
        alpha: float,
        valid: Tensor,
    ) -> ContrastTerms:
        """Loss and statistics; arguments as in :func:`csrm_plugin.functional.contrastive_terms`."""
        terms = contrastive_terms(
            student_rep, teacher_rep, teacher_probs, pseudo_labels, labels, bank, alpha, valid=valid, **self.options
        )
        return terms._replace(loss=self.loss_weight * terms.loss)
