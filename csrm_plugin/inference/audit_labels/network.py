"""The CAMs that labels are made from: those of the predicting network, seen as in the training."""

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin import functional as F
from csrm_plugin.inference.audit_labels.settings import Views
from csrm_plugin.models.checkpoints.prediction import build_for_prediction, find_misfits, load_model, read_tensors
from csrm_plugin.models.segmentors import TeacherStudent, WSSSSegmentor
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabeler, PseudoLabelSettings
from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import choose_device
from csrm_plugin.utils.quiet import quiet

#: Parts of a network that a CAM is made by.
CAM_PARTS = ('backbone.', 'neck.', 'cam_head.')


def load_cam_model(cfg: Config, checkpoint: str, device: str | None = None) -> tuple[WSSSSegmentor, str | None]:
    """The model of a config with trained weights, as far as its CAM wants them.

    A method of student and teacher may start from a classifier; with the classifier's checkpoint its CAM is what the
    first labels of that training are made from.

    Args:
        cfg (mmengine.config.Config): With ``model``.
        checkpoint (str): A checkpoint of that config, or of a classifier that the training may start from.
        device (str, optional): Default: CUDA where there is one.

    Returns:
        tuple[WSSSSegmentor, str | None]: In evaluation mode; what the weights are where they are not the model's own.

    Raises:
        UserError: If the model has no CAM, or the checkpoint is not one for it.
    """
    _check_kind(cfg)
    model = build_for_prediction(cfg)
    if isinstance(model, TeacherStudent):
        tensors = read_tensors(checkpoint)
        needed = {name: value for name, value in model.student.state_dict().items() if name.startswith(CAM_PARTS)}
        misfits = find_misfits(needed, tensors)
        complete = not find_misfits(model.student.state_dict(), tensors).missing
        if not complete and not misfits.missing and not misfits.reshaped:
            with quiet():
                model.load_state_dict(tensors, strict=False)
            return model.to(choose_device(device)).eval(), 'classifier that the training would start from'
    return load_model(cfg, checkpoint, device), None


def _check_kind(cfg) -> None:
    """Raise unless the model of a config has a CAM."""
    if not isinstance(cfg.get('model'), dict) or 'type' not in cfg.model:
        raise UserError(f'config `{cfg.filename}` has no model')
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    kind = MODELS.get(cfg.model.type) if isinstance(cfg.model.type, str) else cfg.model.type
    if isinstance(kind, type) and not issubclass(kind, WSSSSegmentor):
        raise UserError(
            f'config `{cfg.filename}`: a {kind.__name__} has no CAM to make labels from; give a classifier or a method '
            'that learns from image-level labels (the label maps of others are scored by `tools/evaluate_labels.py`)'
        )


def settings_in_force(cfg: Config, model: WSSSSegmentor) -> PseudoLabelSettings | None:
    """How the training of a config makes its labels, refinement included; None for a model that learns from none."""
    if model.labeler is None:
        return None
    return PseudoLabelSettings(**{**model.PSEUDO_LABEL, **(cfg.model.get('pseudo_label') or {})})


class LabelSource:
    """What labels are made from, of one picture at a time.

    Args:
        model (WSSSSegmentor): In evaluation mode.
        stride (int): Pixels of the input per pixel of the labels, in each direction.
    """

    def __init__(self, model: WSSSSegmentor, stride: int) -> None:
        self.model, self.stride = model, stride
        self.device = next(model.parameters()).device

    def prepare(self, batch: dict) -> tuple[Tensor, list[SegDataSample]]:
        """Normalised pictures (1, 3, H, W) and their data samples, of a batch of the loader."""
        data = self.model.data_preprocessor(batch, False)
        return data['inputs'], data['data_samples']

    def size(self, inputs: Tensor) -> tuple[int, int]:
        """Height and width of the labels."""
        return tuple(max(length // self.stride, 1) for length in inputs.shape[2:])

    @torch.inference_mode()
    def cams(self, inputs: Tensor, data_samples: list[SegDataSample], views: Views) -> Tensor:
        """CAMs (n, h, w) of the picture's own classes, in 0..1, as :class:`PseudoLabeler` has them.

        Args:
            inputs (Tensor): (1, 3, H, W), float: the normalised picture.
            data_samples (list[SegDataSample]): Its data sample, with image-level labels.
            views (Views): What is averaged.
        """
        model, network = self.model, self.model.cam_network
        settings = PseudoLabelSettings(
            stride=self.stride, scales=views.scales, flip=views.flip, refine='none', crf=None
        )
        cams, _, _ = PseudoLabeler(settings, model.align_corners).own_cams(
            lambda seen: network.cam_head(network.extract_feat(seen)),
            inputs,
            model.image_labels(data_samples, self.device),
            F.shrink_nearest(model.valid_pixels(inputs, data_samples), self.size(inputs)),
        )
        return cams[0]
