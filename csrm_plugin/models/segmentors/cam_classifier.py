"""Stage 0: a multi-label classifier whose last feature map gives the CAMs."""

from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor

from csrm_plugin.functional import normalize_cam
from csrm_plugin.models.segmentors.label_recipe import LabelRecipe
from csrm_plugin.models.segmentors.views import TrainingView
from csrm_plugin.models.segmentors.wsss_segmentor import WSSSSegmentor


@MODELS.register_module()
class CAMClassifier(WSSSSegmentor):
    """Backbone and CAM head, trained with image-level labels.

    Its checkpoints are what CSRM starts from.

    Args:
        backbone (dict): Config of the backbone.
        cam_head (dict): Config of :class:`csrm_plugin.models.decode_heads.CAMHead`.
        loss_c (dict): Config of the classification loss.
        neck (dict, optional): Config of a neck.
        train_cfg (dict, optional): Unused.
        test_cfg (dict, optional): ``score_threshold`` and ``cam_threshold``, both in 0..1 and 0.5 by default, say
            which classes and which positions ``pred_sem_seg`` shows; ``pseudo_label``, see :class:`LabelRecipe`, is
            the CAM at ``cam_threshold`` by default.
        data_preprocessor (dict, optional): Config of the data preprocessor.
        init_cfg (dict, optional): Initialisation, of the parts that bring none of their own.
        pretrained (None): See :class:`WSSSSegmentor`.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {'test_cfg': ('score_threshold', 'cam_threshold', 'pseudo_label')}

    def __init__(
        self,
        backbone: dict,
        cam_head: dict,
        loss_c: dict,
        neck: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        pretrained: None = None,
    ) -> None:
        test_cfg = dict(score_threshold=0.5, cam_threshold=0.5) | (test_cfg or {})
        super().__init__(data_preprocessor, train_cfg, test_cfg, init_cfg, pretrained)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck) if neck is not None else None
        self.cam_head = MODELS.build(cam_head)
        self.loss_c = MODELS.build(loss_c)

    @classmethod
    def _default_recipe(cls, test_cfg: dict) -> LabelRecipe:
        return LabelRecipe('cam', test_cfg.get('cam_threshold', 0.5))

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of backbone and neck for (B, 3, H, W)."""
        features = self.backbone(inputs)
        return self.neck(features) if self.neck is not None else features

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """``loss_c`` of a batch."""
        labels, cam = self.image_labels(data_samples, inputs.device), self._forward(inputs)
        positions = self.picture_positions(cam, data_samples, inputs.shape[2:])
        return dict(loss_c=self.loss_c(self.classify(cam, positions), labels))

    def training_view(self, inputs: Tensor, data_samples: list[SegDataSample]) -> TrainingView:
        """The CAM of a batch; see :meth:`WSSSSegmentor.training_view`."""
        return TrainingView(self._forward(inputs))

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """Data samples with ``cam_logits``, ``pred_image_labels`` and a ``pred_sem_seg`` made from both."""
        data_samples = super().predict(inputs, data_samples)
        for sample in data_samples:
            seen = sample.pred_image_labels.scores > self.test_cfg['score_threshold']
            probs = normalize_cam(sample.cam_logits.data[None], labels=seen[None].float())[0]
            value, index = probs.max(dim=0, keepdim=True)
            sample.pred_sem_seg = PixelData(data=(index + 1) * (value > self.test_cfg['cam_threshold']))
        return data_samples
