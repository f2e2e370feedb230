"""Segmentation without a decoder: CAMs of several views, propagated, against a constant background."""

from abc import abstractmethod
from dataclasses import replace
from typing import NamedTuple

import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin import functional as F
from csrm_plugin.models.segmentors.label_recipe import LabelRecipe
from csrm_plugin.models.segmentors.propagation_settings import PropagationSettings
from csrm_plugin.models.segmentors.wsss_segmentor import WSSSSegmentor


class Propagated(NamedTuple):
    """What a :class:`PropagatingSegmentor` makes of a batch.

    Attributes:
        cam (Tensor): (B, C, h', w'), float: the one-scale CAM before ReLU, which the class scores are pooled from.
        cams (Tensor): (B, C, h, w), float32, in 0..1: the propagated CAMs of all classes.
        affinity (Tensor | None): (B, n, n), float32, in 0..1, with n = h * w: which positions belong together; None
            where nothing was propagated by one.
    """

    cam: Tensor
    cams: Tensor
    affinity: Tensor | None = None


class PropagatingSegmentor(WSSSSegmentor):
    """A model whose segmentation is the argmax of [constant background | propagated CAMs of the classes it sees].

    A method brings :meth:`propagate`, beside what :class:`WSSSSegmentor` asks for.

    Args:
        test_cfg (dict, optional): See :class:`PropagationSettings`.
        kwargs: As for :class:`WSSSSegmentor`.

    Attributes:
        prediction (PropagationSettings): How pictures are segmented.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {'test_cfg': PropagationSettings}

    def __init__(self, *, test_cfg: dict | None = None, **kwargs) -> None:
        prediction = PropagationSettings(**(test_cfg or {}))
        super().__init__(test_cfg=test_cfg, **kwargs)
        self.prediction = prediction

    @classmethod
    def _default_recipe(cls, test_cfg: dict) -> LabelRecipe:
        return LabelRecipe('propagated', test_cfg.get('threshold', PropagationSettings.threshold))

    @property
    def prediction_views(self) -> tuple[tuple[float, ...], bool]:
        """Scales and flip of ``test_cfg``; see :class:`WSSSSegmentor`. Can be set."""
        return self.prediction.scales, self.prediction.flip

    @prediction_views.setter
    def prediction_views(self, views: tuple[tuple[float, ...], bool]) -> None:
        self.prediction = replace(self.prediction, scales=views[0], flip=views[1])

    @abstractmethod
    def propagate(self, inputs: Tensor) -> Propagated:
        """Propagate the CAMs of normalised pictures (B, 3, H, W)."""

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

    def seen_classes(self, cam: Tensor, valid: Tensor | None = None) -> Tensor:
        """Classes (B, C), bool, that the classifier sees in CAMs (B, C, h, w); ``valid`` (B, h, w) is pooled."""
        return self.classify(cam, valid).sigmoid() > self.prediction.score_threshold

    def encode_decode(self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Segmentation logits (B, K, H, W) at the size of the input (B, 3, H, W)."""
        found, size = self.propagate(inputs), tuple(inputs.shape[2:])
        positions = self.picture_positions(found.cam, batch_data_samples, size)
        cams = F.upscale(found.cams, size, self.align_corners)
        return self.segmentation_logits(cams, self.seen_classes(found.cam, positions))

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Data samples with everything that :class:`WSSSSegmentor` names; no ``affinity`` where there is none."""
        found, size = self.propagate(inputs), tuple(inputs.shape[2:])
        seen = self.seen_classes(found.cam, self.picture_positions(found.cam, data_samples, size))
        data_samples = self.add_predictions(data_samples, size, found.cam)
        maps = self.restore(F.upscale(found.cams, size, self.align_corners), data_samples)
        for index, (sample, cam) in enumerate(zip(data_samples, maps)):
            sample.set_field(PixelData(data=cam), 'propagated_cam', dtype=PixelData)
            logits = self.segmentation_logits(cam[None], seen[index : index + 1])[0]
            sample.seg_logits = PixelData(data=logits)
            sample.pred_sem_seg = PixelData(data=logits.argmax(dim=0, keepdim=True))
            if found.affinity is not None:
                grid = dict(grid=tuple(found.cams.shape[2:]))
                field = PixelData(data=found.affinity[index : index + 1], metainfo=grid)
                sample.set_field(field, 'affinity', dtype=PixelData)
        return data_samples
