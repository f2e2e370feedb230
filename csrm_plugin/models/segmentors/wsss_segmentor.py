"""What all segmentors that learn from image-level labels share."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from mmengine.structures import LabelData, PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin.utils import UserError


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss is NaN or infinite; the weights have not been touched by it."""


class MixedView(NamedTuple):
    """What a model learns from where it mixes the pictures of a batch.

    Attributes:
        inputs (Tensor): (B, 3, H, W), float: normalised pictures.
        labels (Tensor): (B, C), 0/1: the image-level labels after mixing.
        pseudo_labels (Tensor): (B, h, w), int64, 255 uncertain.
    """

    inputs: Tensor
    labels: Tensor
    pseudo_labels: Tensor


class TrainingView(NamedTuple):
    """What a model makes of a training batch, for drawing; see :meth:`WSSSSegmentor.training_view`.

    Attributes:
        cam (Tensor): (B, C, h', w'), float: CAM before ReLU, or after it.
        whose (str): What the CAM is, for a caption, as in ``"teacher's CAM"``.
        pseudo_labels (Tensor | None): (B, h, w), int64, 255 uncertain: made from CAMs; None where there are none.
        how (str): How they are made, in a few words, for a caption.
        mixed (MixedView | None): Where the model mixes pictures.
        tiles (int | None): Into how many tiles per side the model cuts pictures.
    """

    cam: Tensor
    whose: str = 'CAM'
    pseudo_labels: Tensor | None = None
    how: str = ''
    mixed: MixedView | None = None
    tiles: int | None = None


