"""RML: representation mutual learning, without a decoder."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from csrm_plugin import functional as F
from csrm_plugin.models.segmentors.propagating_segmentor import Propagated, PropagatingSegmentor
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabelSettings, average_cam, views_title
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement
from csrm_plugin.utils import UserError


class View(NamedTuple):
    """What the network makes of a batch.

    Attributes:
        features (tuple[Tensor]): Outputs of the backbone, each (B, channels, h', w'), float.
        attentions (Tensor | None): (B, M, n, n), float: attention logits, where the backbone has any.
        cam (Tensor): (B, C, h, w), float: CAM before ReLU.
    """

    features: tuple
    attentions: Tensor | None
    cam: Tensor


@MODELS.register_module()
class RML(PropagatingSegmentor):
    """Representation Mutual Learning for End-to-End WSSS (Xu et al.): one network, no decoder, one training.

    A classifier with global max pooling whose CAMs, features and affinities learn from a second view, the same picture
    made smaller. The segmentation is the multi-scale CAM, propagated by the affinity. Written from the abstract and
    the known settings; where the released code departs from its own description is said in ``docs/departures.md``.

    Args:
        backbone (dict): Config of the backbone. With ``forward_with_attention`` it gives its attention maps.
        cam_head (dict): Config of the classification branch, ``num_classes`` = C.
        affinity_head (dict): Config of :class:`csrm_plugin.models.decode_heads.AffinityHead`, or of
            :class:`csrm_plugin.models.decode_heads.AttentionAffinityHead` for backbones without attention maps.
        context_head (dict): Config of :class:`csrm_plugin.models.decode_heads.ContextHead`.
        loss_c (dict): Config of the classification loss.
        loss_instance, loss_feature, loss_pixel (dict, optional): Configs of the three levels; None leaves one out.
            Without ``loss_pixel`` the affinity has learnt nothing, so nothing is propagated.
        pseudo_label (dict, optional): See :class:`PseudoLabelSettings`; RML's defaults are ``PSEUDO_LABEL``.
        view_scale (float): Size of the second view, relative to the first, between 0 and 1.
        radius (int, optional): Largest distance of pairs, in positions of the affinity's map; None: no limit.
        train_cfg (dict, optional): Unused.
        test_cfg (dict, optional): See :class:`PropagationSettings`.
        data_preprocessor (dict, optional): Config of the data preprocessor.
        init_cfg (dict, optional): Initialisation, of the parts that bring none of their own.
        pretrained (None): See :class:`WSSSSegmentor`.

    Attributes:
        warmup_factor (float): Factor of the three levels, 0 during the warm-up; set by a hook.
        warmup_iters (int): Length of the warm-up in iterations; set by a hook.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {
        'pseudo_label': PseudoLabelSettings,
        'pseudo_label.crf': DenseCRF,
        'pseudo_label.par': PixelAdaptiveRefinement,
    }
    #: CAMs of several views, refined by PAR at half size.
    PSEUDO_LABEL = dict(fg_threshold=0.55, bg_threshold=0.35, refine='par', stride=2, scales=(0.5, 1.0, 1.5), flip=True)

    def __init__(
        self,
        backbone: dict,
        cam_head: dict,
        affinity_head: dict,
        context_head: dict,
        loss_c: dict,
        loss_instance: dict | None = None,
        loss_feature: dict | None = None,
        loss_pixel: dict | None = None,
        pseudo_label: dict | None = None,
        view_scale: float = 0.3,
        radius: int | None = 8,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        super().__init__(
            data_preprocessor=data_preprocessor,
            train_cfg=train_cfg,
            test_cfg=test_cfg,
            init_cfg=init_cfg,
            pretrained=pretrained,
        )
        if not 0 < view_scale < 1:
            raise UserError(f'`model.view_scale` must be between 0 and 1, but is {view_scale}.')
        if radius is not None and radius < 1:
            raise UserError(f'`model.radius` must be at least 1, or None, but is {radius}.')
        self.view_scale, self.radius = view_scale, radius
        self.labeler = self.build_labeler(pseudo_label)
        self.backbone = MODELS.build(backbone)
        self.cam_head = MODELS.build(cam_head)
        self.affinity_head = MODELS.build(affinity_head)
        self.context_head = MODELS.build(context_head)
        self.loss_c = MODELS.build(loss_c)
        self.loss_instance, self.loss_feature, self.loss_pixel = (
            cfg and MODELS.build(cfg) for cfg in (loss_instance, loss_feature, loss_pixel)
        )
        # DistributedDataParallel waits for the gradient of every parameter that asks for one.
        for head, loss in ((self.context_head, self.loss_feature), (self.affinity_head, self.loss_pixel)):
            head.requires_grad_(loss is not None)
        if self.affinity_head.needs_attention and not hasattr(self.backbone, 'forward_with_attention'):
            raise UserError(
                f'`model.affinity_head` {type(self.affinity_head).__name__} needs attention maps, which the backbone '
                f'{type(self.backbone).__name__} has not. Use `AttentionAffinityHead`, which makes its own.'
            )
        self.warmup_factor = 1.0
        self.warmup_iters = 0

    @property
    def segmentation_note(self) -> str:
        """What the segmentation stands on; see :class:`WSSSSegmentor`."""
        settings = self.prediction
        how = 'not propagated'
        if self.propagates:
            radius = 'no radius' if self.radius is None else f'radius {self.radius}'
            steps = f', {settings.steps} steps' if settings.steps != 1 else ''
            how = f'propagated: {radius}, power {settings.power:g}{steps}'
        # Labels from these CAMs are cut at a threshold of their own.
        views = views_title(settings.scales, settings.flip)
        return f'CAMs of {views} ({how}), background {settings.threshold:g} in the segmentation'

    @property
    def propagates(self) -> bool:
        """Whether CAMs are propagated: an affinity that nothing trains says nothing."""
        return self.loss_pixel is not None and self.prediction.steps > 0

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the backbone for (B, 3, H, W)."""
        return self.backbone(inputs)

    def view(self, inputs: Tensor) -> View:
        """Features, attention maps and CAM of normalised pictures (B, 3, H, W)."""
        features = self.backbone(inputs)
        return View(features, None, self.cam_head(features))

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """CAM (B, C, h, w), float, any range, of normalised pictures (B, 3, H, W)."""
        return self.view(inputs).cam

    def _attentive_view(self, inputs: Tensor) -> View:
        """As :meth:`view`, with the attention maps where the affinity is made from them."""
        if not self.affinity_head.needs_attention:
            return self.view(inputs)
        features, attentions = self.backbone.forward_with_attention(inputs)
        return View(features, attentions, self.cam_head(features))

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """Classification and the three levels, with their statistics, for normalised pictures (B, 3, H, W)."""
        labels = self.image_labels(data_samples, inputs.device)
        learning = self.warmup_factor > 0
        view = self._attentive_view(inputs) if learning and self.loss_pixel is not None else self.view(inputs)
        valid = self.valid_pixels(inputs, data_samples)
        positions = self.picture_positions(view.cam, data_samples, inputs.shape[2:])
        losses = dict(loss_c=self.loss_c(self.classify(view.cam, positions), labels))
        levels = dict(loss_instance=self.loss_instance, loss_feature=self.loss_feature, loss_pixel=self.loss_pixel)
        levels = {name: level for name, level in levels.items() if level is not None}
        if not learning:
            # DistributedDataParallel wants every parameter in the graph.
            heads = [self.context_head, self.affinity_head]
            unused = sum(p.sum() * 0 for head in heads for p in head.parameters() if p.requires_grad)
            return losses | {name: view.cam.sum() * 0 + unused for name in levels}
        if levels:
            losses.update(self.mutual_losses(inputs, labels, valid, view))
        return losses

    def mutual_losses(self, inputs: Tensor, labels: Tensor, valid: Tensor, view: View) -> dict:
        """``loss_instance``, ``loss_feature`` and ``loss_pixel`` with their statistics."""
        small_inputs = F.scale_pictures(inputs, self.view_scale)
        small = self._attentive_view(small_inputs) if self.loss_pixel is not None else self.view(small_inputs)
        results = {}
        if self.loss_instance is not None:
            known, small_valid = (F.inside(valid, v.cam.shape[2:]) for v in (view, small))
            cams = F.comparable_cam(F.masked(view.cam, known), labels)
            small_cams = F.comparable_cam(F.masked(small.cam, small_valid), labels)
            feature = view.features[self.cam_head.in_index]
            results['loss_instance'] = self.loss_instance(cams, small_cams, feature, labels, small_valid)
        if self.loss_feature is not None:
            maps = [self.context_head(features) for features in (view.features, small.features)]
            results['loss_feature'] = self.loss_feature(*maps, F.inside(valid, maps[1].shape[2:]))
        statistics = {}
        if self.loss_pixel is not None:
            size, small_size = (self.affinity_head.grid(v.features) for v in (view, small))
            pairs, background, statistics = self.pixel_targets(inputs, labels, valid, size)
            affinities = [self.affinity_head(v.features, v.attentions) for v in (view, small)]
            small_valid = F.inside(valid, small_size).flatten(1)
            results['loss_pixel'] = self.loss_pixel(*affinities, pairs, size, small_size, background, small_valid)
        losses = {name: loss * self.warmup_factor for name, (loss, _) in results.items()}
        for _, terms in results.values():
            statistics.update(terms)
        return losses | statistics

    @torch.no_grad()
    def pixel_targets(
        self, inputs: Tensor, labels: Tensor, valid: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, dict]:
        """Labels of pairs for the positions of a map, and statistics.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            labels (Tensor): (B, C), 0/1.
            valid (Tensor): (B, H, W), bool, False at padding.
            size (tuple[int, int]): Height and width (h, w) of the map, n positions.

        Returns:
            tuple[Tensor, Tensor, dict]: (B, n, n), int64, 0, 1 or 255; (B, n), bool, which positions are background;
            ``reliable/s`` and ``reliable/pairs`` (of the near ones), shares in 0..1, and ``pseudo/foreground``, of
            the pixels.
        """
        pseudo_labels = self.pseudo_labels(inputs, labels, valid)
        certain, known = pseudo_labels != F.IGNORE_INDEX, F.shrink_nearest(valid, pseudo_labels.shape[1:])
        # The label at the centre of each position, not at its corner.
        positions = resize(pseudo_labels[:, None].float(), size, mode='nearest-exact')[:, 0].long()
        pairs = F.pair_labels(positions, self.radius)
        near = F.neighbourhood(tuple(size), self.radius, inputs.device).fill_diagonal_(False)
        return (
            pairs,
            (positions == 0).flatten(1),
            {
                'reliable/s': F.fraction(certain, known),
                'reliable/pairs': F.fraction(pairs != F.IGNORE_INDEX, near.expand_as(pairs)),
                'pseudo/foreground': F.fraction(certain & (pseudo_labels > 0), known),
            },
        )

    @torch.no_grad()
    def pseudo_labels(self, inputs: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Refined labels of the multi-scale CAMs: (B, h, w), int64, 255 uncertain and padding.

        h, w is the size of the input over ``pseudo_label.stride``; arguments as in :meth:`pixel_targets`.
        """
        with evaluating(self):
            return self.labeler.from_views(self._forward, inputs, labels, self.pictures, valid)

    def propagate(self, inputs: Tensor) -> Propagated:
        """Propagate the CAMs of several views by the affinity; without an affinity, they are as they are."""
        view = self._attentive_view(inputs) if self.propagates else self.view(inputs)
        settings, size = self.prediction, tuple(view.cam.shape[2:])
        if self.propagates:
            size = self.affinity_head.grid(view.features)
        views = settings.scales, settings.flip
        cams = average_cam(self._forward, inputs, size, *views, view.cam, self.align_corners)
        cams = F.normalize_cam(cams)
        if not self.propagates:
            return Propagated(view.cam, cams)
        affinity = self.affinity_head(view.features, view.attentions)
        cams = F.propagate(cams, affinity, self.radius, settings.power, settings.steps)
        return Propagated(view.cam, cams, affinity)

    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView:
        """CAM and pixel labels of a batch; see :meth:`WSSSSegmentor.training_view`."""
        labels, valid = self.image_labels(data_samples, inputs.device), self.valid_pixels(inputs, data_samples)
        cam = self.labeler.view(self._forward, inputs)
        made = self.pseudo_labels(inputs, labels, valid)
        return TrainingView(cam, 'multi-scale CAM', made, self.labeler.caption())


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropped paths) for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
