"""CSRM: cross-supervision and contrasting of pixel-level pseudo labels."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin import functional as F
from csrm_plugin.models.memory_bank import MemoryBank
from csrm_plugin.models.segmentors.csrm_network import CSRMOutputs
from csrm_plugin.models.segmentors.kept_labels import KeptLabels
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabelSettings
from csrm_plugin.models.segmentors.teacher_student import TeacherStudent
from csrm_plugin.models.segmentors.views import MixedView, TrainingView
from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement
from csrm_plugin.utils import UserError


@dataclass
class ReliabilitySettings:
    """Which of the teacher's predictions count.

    Attributes:
        alpha (float): Start of alpha_t, in 0..1: share of pixels that is left out of ``loss_u`` and that forms each
            of the entropy groups of ``loss_m``.
        sigma_s2c (float): Start of sigma_s2c, in 0..1: least confidence for ``loss_s2c``.
        restrict_targets (bool): Restrict the targets of ``loss_s2c`` and ``loss_u`` to background and the classes
            of the image-level label. The paper does not.
    """

    alpha: float = 0.2
    sigma_s2c: float = 0.1
    restrict_targets: bool = True

    def __post_init__(self) -> None:
        F.check_alpha(self.alpha)
        if not 0 <= self.sigma_s2c <= 1:
            raise UserError(f'`model.reliability.sigma_s2c` must be in 0..1, but is {self.sigma_s2c}.')


class Targets(NamedTuple):
    """What the teacher says about a batch, and the batch itself; all mixed alike.

    Attributes:
        inputs (Tensor): (B, 3, S * H, S * W), float: normalised pictures; S is the label stride.
        labels (Tensor): (B, C), float, 0/1.
        valid (Tensor): (B, H, W), bool, False at padding.
        pseudo_labels (Tensor): (B, H, W), int64, 255 uncertain.
        probs (Tensor | None): (B, K, H, W), float, in 0..1; None during the warm-up.
        small_probs (Tensor | None): (B, K, h, w): the same at the decoder's resolution.
        rep (Tensor | None): (B, D, h, w), float.
    """

    inputs: Tensor
    labels: Tensor
    valid: Tensor
    pseudo_labels: Tensor
    probs: Tensor | None
    small_probs: Tensor | None
    rep: Tensor | None


@MODELS.register_module()
class CSRM(TeacherStudent):
    """Cross-Supervision and Relational Model: David, Pedrini and Dias, VISAPP 2025, DOI 10.5220/0013238400003912.

    Departures from the paper and from its released code are listed in ``docs/departures.md``.

    Args:
        backbone (dict): Config of the backbone.
        decode_head (dict): Config of the segmentation branch, ``num_classes`` = K = C + 1.
        cam_head (dict): Config of the classification branch, ``num_classes`` = C.
        representation_head (dict): Config of the representation branch.
        loss_c, loss_s (dict): Configs of the classification and the segmentation loss.
        loss_s2c, loss_u, loss_m (dict, optional): Configs of the mutual terms; None leaves a term out.
        pseudo_label (dict, optional): See :class:`PseudoLabelSettings`. All pixel losses work at the resolution that
            its ``stride`` gives.
        reliability (dict, optional): See :class:`ReliabilitySettings`.
        mix_prob (float): Probability that a picture receives classes of another one (ClassMix), in 0..1.
        mix_min_area (float): Classes whose pseudo label covers less than this share of the picture, in 0..1, are not
            pasted: a handful of pixels would still make the picture's label name the class. 0 in the paper.
        student_scales (tuple[float, float], optional): Smallest and largest factor, above 0, of the window through
            which the student sees each mixed picture, larger or smaller than the teacher saw it; see
            :func:`csrm_plugin.functional.random_windows`. None, the paper's: as the teacher saw it.
        bank_capacity (int): Keys per class in the memory bank.
        neck (dict, optional): Config of a neck.
        train_cfg, test_cfg, data_preprocessor, pretrained: See :class:`TeacherStudent`.
        init_cfg (dict, optional): Initialisation of the network.

    Attributes:
        labeler (PseudoLabeler): What makes the pseudo labels.
        alpha (float): alpha_t in force; a hook lets it fall.
        sigma_s2c (float): sigma_s2c in force; a hook lets it rise.
        warmup_factor (float): Factor of the three mutual terms, 0 during the warm-up; set by a hook.
        warmup_iters (int): Length of the warm-up in iterations; set by a hook.
    """

    SETTINGS = {
        'pseudo_label': PseudoLabelSettings,
        'pseudo_label.crf': DenseCRF,
        'pseudo_label.par': PixelAdaptiveRefinement,
        'reliability': ReliabilitySettings,
    }

    starts_from_classifier = True

    @classmethod
    def prediction_settings(cls, settings: dict) -> dict:
        """The bank takes no part in a prediction either, and it wants much memory."""
        return dict(super().prediction_settings(settings), bank_capacity=1)

    def __init__(
        self,
        backbone: dict,
        decode_head: dict,
        cam_head: dict,
        representation_head: dict,
        loss_c: dict,
        loss_s: dict,
        loss_s2c: dict | None = None,
        loss_u: dict | None = None,
        loss_m: dict | None = None,
        pseudo_label: dict | None = None,
        reliability: dict | None = None,
        mix_prob: float = 0.5,
        mix_min_area: float = 0.0,
        student_scales: tuple[float, float] | None = None,
        bank_capacity: int = 256,
        neck: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        network = dict(
            type='CSRMNetwork',
            backbone=backbone,
            neck=neck,
            decode_head=decode_head,
            cam_head=cam_head,
            representation_head=representation_head,
            init_cfg=init_cfg,
        )
        super().__init__(network, train_cfg, test_cfg, data_preprocessor, pretrained)
        self.reliability = ReliabilitySettings(**(reliability or {}))
        for name, value in dict(mix_prob=mix_prob, mix_min_area=mix_min_area).items():
            if not 0 <= value <= 1:
                raise UserError(f'`model.{name}` must be in 0..1, but is {value}.')
        self.mix_prob, self.mix_min_area = mix_prob, mix_min_area
        self.student_scales = _check_student_scales(student_scales)
        self.loss_c = MODELS.build(loss_c)
        self.loss_s = MODELS.build(loss_s)
        self.loss_s2c, self.loss_u, self.loss_m = (cfg and MODELS.build(cfg) for cfg in (loss_s2c, loss_u, loss_m))
        if self.loss_m is None:
            # DistributedDataParallel waits for the gradient of every parameter that asks for one.
            self.student.representation_head.requires_grad_(False)
        num_classes, embed_dims = self.student.num_classes, self.student.representation_head.num_classes
        if num_classes != self.student.cam_head.num_classes + 1:
            raise UserError(
                f'`model.decode_head.num_classes` ({num_classes}) must be one more, for the background, than '
                f'`model.cam_head.num_classes` ({self.student.cam_head.num_classes}).'
            )
        self.bank = MemoryBank(num_classes, embed_dims, bank_capacity)
        self.align_corners = self.student.align_corners
        self.labeler = self.build_labeler(pseudo_label)
        self.kept_labels = KeptLabels(mirrored=self.labeler.settings.flip)
        self.alpha = self.reliability.alpha
        self.sigma_s2c = self.reliability.sigma_s2c
        self.warmup_factor = 1.0
        self.warmup_iters = 0

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """The terms of Eq. 14 and their statistics, for normalised pictures (B, 3, H, W)."""
        weak = self.weak_targets(inputs, data_samples)
        targets = self.zoom(self.mix(weak))
        student = self.student.branches(targets.inputs, represent=self.loss_m is not None)
        seg_logits = self.student.upscale(student.seg, targets.pseudo_labels.shape[1:])
        positions = self.picture_positions(student.cam, data_samples, inputs.shape[2:])
        if self.student_scales is not None:
            positions = F.inside(targets.valid, tuple(student.cam.shape[2:]))

        losses = dict(
            loss_c=self.loss_c(self.student.cam_head.classify(student.cam, positions), targets.labels),
            loss_s=self.loss_s(seg_logits, targets.pseudo_labels),
        )
        certain = targets.pseudo_labels != F.IGNORE_INDEX
        losses['reliable/s'] = F.fraction(certain, targets.valid)
        losses['pseudo/foreground'] = F.fraction(certain & (targets.pseudo_labels > 0), targets.valid)
        losses['student/foreground'] = F.fraction(seg_logits.detach().argmax(dim=1) > 0, targets.valid)
        losses.update(self.mutual_losses(student, seg_logits, targets))
        for name in ('alpha', 'sigma_s2c'):
            losses[name] = inputs.new_tensor(getattr(self, name))
        return losses

    def mutual_losses(self, student: CSRMOutputs, seg_logits: Tensor, targets: Targets) -> dict:
        """``loss_s2c``, ``loss_u`` and ``loss_m`` with their statistics; zero, but in the graph, during the warm-up."""
        terms = dict(loss_s2c=self.loss_s2c, loss_u=self.loss_u, loss_m=self.loss_m)
        if self.warmup_factor == 0:
            # DistributedDataParallel wants every parameter in the graph, those of the representation too.
            unused = student.rep.sum() * 0 if student.rep is not None else seg_logits.sum() * 0
            return {name: unused for name, term in terms.items() if term is not None}

        losses, probs, valid = {}, targets.probs, targets.valid
        kept_probs = F.restrict_probs(probs, targets.labels) if self.reliability.restrict_targets else probs
        if self.loss_s2c is not None:
            losses['loss_s2c'] = self.loss_s2c(
                student.cam, seg_logits[:, 0], kept_probs, self.sigma_s2c, valid, targets.labels
            )
            losses['reliable/s2c'] = F.fraction(F.confident_pixels(kept_probs, self.sigma_s2c), valid)
        if self.loss_u is not None:
            entropy = F.entropy(probs)
            losses['loss_u'] = self.loss_u(seg_logits, kept_probs, self.alpha, entropy, valid)
            losses['reliable/u'] = F.fraction(F.reliable_pixels(entropy, self.alpha, valid), valid)
        if self.loss_m is not None:
            small = targets.rep.shape[2:]
            pseudo_labels, small_valid = (
                F.shrink_nearest(value, small) for value in (targets.pseudo_labels, targets.valid)
            )
            terms_m = self.loss_m(
                student.rep,
                targets.rep,
                targets.small_probs,
                pseudo_labels,
                targets.labels,
                self.bank,
                self.alpha,
                small_valid,
            )
            losses['loss_m'] = terms_m.loss
            losses['queries/classes'], losses['contrast/chance'] = terms_m.num_classes, terms_m.chance
            losses['contrast/positive'], losses['contrast/negative'] = terms_m.positive, terms_m.negative
            losses['bank/fill'], losses['bank/age'] = self.bank.fill(), self.bank.age()
        return {
            name: value * self.warmup_factor if name.startswith('loss') else value for name, value in losses.items()
        }

    @torch.no_grad()
    def weak_targets(self, inputs: Tensor, data_samples: list[SegDataSample]) -> Targets:
        """The teacher's view of the plain pictures (B, 3, H, W), and the pseudo labels made from its CAM."""
        labels = self.image_labels(data_samples, inputs.device)
        size = self.labeler.size(inputs)
        valid = F.shrink_nearest(self.valid_pixels(inputs, data_samples), size)
        probs = small_probs = rep = None
        if self.warmup_factor == 0 and self.teacher_frozen:

            def make(rows: Tensor, pictures: Tensor, inside: Tensor) -> Tensor:
                return self.labeler.from_views(self._teacher_cam, pictures, labels[rows], self.pictures, inside)

            pseudo_labels, _ = self.kept_labels(inputs, labels, valid, make)
            return Targets(inputs, labels, valid, pseudo_labels, probs, small_probs, rep)
        self.kept_labels.clear()
        if self.warmup_factor == 0:
            cam = self._teacher_cam(inputs)
        else:
            cam, seg, rep = self.teacher.branches(inputs, represent=self.loss_m is not None)
            probs = self.teacher.upscale(seg, size).softmax(dim=1)
            small_probs = seg.float().softmax(dim=1)
        pseudo_labels = self.labeler.from_views(self._teacher_cam, inputs, labels, self.pictures, valid, known=cam)
        return Targets(inputs, labels, valid, pseudo_labels, probs, small_probs, rep)

    def _teacher_cam(self, inputs: Tensor) -> Tensor:
        """CAM (B, C, h, w) of the teacher for normalised pictures (B, 3, H, W)."""
        return self.teacher.cam_head(self.teacher.extract_feat(inputs))

    @torch.no_grad()
    def mix(self, targets: Targets) -> Targets:
        """ClassMix: paste classes of other pictures, with everything that the teacher says about them."""
        own = torch.arange(len(targets.inputs))
        others = (own + torch.randint(1, max(len(own), 2), own.shape)) % len(own)
        partners = torch.where(torch.rand(len(own)) < self.mix_prob, others, own).to(targets.inputs.device)
        paste = F.class_mix(F.drop_small_classes(targets.pseudo_labels, self.mix_min_area), partners) & targets.valid
        pasted = F.pasted_classes(targets.pseudo_labels, partners, paste, targets.labels.shape[1])
        mixed = {
            name: F.mix(value, partners, paste)
            for name, value in targets._asdict().items()
            if value is not None and name not in ('labels', 'valid')
        }
        return targets._replace(labels=torch.maximum(targets.labels, pasted.to(targets.labels)), **mixed)

    @torch.no_grad()
    def zoom(self, targets: Targets) -> Targets:
        """What the student sees, where it looks through windows of its own: the mixed batch, larger or smaller."""
        if self.student_scales is None:
            return targets
        windows = F.random_windows(len(targets.inputs), self.student_scales).to(targets.inputs.device)
        seen = {
            name: F.look_through(value, windows)
            for name, value in targets._asdict().items()
            if value is not None and name in ('inputs', 'probs', 'small_probs', 'rep')
        }
        seen['valid'] = F.look_through(targets.valid, windows, nearest=True)
        seen['pseudo_labels'] = F.look_through(targets.pseudo_labels, windows, nearest=True, fill=F.IGNORE_INDEX)
        return targets._replace(**seen)

    @property
    def training_note(self) -> str:
        """Settings of the pseudo labels and of ClassMix."""
        return f'teacher; {super().training_note}; mix_prob {self.mix_prob:g}'

    @torch.no_grad()
    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView:
        """The teacher's CAM and pseudo labels, and what ClassMix makes of them."""
        factor, self.warmup_factor = self.warmup_factor, 0.0  # the segmentation of the teacher is not drawn
        try:
            plain = self.weak_targets(inputs, data_samples)
        finally:
            self.warmup_factor = factor
        mixed = self.zoom(self.mix(plain))
        cam = self.labeler.view(self._teacher_cam, inputs)
        view = MixedView(mixed.inputs, mixed.labels, mixed.pseudo_labels)
        return TrainingView(cam, "teacher's CAM", plain.pseudo_labels, self.labeler.caption(), view)

    def _forward(self, inputs: Tensor, data_samples=None) -> CSRMOutputs:
        """All branches of the predicting network for normalised pictures (B, 3, H, W)."""
        return self.predictor.branches(inputs)

    def encode_decode(self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Segmentation logits (B, K, H, W) of the predicting network at the size of the input."""
        return self.predictor.upscale(self.predictor.branches(inputs, represent=False).seg, inputs.shape[2:])

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Data samples with ``cam_logits``, ``pred_image_labels``, ``seg_logits`` and ``pred_sem_seg``."""
        outputs = self.predictor.branches(inputs, represent=False)
        return self.add_predictions(data_samples, inputs.shape[2:], outputs.cam, outputs.seg)


def _check_student_scales(scales: tuple[float, float] | None) -> tuple[float, float] | None:
    """The two factors, or ``UserError``."""
    if scales is None:
        return None
    if not isinstance(scales, (tuple, list)) or len(scales) != 2 or not 0 < scales[0] <= scales[1]:
        raise UserError(
            f'`model.student_scales` must be a smallest and a largest factor above 0, or None, but is {scales!r}.'
        )
    return tuple(scales)