class WSSSSegmentor(BaseSegmentor):
    """Base of the segmentors: labels and padding of a batch, predictions, and a stop before a non-finite update.

    What :meth:`predict` puts into each data sample (h, w is the picture's original size):

    - ``cam_logits``: PixelData (C, h, w), float, the CAM before ReLU;
    - ``pred_image_labels``: LabelData with ``scores`` (C,), float, in 0..1;
    - ``seg_logits`` (K, h, w), ``pred_sem_seg`` (1, h, w), where the model has a segmentation;
    - ``propagated_cam``: PixelData (C, h, w), float32, in 0..1, of all classes, where the model propagates its CAMs;
    - ``affinity``: PixelData (1, n, n), float, in 0..1, with ``grid`` (rows, columns), n = rows * columns, where the
      model says which positions of the network's input belong together: for scores only.

    Args:
        data_preprocessor (dict, optional): Config of the data preprocessor.
        init_cfg (dict, optional): Initialisation.
        pretrained (None): The host's ``init_model`` gives every model this parameter, with None.
    """

    align_corners = False
    #: Whether the first pseudo labels of a training without a trained classifier (``load_from``) are noise.
    starts_from_classifier = False

    @classmethod
    def prediction_settings(cls, settings: dict) -> dict:
        """Settings of a model of this class that only predicts: without what takes part in the training alone.

        Args:
            settings (dict): ``model`` of a config, as a plain dict; stays as it is.
        """
        return settings

    @property
    def training_note(self) -> str:
        """What :meth:`training_view` stands on, in one line; empty where there is nothing to say."""
        return ''

    @property
    def segmentation_note(self) -> str | None:
        """What the segmentation stands on, where that is more than the scales and the flip of the test pipeline.

        In a few words, as in ``'CAMs of scales 0.5 1 1.5 with flip, background 0.35 in the segmentation'``; scores of
        the segmentation and of propagated CAMs are named with it. None where there is nothing more.
        """
        return None

    @property
    def prediction_views(self) -> tuple[tuple[float, ...], bool] | None:
        """Scales, relative to the input, and whether each is mirrored too, that one prediction averages by itself.

        Can be set where it is not None, as by ``tools/benchmark.py``. None for a model that sees its input as it is.
        """
        return None

    def __init__(self, data_preprocessor=None, init_cfg=None, pretrained=None) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if pretrained is not None:
            raise UserError(
                f'`model.pretrained` is {pretrained!r}, but nothing reads it: name the weights in '
                '`model.backbone.init_cfg`, or a whole checkpoint in `load_from`.'
            )

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict]:
        """As the host, but a total that is not finite stops the run before the weights are touched.

        Raises:
            NonFiniteLossError: On every process, naming the terms, if any process has a total that is not finite.
        """
        total, log_vars = super().parse_losses(losses)
        bad = (~torch.isfinite(total.detach())).float()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(bad)  # or the other processes would wait for this one for ever
        if bad > 0:
            terms = [name for name, value in log_vars.items() if name != 'loss' and not torch.isfinite(value).all()]
            raise NonFiniteLossError(
                f'The loss is not finite ({", ".join(terms) or "on another process"}); the run stops before the '
                'weights are touched. Likely causes: a learning rate (`optim_wrapper.optimizer.lr`) that is too high, '
                'half precision, or a broken picture in this batch. The last checkpoint is intact.'
            )
        return total, log_vars

    def image_labels(self, data_samples: list[SegDataSample], device) -> Tensor:
        """Image-level labels (B, C), float32, 0/1."""
        if not all('gt_image_labels' in sample for sample in data_samples):
            raise UserError(
                'A training picture has no image-level labels: end `train_dataloader.dataset.pipeline` with '
                '`PackWSSSInputs`, on a data set of csrm_plugin.'
            )
        return torch.stack([sample.gt_image_labels.multi_hot for sample in data_samples]).to(device)

    @staticmethod
    def valid_pixels(inputs: Tensor, data_samples: list[SegDataSample]) -> Tensor:
        """Where the batch (B, 3, H, W) holds a picture and not padding: (B, H, W), bool."""
        valid = inputs.new_ones((len(inputs), *inputs.shape[2:]), dtype=torch.bool)
        for row, sample in zip(valid, data_samples):
            left, right, top, bottom = sample.metainfo.get('padding_size', (0, 0, 0, 0))
            height, width = row.shape
            row[:top] = row[height - bottom :] = False
            row[:, :left] = row[:, width - right :] = False
        return valid

    def pictures(self, inputs: Tensor, size=None) -> Tensor:
        """The pictures (B, H, W, 3), uint8, RGB, that the normalised inputs were made from, shrunk to ``size``."""
        preprocessor = self.data_preprocessor
        pixels = inputs
        if getattr(preprocessor, '_enable_normalize', False):
            pixels = inputs * preprocessor.std + preprocessor.mean
        # MMSegmentation and its fork call it by different names.
        if not any(getattr(preprocessor, name, False) for name in ('channel_conversion', '_channel_conversion')):
            pixels = pixels.flip(1)  # the loader gives BGR
        if size is not None and tuple(size) != tuple(pixels.shape[2:]):
            pixels = torch.nn.functional.interpolate(pixels, size, mode='area')
        return pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def restore(self, maps: Tensor, data_samples: list[SegDataSample]) -> list[Tensor]:
        """Bring maps back to each picture's original size: remove padding, undo the flip, resize.

        Args:
            maps (Tensor): (B, X, H, W), float, at the size of the network's input.
            data_samples (list[SegDataSample]): With the metainfo of the pipeline.

        Returns:
            list[Tensor]: For each picture (X, h, w).
        """
        restored = []
        for row, sample in zip(maps, data_samples):
            meta = sample.metainfo
            left, right, top, bottom = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
            row = row[:, top : row.shape[1] - bottom, left : row.shape[2] - right]
            if meta.get('flip'):
                row = row.flip(2 if meta.get('flip_direction', 'horizontal') == 'horizontal' else 1)
            size = meta.get('ori_shape', row.shape[1:])[:2]
            restored.append(resize(row[None], size, mode='bilinear', align_corners=self.align_corners)[0])
        return restored

    def classify(self, cam: Tensor) -> Tensor:
        """Class logits (B, C), float32, of a CAM (B, C, h, w): the mean over the positions; its head's, where one is.

        The class scores of all predictions, tiles put together again included, are the sigmoid of this.
        """
        return cam.float().mean(dim=(2, 3))

    def add_predictions(self, data_samples, size, cam: Tensor, seg_logits: Tensor | None = None):
        """Put CAM (B, C, h, w) and segmentation logits (B, K, h, w) into the data samples; ``size`` is the input's."""
        if data_samples is None:
            data_samples = [SegDataSample() for _ in cam]
        scores = self.classify(cam).sigmoid()
        maps = resize(cam.float(), size, mode='bilinear', align_corners=self.align_corners)
        for sample, row, score in zip(data_samples, self.restore(maps, data_samples), scores):
            sample.set_field(PixelData(data=row), 'cam_logits', dtype=PixelData)
            sample.set_field(LabelData(scores=score), 'pred_image_labels', dtype=LabelData)
        if seg_logits is not None:
            maps = resize(seg_logits.float(), size, mode='bilinear', align_corners=self.align_corners)
            for sample, row in zip(data_samples, self.restore(maps, data_samples)):
                sample.seg_logits = PixelData(data=row)
                sample.pred_sem_seg = PixelData(data=row.argmax(dim=0, keepdim=True))
        return data_samples

    def training_labels(self, picture, cam_logits: Tensor, labels: Tensor) -> Tensor | None:
        """The pseudo labels that this model would learn from, for drawing them.

        Args:
            picture (np.ndarray): (H, W, 3), uint8, RGB.
            cam_logits (Tensor): (C, H, W), float: CAM of the predicting network at the size of the picture.
            labels (Tensor): (C,), 0/1: the image-level label.

        Returns:
            Tensor | None: (H, W), int64, 255 uncertain; None for a model that learns from no pseudo labels.
        """
        return None

    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView | None:
        """What this model makes of a batch, for drawing; called in eval mode, without gradient.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures of the training pipeline.
            data_samples (list[SegDataSample]): Of the same pictures.

        Returns:
            TrainingView | None: None for a model of which nothing but the pictures is to be drawn.
        """
        return None

    def encode_decode(self, inputs: Tensor, batch_data_samples=None) -> Tensor:
        """Segmentation logits (B, K, H, W) at the size of the input (B, 3, H, W)."""
        raise UserError(f'{type(self).__name__} has no segmentation branch; it gives CAMs (`predict`).')


def shrink_nearest(maps: Tensor, size) -> Tensor:
    """Resize maps (B, H, W) of labels or a mask, of any dtype, to ``size`` (h, w) with nearest neighbours."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    return resize(maps[:, None].float(), tuple(size), mode='nearest')[:, 0].to(maps.dtype)
