# Stage 0 on VOC animals with the stronger features of EfficientNet-Lite0. ImageNet weights: $LITE0_WEIGHTS.
_base_ = ['cam_voc_animals.py', '_base_/models/backbone_lite0.py']

model = dict(backbone=dict(_base_.lite0, _delete_=True), cam_head=dict(in_channels=320))
