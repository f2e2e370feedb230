"""What all segmentors that learn from image-level labels share."""

import numpy as np
import torch
import torch.distributed as dist
from mmengine.structures import LabelData, PixelData
from mmseg.models.segmentors import BaseSegmentor
from mmseg.models.utils import resize
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from csrm_plugin import functional as F
from csrm_plugin.models.segmentors.label_recipe import LabelRecipe, read_recipe
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabeler, PseudoLabelSettings
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.utils import UserError


class NonFiniteLossError(UserError, FloatingPointError):
    """A loss is NaN or infinite; the weights have not been touched by it."""


#: Statistics that a model may return from ``loss`` beside its losses; those of its own have other names. What is there
#: is logged, and :class:`csrm_plugin.engine.hooks.CollapseAlarmHook` judges it. All are shares in 0..1.
STATISTICS = {
    'reliable/s': 'pixels with a certain pseudo label',
    'pseudo/foreground': 'pixels with a certain pseudo label of a class',
    'student/foreground': 'pixels that the network in training takes for a class',
    'contrast/chance': 'contrastive loss over that of equal similarities',
}


class WSSSSegmentor(BaseSegmentor):
    """Base of the segmentors that learn from image-level labels, and the contract that the package holds to.

    What a method must bring: ``extract_feat`` and a ``cam_head`` (or a ``cam_network`` that has both), ``loss``, and
    ``predict`` where it predicts more than CAMs. Everything else has a default here:

    - *Training*: ``loss`` returns scalars whose names hold ``loss`` for what is added up, and other names for what is
      logged only, among them those of :data:`STATISTICS` where they apply. ``loss_c`` is the classification loss; a
      module ``loss_c`` with ``chance`` says what knowing nothing costs. Hooks set ``warmup_factor`` (0 during the
      warm-up, then 1) and ``warmup_iters`` where a model has them, and call ``update_teacher`` where it has one.
    - *Pseudo labels*: a model that learns from some sets ``labeler``, which makes, names and draws them.
    - *Drawing*: :meth:`training_view`, :attr:`training_note`, :meth:`training_labels`.
    - *Predicting*: :meth:`predict` puts into each data sample (h, w is the picture's original size)

      - ``cam_logits``: PixelData (C, h, w), float, the CAM before ReLU;
      - ``pred_image_labels``: LabelData with ``scores`` (C,), float, in 0..1;
      - ``pseudo_label`` (metainfo): what its labels are made from, see :class:`LabelRecipe`;
      - ``seg_logits`` (K, h, w), ``pred_sem_seg`` (1, h, w), where the model has a segmentation;
      - ``propagated_cam``: PixelData (C, h, w), float32, in 0..1, of all classes, where the model propagates its CAMs;
      - ``affinity``: PixelData (1, n, n), float, in 0..1, with ``grid`` (rows, columns), n = rows * columns, where the
        model says which positions of the network's input belong together: for scores only.
    - *Scores*: :attr:`segmentation_note`, :attr:`prediction_views`, :meth:`label_recipe_of`; :attr:`predicting` and
      :attr:`weights_note` of a model of several networks.
    - *Loading for predictions*: :meth:`prediction_settings`.

    Args:
        data_preprocessor (dict, optional): Config of the data preprocessor.
        train_cfg (dict, optional): Unused.
        test_cfg (dict, optional): How predictions are made. ``pseudo_label``: see :class:`LabelRecipe`.
        init_cfg (dict, optional): Initialisation.
        pretrained (None): The host's ``init_model`` gives every model this parameter, with None.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {'test_cfg.pseudo_label': LabelRecipe}
    #: Settings of the pseudo labels that are not those of :class:`PseudoLabelSettings`.
    PSEUDO_LABEL: dict = {}
    #: What makes the pseudo labels that the model learns from; None where it learns from none.
    labeler: PseudoLabeler | None = None

    #: Which of its networks a model predicts with, in a word; None where it has but one.
    predicting: str | None = None
    #: Why that is not the one that was asked for, in a few words; empty where it is.
    weights_note: str = ''

    align_corners = False
    #: Whether the first pseudo labels of a training without a trained classifier (``load_from``) are noise.
    starts_from_classifier = False

    @classmethod
    def prediction_settings(cls, settings: dict) -> dict:
        """Settings of a model of this class that only predicts: without what takes part in the training alone.

        The refinement of pseudo labels is left out: dCRF wants a package.

        Args:
            settings (dict): ``model`` of a config, as a plain dict; stays as it is.
        """
        if not any('pseudo_label' in vars(base).get('SETTINGS', {}) for base in cls.__mro__):
            return settings
        return dict(settings, pseudo_label=dict(settings.get('pseudo_label') or {}, refine='none', crf=None))

    @classmethod
    def label_recipe_of(cls, test_cfg: dict | None) -> LabelRecipe:
        """What the labels of a model with this ``test_cfg`` are made from, unless told otherwise."""
        test_cfg = test_cfg or {}
        return read_recipe(test_cfg.get('pseudo_label'), cls._default_recipe(test_cfg))

    @classmethod
    def _default_recipe(cls, test_cfg: dict) -> LabelRecipe:
        """The recipe of a ``test_cfg`` that has no section ``pseudo_label``: the segmentation."""
        return LabelRecipe('seg')

    @property
    def training_note(self) -> str:
        """What :meth:`training_view` stands on, in one line; empty where there is nothing to say."""
        return '' if self.labeler is None else self.labeler.note()

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

    @property
    def cam_network(self) -> nn.Module:
        """The network that predicts, with ``extract_feat`` and ``cam_head``; the model itself where it is but one."""
        return self

    def __init__(
        self,
        data_preprocessor: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if pretrained is not None:
            raise UserError(
                f'`model.pretrained` is {pretrained!r}, but nothing reads it: name the weights in '
                '`model.backbone.init_cfg`, or a whole checkpoint in `load_from`.'
            )
        self.train_cfg, self.test_cfg = train_cfg, test_cfg or {}
        self.label_recipe_of(self.test_cfg)  # a wrong one is an error now, not at the first validation

    def build_labeler(self, pseudo_label: dict | None) -> PseudoLabeler:
        """What makes pseudo labels as ``model.pseudo_label`` says, with the defaults of this class."""
        settings = PseudoLabelSettings(**{**self.PSEUDO_LABEL, **(pseudo_label or {})})
        return PseudoLabeler(settings, self.align_corners)

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

    def image_labels(self, data_samples: list[SegDataSample], device: torch.device | str) -> Tensor:
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
        return _valid_pixels(data_samples, inputs.shape[2:], inputs.device)

    @staticmethod
    def picture_positions(
        cam: Tensor, data_samples: list[SegDataSample] | None, size: tuple[int, int]
    ) -> Tensor | None:
        """Positions of a CAM that hold a picture: class scores are pooled over those, for padding is no part of it.

        Args:
            cam (Tensor): (B, C, h, w).
            data_samples (list[SegDataSample], optional): Of the same pictures.
            size (tuple[int, int]): Height and width of the network's input.

        Returns:
            Tensor | None: (B, h, w), bool; None where no picture of the batch is padded.
        """
        if data_samples is None or not any(any(_padding(sample)) for sample in data_samples):
            return None
        return F.inside(_valid_pixels(data_samples, size, cam.device), tuple(cam.shape[2:]))

    def pictures(self, inputs: Tensor, size: tuple[int, int] | None = None) -> Tensor:
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
            left, right, top, bottom = _padding(sample)
            row = row[:, top : row.shape[1] - bottom, left : row.shape[2] - right]
            if meta.get('flip'):
                row = row.flip(2 if meta.get('flip_direction', 'horizontal') == 'horizontal' else 1)
            size = meta.get('ori_shape', row.shape[1:])[:2]
            restored.append(resize(row[None], size, mode='bilinear', align_corners=self.align_corners)[0])
        return restored

    def classify(self, cam: Tensor, valid: Tensor | None = None) -> Tensor:
        """Class logits (B, C), float32, of a CAM (B, C, h, w), as the CAM head pools; ``valid`` (B, h, w) are pooled.

        The class scores of all predictions, tiles put together again included, are the sigmoid of this.
        """
        return self.cam_network.cam_head.classify(cam, valid)

    def _forward(self, inputs: Tensor, data_samples=None) -> Tensor:
        """CAM (B, C, h, w), float, any range, of normalised pictures (B, 3, H, W)."""
        return self.cam_network.cam_head(self.cam_network.extract_feat(inputs))

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Data samples with what the class says; here CAMs and class scores."""
        return self.add_predictions(data_samples, inputs.shape[2:], self._forward(inputs))

    def add_predictions(
        self,
        data_samples: list[SegDataSample] | None,
        size: tuple[int, int],
        cam: Tensor,
        seg_logits: Tensor | None = None,
    ) -> list[SegDataSample]:
        """Put CAM (B, C, h, w) and segmentation logits (B, K, h, w) into the data samples; ``size`` is the input's."""
        if data_samples is None:
            data_samples = [SegDataSample() for _ in cam]
        scores = self.classify(cam, self.picture_positions(cam, data_samples, size)).sigmoid()
        recipe = self.label_recipe_of(self.test_cfg).as_dict()
        maps = resize(cam.float(), size, mode='bilinear', align_corners=self.align_corners)
        for sample, row, score in zip(data_samples, self.restore(maps, data_samples), scores):
            sample.set_metainfo(dict(pseudo_label=recipe))
            sample.set_field(PixelData(data=row), 'cam_logits', dtype=PixelData)
            sample.set_field(LabelData(scores=score), 'pred_image_labels', dtype=LabelData)
        if seg_logits is not None:
            maps = resize(seg_logits.float(), size, mode='bilinear', align_corners=self.align_corners)
            for sample, row in zip(data_samples, self.restore(maps, data_samples)):
                sample.seg_logits = PixelData(data=row)
                sample.pred_sem_seg = PixelData(data=row.argmax(dim=0, keepdim=True))
        return data_samples

    def training_labels(self, picture: np.ndarray, cam_logits: Tensor, labels: Tensor) -> Tensor | None:
        """The pseudo labels that this model would learn from, but from one CAM at the picture's size; for drawing them.

        Args:
            picture (np.ndarray): (H, W, 3), uint8, RGB.
            cam_logits (Tensor): (C, H, W), float: CAM of the predicting network at the size of the picture.
            labels (Tensor): (C,), 0/1: the image-level label.

        Returns:
            Tensor | None: (H, W), int64, 255 uncertain; None for a model that learns from no pseudo labels.
        """
        if self.labeler is None:
            return None
        return self.labeler(cam_logits[None].float().cpu(), labels[None].float().cpu(), picture[None])[0]

    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView | None:
        """What this model makes of a batch, for drawing; called in eval mode, without gradient.

        Args:
            inputs (Tensor): (B, 3, H, W), float: normalised pictures of the training pipeline.
            data_samples (list[SegDataSample]): Of the same pictures.

        Returns:
            TrainingView | None: None for a model of which nothing but the pictures is to be drawn.
        """
        return None

    def encode_decode(self, inputs: Tensor, batch_data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Segmentation logits (B, K, H, W) at the size of the input (B, 3, H, W)."""
        raise UserError(f'{type(self).__name__} has no segmentation branch; it gives CAMs (`predict`).')


def _padding(sample: SegDataSample) -> tuple[int, int, int, int]:
    """Pixels of padding of a picture: left, right, top, bottom."""
    meta = sample.metainfo
    return meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))


def _valid_pixels(data_samples: list[SegDataSample], size, device) -> Tensor:
    """Where pictures of ``size`` (H, W) are no padding: (B, H, W), bool."""
    height, width = size
    valid = torch.ones((len(data_samples), height, width), dtype=torch.bool, device=device)
    for row, sample in zip(valid, data_samples):
        left, right, top, bottom = _padding(sample)
        row[:top] = row[height - bottom :] = False
        row[:, :left] = row[:, width - right :] = False
    return valid
