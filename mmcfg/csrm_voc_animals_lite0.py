# CSRM on VOC animals with the features of EfficientNet-Lite0. Start from its classifier, `cam_voc_animals_lite0`.
_base_ = ['csrm_voc_animals.py', '_base_/models/backbone_lite0.py']

branch = dict(in_channels=320, c1_in_channels=24)
model = dict(
    backbone=dict(_base_.lite0, _delete_=True),
    cam_head=dict(in_channels=320),
    decode_head=branch,
    representation_head=branch,
)
