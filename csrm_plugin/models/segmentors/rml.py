"""RML: representation mutual learning, without a decoder."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from mmengine.structures import PixelData
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor

from csrm_plugin import functional as F
from csrm_plugin.models.segmentors.wsss_segmentor import TrainingView, WSSSSegmentor, shrink_nearest
from csrm_plugin.refine import DenseCRF, PixelAdaptiveRefinement, build_refinement, refinement_title
from csrm_plugin.utils import UserError


@dataclass
class RMLPseudoLabelSettings:
    """How multi-scale CAMs become the labels of pixels that the pixel level learns from.

    Attributes:
        fg_threshold (float): Score of the background against the CAMs above which a class is certain, in 0..1.
        bg_threshold (float): The one below which the background is, in 0..1, at most ``fg_threshold``.
        refine (str): ``'par'``, ``'crf'`` or ``'none'``: what looks at the picture.
        par (dict | None): Arguments of :class:`csrm_plugin.refine.PixelAdaptiveRefinement`.
        crf (dict | None): Arguments of :class:`csrm_plugin.refine.DenseCRF`.
        stride (int): Pixels of the input per pixel of the labels, in each direction.
    """

    fg_threshold: float = 0.55
    bg_threshold: float = 0.35
    refine: str = 'par'
    par: dict | None = field(default_factory=dict)
    crf: dict | None = field(default_factory=dict)
    stride: int = 2

    def __post_init__(self):
        F.check_thresholds(self.fg_threshold, self.bg_threshold)
        if not isinstance(self.stride, int) or self.stride < 1:
            raise UserError(f'`model.pseudo_label.stride` must be a whole number of at least 1, but is {self.stride}.')


@dataclass
class RMLTestSettings:
    """How a picture is segmented.

    Attributes:
        scales (Sequence[float]): Sizes, relative to the input, whose CAMs are averaged.
        flip (bool): Whether each is also seen mirrored.
        threshold (float): Score of the background against the propagated CAMs, in 0..1.
        power (float): Exponent of the affinities.
        steps (int): How often the CAMs are propagated; 0 leaves them as they are.
        score_threshold (float): Classes whose score is not above it are not there, in 0..1.
    """

    scales: tuple = (0.5, 1.0, 1.5)
    flip: bool = True
    threshold: float = 0.35
    power: float = 2.0
    steps: int = 1
    score_threshold: float = 0.5

    def __post_init__(self):
        check_scales('model.test_cfg.scales', self.scales)
        self.scales = tuple(self.scales)
        for name in ('threshold', 'score_threshold'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'`model.test_cfg.{name}` must be in 0..1, but is {getattr(self, name)}.')
        if not self.power >= 0:
            raise UserError(f'`model.test_cfg.power` must be at least 0, but is {self.power}.')
        if not isinstance(self.steps, int) or self.steps < 0:
            raise UserError(f'`model.test_cfg.steps` must be a whole number of at least 0, but is {self.steps}.')


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
class RML(WSSSSegmentor):
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
        pseudo_label (dict, optional): See :class:`RMLPseudoLabelSettings`.
        view_scale (float): Size of the second view, relative to the first, between 0 and 1.
        cam_scales (Sequence[float]): Sizes whose CAMs are averaged for the pseudo labels.
        cam_flip (bool): Whether each is also seen mirrored.
        radius (int, optional): Largest distance of pairs, in positions of the affinity's map; None: no limit.
        train_cfg (dict, optional): Unused.
        test_cfg (dict, optional): See :class:`RMLTestSettings`.
        data_preprocessor (dict, optional): Config of the data preprocessor.
        init_cfg (dict, optional): Initialisation, of the parts that bring none of their own.
        pretrained (None): See :class:`WSSSSegmentor`.

    Attributes:
        warmup_factor (float): Factor of the three levels, 0 during the warm-up; set by a hook.
        warmup_iters (int): Length of the warm-up in iterations; set by a hook.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {
        'pseudo_label': RMLPseudoLabelSettings,
        'pseudo_label.crf': DenseCRF,
        'pseudo_label.par': PixelAdaptiveRefinement,
        'test_cfg': RMLTestSettings,
    }

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
        cam_scales=(0.5, 1.0, 1.5),
        cam_flip: bool = True,
        radius: int | None = 8,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg, pretrained=pretrained)
        if not 0 < view_scale < 1:
            raise UserError(f'`model.view_scale` must be between 0 and 1, but is {view_scale}.')
        check_scales('model.cam_scales', cam_scales)
        if radius is not None and radius < 1:
            raise UserError(f'`model.radius` must be at least 1, or None, but is {radius}.')
        self.view_scale, self.radius = view_scale, radius
        self.cam_scales, self.cam_flip = tuple(cam_scales), cam_flip
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.pseudo_label = RMLPseudoLabelSettings(**(pseudo_label or {}))
        self.prediction = RMLTestSettings(**(test_cfg or {}))
        self.refinement = build_refinement(self.pseudo_label)
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
        scales = ' '.join(f'{scale:g}' for scale in settings.scales)
        flip = 'with' if settings.flip else 'without'
        how = 'not propagated'
        if self.propagates:
            radius = 'no radius' if self.radius is None else f'radius {self.radius}'
            steps = f', {settings.steps} steps' if settings.steps != 1 else ''
            how = f'propagated: {radius}, power {settings.power:g}{steps}'
        # Labels from these CAMs are cut at a threshold of their own.
        return f'CAMs of scales {scales} {flip} flip ({how}), background {settings.threshold:g} in the segmentation'

    @property
    def prediction_views(self) -> tuple[tuple[float, ...], bool]:
        """Scales and flip of ``test_cfg``; see :class:`WSSSSegmentor`. Can be set."""
        return self.prediction.scales, self.prediction.flip

    @prediction_views.setter
    def prediction_views(self, views) -> None:
        self.prediction = replace(self.prediction, scales=views[0], flip=views[1])

    @property
    def propagates(self) -> bool:
        """Whether CAMs are propagated: an affinity that nothing trains says nothing."""
        return self.loss_pixel is not None and self.prediction.steps > 0

    def extract_feat(self, inputs: Tensor):
        """Outputs of the backbone for (B, 3, H, W)."""
        return self.backbone(inputs)

    def classify(self, cam: Tensor) -> Tensor:
        """Class logits (B, C) of a CAM (B, C, h, w), as the head pools."""
        return self.cam_head.classify(cam)

    def view(self, inputs: Tensor) -> View:
        """Features, attention maps and CAM of normalised pictures (B, 3, H, W)."""
        features = self.backbone(inputs)
        return View(features, None, self.cam_head(features))

    def _attentive_view(self, inputs: Tensor) -> View:
        """As :meth:`view`, with the attention maps where the affinity is made from them."""
        if not self.affinity_head.needs_attention:
            return self.view(inputs)
        features, attentions = self.backbone.forward_with_attention(inputs)
        return View(features, attentions, self.cam_head(features))

    def loss(self, inputs: Tensor, data_samples) -> dict:
        """Classification and the three levels, with their statistics, for normalised pictures (B, 3, H, W)."""
        labels = self.image_labels(data_samples, inputs.device)
        learning = self.warmup_factor > 0
        view = self._attentive_view(inputs) if learning and self.loss_pixel is not None else self.view(inputs)
        valid = self.valid_pixels(inputs, data_samples)
        logits = self.cam_head.classify(view.cam, inside(valid, view.cam.shape[2:]))
        losses = dict(loss_c=self.loss_c(logits, labels))
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
        small_inputs = scaled(inputs, self.view_scale)
        small = self._attentive_view(small_inputs) if self.loss_pixel is not None else self.view(small_inputs)
        results = {}
        if self.loss_instance is not None:
            known, small_valid = (inside(valid, v.cam.shape[2:]) for v in (view, small))
            cams = F.comparable_cam(masked(view.cam, known), labels)
            small_cams = F.comparable_cam(masked(small.cam, small_valid), labels)
            feature = view.features[self.cam_head.in_index]
            results['loss_instance'] = self.loss_instance(cams, small_cams, feature, labels, small_valid)
        if self.loss_feature is not None:
            maps = [self.context_head(features) for features in (view.features, small.features)]
            results['loss_feature'] = self.loss_feature(*maps, inside(valid, maps[1].shape[2:]))
        statistics = {}
        if self.loss_pixel is not None:
            size, small_size = (self.affinity_head.grid(v.features) for v in (view, small))
            pairs, background, statistics = self.pixel_targets(inputs, labels, valid, size)
            affinities = [self.affinity_head(v.features, v.attentions) for v in (view, small)]
            small_valid = inside(valid, small_size).flatten(1)
            results['loss_pixel'] = self.loss_pixel(*affinities, pairs, size, small_size, background, small_valid)
        losses = {name: loss * self.warmup_factor for name, (loss, _) in results.items()}
        for _, terms in results.values():
            statistics.update(terms)
        return losses | statistics

    @torch.no_grad()
    def pixel_targets(self, inputs: Tensor, labels: Tensor, valid: Tensor, size) -> tuple[Tensor, Tensor, dict]:
        """Labels of pairs for the positions of a map, and statistics.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            labels (Tensor): (B, C), 0/1.
            valid (Tensor): (B, H, W), bool, False at padding.
            size (tuple[int, int]): Height and width (h, w) of the map, n positions.

        Returns:
            tuple[Tensor, Tensor, dict]: (B, n, n), int64, 0, 1 or 255; (B, n), bool, which positions are background;
            ``reliable/pixels`` and ``reliable/pairs`` (of the near ones), shares in 0..1, and ``pseudo/foreground``, of
            the pixels.
        """
        pseudo_labels = self.pseudo_labels(inputs, labels, valid)
        certain, known = pseudo_labels != F.IGNORE_INDEX, shrink_nearest(valid, pseudo_labels.shape[1:])
        # The label at the centre of each position, not at its corner.
        positions = resize(pseudo_labels[:, None].float(), size, mode='nearest-exact')[:, 0].long()
        pairs = F.pair_labels(positions, self.radius)
        near = F.neighbourhood(tuple(size), self.radius, inputs.device).fill_diagonal_(False)
        return (
            pairs,
            (positions == 0).flatten(1),
            {
                'reliable/pixels': F.fraction(certain, known),
                'reliable/pairs': F.fraction(pairs != F.IGNORE_INDEX, near.expand_as(pairs)),
                'pseudo/foreground': F.fraction(certain & (pseudo_labels > 0), known),
            },
        )

    @torch.no_grad()
    def pseudo_labels(self, inputs: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
        """Refined labels of the multi-scale CAMs: (B, h, w), int64, 255 uncertain and padding.

        h, w is the size of the input over ``pseudo_label.stride``; arguments as in :meth:`pixel_targets`.
        """
        settings = self.pseudo_label
        size = tuple(max(length // settings.stride, 1) for length in inputs.shape[2:])
        known = shrink_nearest(valid, size)
        with evaluating(self):
            cam = self.multi_scale_cam(inputs, size, self.cam_scales, self.cam_flip)
        # Padding is no part of the picture: it must not set the maximum that the map is divided by.
        cams = F.normalize_cam(masked(cam, known), labels=labels)
        pictures = self.pictures(inputs, size) if self.refinement is not None else None
        thresholds = settings.fg_threshold, settings.bg_threshold
        return F.cam_pseudo_labels(pictures, cams, labels, *thresholds, self.refinement).masked_fill(
            ~known, F.IGNORE_INDEX
        )

    def multi_scale_cam(self, inputs: Tensor, size, scales, flip: bool, known: Tensor | None = None) -> Tensor:
        """Mean of the CAMs of several sizes of the pictures, after ReLU.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            size (tuple[int, int]): Height and width (h, w) of the result.
            scales (Sequence[float]): Sizes relative to the input.
            flip (bool): Whether each is also seen mirrored.
            known (Tensor, optional): (B, C, h', w'): the CAM of scale 1, where there is one already.

        Returns:
            Tensor: (B, C, h, w), float32, at least 0.
        """
        total = 0
        for scale in scales:
            view = inputs if scale == 1 else scaled(inputs, scale)
            cams = [known if scale == 1 and known is not None else self.view(view).cam]
            if flip:
                cams.append(self.view(view.flip(3)).cam.flip(3))
            for cam in cams:
                total = total + resize(
                    cam.float().relu(), tuple(size), mode='bilinear', align_corners=self.align_corners
                )
        return total / (len(scales) * (2 if flip else 1))

    def segment(self, inputs: Tensor) -> tuple[View, Tensor, Tensor | None]:
        """Segment normalised pictures (B, 3, H, W) without a decoder.

        Returns:
            tuple[View, Tensor, Tensor | None]: The one-scale view; the propagated CAMs (B, C, h, w), float32, in 0..1,
            of all classes, on the affinity's grid of h x w = n positions; the affinity (B, n, n), float32, in 0..1, or
            None, and CAMs at their own size, where nothing is propagated.
        """
        view = self._attentive_view(inputs) if self.propagates else self.view(inputs)
        settings, size = self.prediction, tuple(view.cam.shape[2:])
        if self.propagates:
            size = self.affinity_head.grid(view.features)
        cams = F.normalize_cam(self.multi_scale_cam(inputs, size, settings.scales, settings.flip, view.cam))
        if not self.propagates:
            return view, cams, None
        affinity = self.affinity_head(view.features, view.attentions)
        return view, F.propagate(cams, affinity, self.radius, settings.power, settings.steps), affinity

    def segmentation_logits(self, cams: Tensor, seen: Tensor) -> Tensor:
        """Scores of background and classes as logits, so that their softmax is [threshold | CAMs] over their sum.

        Args:
            cams (Tensor): (B, C, H, W), float, at least 0: propagated CAMs.
            seen (Tensor): (B, C), bool: the classes that are there.

        Returns:
            Tensor: (B, K, H, W), float32, at most 0; K = C + 1.
        """
        cams = F.normalize_cam(cams, labels=seen)
        background = torch.full_like(cams[:, :1], self.prediction.threshold)
        scores = torch.cat([background, cams], dim=1).clamp(min=1e-12)
        return (scores / scores.sum(dim=1, keepdim=True)).log()

    def seen_classes(self, cam: Tensor) -> Tensor:
        """Classes (B, C), bool, that the classifier sees in CAMs (B, C, h, w)."""
        return self.classify(cam).sigmoid() > self.prediction.score_threshold

    @classmethod
    def prediction_settings(cls, settings: dict) -> dict:
        """The refinement of the labels takes no part in a prediction, and dCRF wants a package."""
        return dict(settings, pseudo_label=dict(settings.get('pseudo_label') or {}, refine='none', crf=None))

    @property
    def training_note(self) -> str:
        """Settings of the labels that the pixel level learns from."""
        settings, refined = self.pseudo_label, refinement_title(self.refinement)
        if self.refinement is not None:
            refined += f' with {self.refinement.iterations} iterations'
        scales = ' '.join(f'{scale:g}' for scale in self.cam_scales)
        return (
            f'CAMs of scales {scales} {"with" if self.cam_flip else "without"} flip; fg_threshold '
            f'{settings.fg_threshold:g}, bg_threshold {settings.bg_threshold:g} (between the two: hatched), {refined}'
        )

    def training_view(self, inputs: Tensor, data_samples) -> TrainingView:
        """CAM and pixel labels of a batch; see :meth:`WSSSSegmentor.training_view`."""
        labels, valid = self.image_labels(data_samples, inputs.device), self.valid_pixels(inputs, data_samples)
        settings = self.pseudo_label
        how = f'fg > {settings.fg_threshold:g}, bg < {settings.bg_threshold:g}, {refinement_title(self.refinement)}'
        cam = self.multi_scale_cam(inputs, inputs.shape[2:], self.cam_scales, self.cam_flip)
        return TrainingView(cam, 'multi-scale CAM', self.pseudo_labels(inputs, labels, valid), how)

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """CAM (B, C, h, w), float, any range, of normalised pictures (B, 3, H, W)."""
        return self.view(inputs).cam

    def encode_decode(self, inputs: Tensor, batch_data_samples=None) -> Tensor:
        """Segmentation logits (B, K, H, W) at the size of the input (B, 3, H, W)."""
        view, cams, _ = self.segment(inputs)
        cams = resize(cams, inputs.shape[2:], mode='bilinear', align_corners=self.align_corners)
        return self.segmentation_logits(cams, self.seen_classes(view.cam))

    def predict(self, inputs: Tensor, data_samples=None):
        """Data samples with everything that :class:`WSSSSegmentor` names; no ``affinity`` where none was learnt."""
        view, cams, affinity = self.segment(inputs)
        size = inputs.shape[2:]
        data_samples = self.add_predictions(data_samples, size, view.cam)
        seen = self.seen_classes(view.cam)
        maps = self.restore(resize(cams, size, mode='bilinear', align_corners=self.align_corners), data_samples)
        for index, (sample, cam) in enumerate(zip(data_samples, maps)):
            sample.set_field(PixelData(data=cam), 'propagated_cam', dtype=PixelData)
            logits = self.segmentation_logits(cam[None], seen[index : index + 1])[0]
            sample.seg_logits = PixelData(data=logits)
            sample.pred_sem_seg = PixelData(data=logits.argmax(dim=0, keepdim=True))
            if affinity is not None:
                field = PixelData(data=affinity[index : index + 1], metainfo=dict(grid=tuple(cams.shape[2:])))
                sample.set_field(field, 'affinity', dtype=PixelData)
        return data_samples

    @torch.no_grad()
    def training_labels(self, picture, cam_logits: Tensor, labels: Tensor) -> Tensor:
        """Labels of one picture as the pixel level would learn them, but from its one-scale CAM and at its own size.

        See :meth:`WSSSSegmentor.training_labels`.
        """
        labels = labels[None].float().cpu()
        cams = F.normalize_cam(cam_logits[None].float().cpu(), labels=labels)
        thresholds = self.pseudo_label.fg_threshold, self.pseudo_label.bg_threshold
        return F.cam_pseudo_labels(picture[None], cams, labels, *thresholds, self.refinement)[0]


def check_scales(name: str, scales) -> None:
    """Raise ``UserError`` unless ``scales`` are one or more numbers above 0."""
    if not isinstance(scales, (tuple, list)) or not scales or not all(_is_positive(scale) for scale in scales):
        raise UserError(f'`{name}` must be a list of one or more numbers above 0, but is {scales!r}.')


def _is_positive(value) -> bool:
    return isinstance(value, (int, float)) and value > 0


def scaled(inputs: Tensor, scale: float) -> Tensor:
    """Resize (B, 3, H, W) to ``scale`` times its size, rounded: edge upon edge, so that maps of all scales fit."""
    size = tuple(max(round(length * scale), 1) for length in inputs.shape[2:])
    return resize(inputs, size, mode='bilinear', align_corners=False)


def inside(valid: Tensor, size) -> Tensor:
    """Positions (B, h, w), bool, of which at least half is no padding; ``valid`` is (B, H, W), bool.

    Of a picture smaller than half a position, those that it covers most: each picture has some.
    """
    shares = F.shrink(valid[:, None].float(), tuple(size))[:, 0]
    return shares >= shares.amax(dim=(1, 2), keepdim=True).clamp(max=0.5)


def masked(maps: Tensor, valid: Tensor) -> Tensor:
    """``maps`` (B, X, h, w) with zeros where ``valid`` (B, h, w) does not hold."""
    return maps.masked_fill(~valid[:, None], 0)


@contextmanager
def evaluating(model):
    """Evaluation mode (no dropped paths) for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
