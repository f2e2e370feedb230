"""Figures of the CSRM paper, as data, and as cards that a run can be compared with.

"Learning Weakly Supervised Semantic Segmentation Through Cross-Supervision and Contrasting of Pixel-Level
Pseudo-Labels", VISAPP 2025, DOI 10.5220/0013238400003912. All scores are mIoU or IoU in percent.
"""

import copy

DOI = '10.5220/0013238400003912'

#: Data sets that the paper has figures for.
DATASETS = ('voc', 'coco')

#: Table 1: ablation on VOC 2012, CSRM with the losses named (beside ``loss_c``).
TABLE_1 = [
    dict(source='Table 1, row 1', losses=('s',), train=69.9, val=67.7),
    dict(source='Table 1, row 2', losses=('s', 's2c'), train=68.3, val=66.6),
    dict(source='Table 1, row 3', losses=('s', 's2c', 'u'), train=70.8, val=68.7),
    dict(source='Table 1, row 4', losses=('s', 's2c', 'u', 'm'), train=71.8, val=69.8),
]

MARKS_MISSING = (
    'the check marks of this row are not in the text of the paper: 72.6/70.2 is taken as CSRM with dCRF, which is what '
    'the other rows leave open'
)

#: Table 2: pseudo labels on VOC 2012; ``stage`` is the name in our pipelines. The first row is ResNeSt-101 Puzzle-CAM.
TABLE_2 = [
    dict(source='Table 2, row 1', stage='labels_cam', csrm=False, crf=False, sepl=False, train=59.9, val=59.8),
    dict(source='Table 2, row 2', stage='labels_csrm', csrm=True, crf=False, sepl=False, train=71.8, val=69.8),
    dict(source='Table 2, row 3', stage='labels_cam_crf', csrm=False, crf=True, sepl=False, train=65.3, val=65.2),
    dict(source='Table 2, row 4', stage='labels_cam_sepl', csrm=False, crf=False, sepl=True, train=71.6, val=71.8),
    dict(
        source='Table 2, second row 4',
        stage='labels_csrm_crf',
        csrm=True,
        crf=True,
        sepl=False,
        train=72.6,
        val=70.2,
        note=MARKS_MISSING,
    ),
    dict(source='Table 2, row 5', stage='labels_csrm_crf_sepl', csrm=True, crf=True, sepl=True, train=77.6, val=76.2),
]

#: Table 3: networks trained on VOC 2012, with true masks (supervision F) or with CSRM's labels (I).
TABLE_3 = [
    dict(
        source='Table 3',
        method='DeepLabV2',
        supervision='F',
        backbone='RN-101',
        network='deeplabv2',
        val=76.8,
        test=76.2,
    ),
    dict(source='Table 3', method='CSRM', supervision='I', backbone='RN-101', network='deeplabv2', val=69.8, test=70.4),
    dict(
        source='Table 3',
        method='DeepLabV3+',
        supervision='F',
        backbone='RS-269',
        network='deeplabv3plus',
        val=80.6,
        test=81.0,
    ),
    dict(
        source='Table 3',
        method='CSRM',
        supervision='I',
        backbone='RS-269',
        network='deeplabv3plus',
        val=74.5,
        test=75.0,
    ),
]

#: Table 4: the same on COCO 2014; it has no fully supervised rows.
TABLE_4 = [
    dict(source='Table 4', method='CSRM', supervision='I', backbone='RN-101', network='deeplabv2', val=46.2),
    dict(source='Table 4', method='CSRM', supervision='I', backbone='RS-269', network='deeplabv3plus', val=50.5),
]

#: Table 5: IoU per class on the test set of VOC 2012, by DeepLabV3+ trained with CSRM's labels; our class names.
TABLE_5 = dict(
    source='Table 5',
    method='CSRM',
    iou=dict(
        background=92.3,
        aeroplane=92.0,
        bicycle=43.9,
        bird=90.1,
        boat=66.4,
        bottle=75.0,
        bus=93.3,
        car=87.1,
        cat=86.8,
        chair=41.4,
        cow=89.7,
        diningtable=49.6,
        dog=88.7,
        horse=87.9,
        motorbike=85.1,
        person=77.9,
        pottedplant=72.2,
        sheep=91.5,
        sofa=46.5,
        train=70.1,
        tvmonitor=47.8,
    ),
    mean=75.0,
)

#: Settings of CSRM that the paper states (Sections 3 and 4), by our keys, where our configs follow it. What differs on
#: purpose is in docs/departures.md. The length of the warm-up, the momentum and lambda_s2c are not stated.
CSRM_SETTINGS = {
    'global_batch_size': 32,
    'train_cfg.max_epochs': 15,
    'optim_wrapper.optimizer.type': 'SGD',
    'optim_wrapper.optimizer.lr': 0.007,  # of pretrained parameters; 0.07 for new ones
    'optim_wrapper.optimizer.weight_decay': 1e-4,
    'optim_wrapper.paramwise_cfg.custom_keys.decode_head.lr_mult': 10,
    'optim_wrapper.paramwise_cfg.custom_keys.representation_head.lr_mult': 10,
    'param_scheduler.0.type': 'PolyLR',
    'param_scheduler.0.power': 1.0,  # linear
    'train_dataloader.dataset.pipeline.1.scale': [512, 512],  # width, height in pixels
    'train_dataloader.dataset.pipeline.1.keep_ratio': False,
    'train_dataloader.dataset.pipeline.2.type': 'RandomFlip',
    'model.type': 'CSRM',
    'model.backbone.depth': 101,
    'model.mix_prob': 0.5,
    'model.pseudo_label.fg_threshold': 0.35,
    'model.pseudo_label.bg_threshold': 0.05,
    'model.reliability.alpha': 0.2,  # a fraction, falls to 0
    'model.reliability.sigma_s2c': 0.1,  # a probability, rises to 1
    'custom_hooks.1.attribute': 'alpha',
    'custom_hooks.1.end': 0.0,
    'custom_hooks.2.attribute': 'sigma_s2c',
    'custom_hooks.2.end': 1.0,
    'model.loss_s.type': 'PseudoLabelLoss',
    'model.loss_s2c.type': 'ActivationConsistencyLoss',
    'model.loss_u.loss_weight': 1.0,
    'model.loss_m.loss_weight': 1.0,
    'model.loss_m.num_queries': 50,
    'model.loss_m.num_negatives': 256,
    'model.loss_m.temperature': 0.5,
    'model.loss_m.low_rank': 3,
    'model.loss_m.high_rank': 6,
    'model.bank_capacity': 256,
}

#: Those of them that our configs leave to the default of a class, which is the paper's.
DEFAULTS = (
    'model.mix_prob',
    'model.loss_m.num_queries',
    'model.loss_m.num_negatives',
    'model.loss_m.temperature',
    'model.loss_m.low_rank',
    'model.loss_m.high_rank',
)

#: What the paper changes for COCO.
COCO_SETTINGS = {
    'optim_wrapper.optimizer.lr': 0.004,
    'train_dataloader.dataset.pipeline.1.scale': [640, 640],
}

#: Settings of the verification networks that the paper states, per network and data set.
VERIFICATION_SETTINGS = {
    ('deeplabv2', 'voc'): {
        'model.backbone.depth': 101,
        'global_batch_size': 10,
        'train_cfg.max_iters': 10000,
        'train_dataloader.dataset.pipeline.3.crop_size': [321, 321],  # pixels
        'optim_wrapper.optimizer.lr': 2.5e-4,
    },
    ('deeplabv2', 'coco'): {
        'model.backbone.depth': 101,
        'global_batch_size': 10,
        'train_cfg.max_iters': 20000,
        'train_dataloader.dataset.pipeline.3.crop_size': [481, 481],
        'optim_wrapper.optimizer.lr': 2e-4,
    },
    ('deeplabv3plus', 'voc'): {
        'model.backbone.depth': 269,
        'global_batch_size': 32,
        'train_cfg.max_epochs': 50,
        'optim_wrapper.optimizer.lr': 0.007,
    },
    ('deeplabv3plus', 'coco'): {
        'model.backbone.depth': 269,
        'global_batch_size': 32,
        'train_cfg.max_epochs': 50,
        'optim_wrapper.optimizer.lr': 0.004,
    },
}

#: ``model.type`` of the classifiers that the first row of Table 2 may be compared with.
CLASSIFIERS = ('CAMClassifier', 'PuzzleCAM')

#: Verification networks of the paper.
NETWORKS = ('deeplabv2', 'deeplabv3plus')

#: Verification stages of our pipelines -> network.
VERIFICATION_STAGES = {'verify_csrm': 'deeplabv2', 'verify_csrm_v3plus': 'deeplabv3plus', 'verify_masks': 'deeplabv2'}

#: Pictures of the splits of VOC 2012; a property of the data set, which the paper does not repeat.
VOC_PICTURES = {
    'train': {'pictures': 1464},
    'val': {'pictures': 1449},
    'train_aug': {'pictures': 10582},
}

#: Stages of our pipelines whose labels are CSRM's.
CSRM_LABELS = tuple(row['stage'] for row in TABLE_2 if row['csrm'])

TTA_NOTE = "the paper's scores are with test-time augmentation over several scales, which it does not list"


def paper_card_run(dataset: str, networks: dict | None = None) -> list[dict]:
    """The paper as a run: cards with status ``published``, under the stage names of our pipelines.

    Args:
        dataset (str): ``'voc'`` or ``'coco'`` (for COCO the paper gives settings and verification scores only).
        networks (dict[str, str | None], optional): Verification stage (``verify_csrm...``, ``verify_masks...``) to
            network, one of :data:`NETWORKS`, or None for one that is not the paper's; beyond or instead of
            :data:`VERIFICATION_STAGES`.

    Returns:
        list[dict]: Cards in the order of the stages, with ``scores`` in percent, ``config.settings`` and ``context``
        as far as the paper states them, ``defaults`` (settings that a config may leave out), ``optional`` (bool, for
        stages that need SAM), ``source`` (the table) and ``notes``. Changing them changes nothing here.

    Raises:
        ValueError: If the paper has no such data set or network.
    """
    if dataset not in DATASETS:
        raise ValueError(f'`dataset` must be one of {", ".join(DATASETS)}, but is {dataset!r}.')
    networks = {**VERIFICATION_STAGES, **(networks or {})}
    unknown = set(networks.values()) - {*NETWORKS, None}
    if unknown:
        raise ValueError(f'`networks` must name {", ".join(NETWORKS)} or None, but has {unknown.pop()!r}.')
    cards = _voc_cards() if dataset == 'voc' else [_card('csrm', 'train', 'Section 4', settings=_settings('coco'))]
    for stage, network in networks.items():
        row = _verification_row(dataset, network, 'F' if stage.startswith('verify_masks') else 'I')
        if row is not None:
            cards.append(_verification_card(stage, row, VERIFICATION_SETTINGS[network, dataset]))
    for number, card in enumerate(cards, start=1):
        card.update(run=dataset, dataset=dataset, number=number)
    return copy.deepcopy(cards)


def _voc_cards():
    """Cards up to the pseudo labels."""
    rows = {row['stage']: row for row in TABLE_2}
    tta = {'multi_scale': True, 'with_crf': False}
    cards = [
        _card('data', 'data', 'the data set itself', data=VOC_PICTURES),
        _card(
            'classifier',
            'train',
            rows['labels_cam']['source'],
            scores=_scores(rows['labels_cam'], 'pseudo/mIoU'),
            context=tta,
            notes=[TTA_NOTE],
        ),
        _card(
            'csrm',
            'train',
            TABLE_1[3]['source'],
            scores=_scores(TABLE_1[3], 'pseudo/mIoU'),
            settings=_settings('voc'),
            context=tta,
            data=VOC_PICTURES,
            notes=[TTA_NOTE],
        ),
    ]
    order = (
        'labels_cam',
        'labels_cam_crf',
        'labels_csrm',
        'labels_csrm_crf',
        'labels_cam_sepl',
        'labels_csrm_crf_sepl',
    )
    for stage in order:
        row = rows[stage]
        notes = [row['note']] if 'note' in row else []
        context = {'multi_scale': True, 'with_crf': row['crf']}
        kind = 'sepl' if row['sepl'] else 'labels'
        card = _card(stage, kind, row['source'], scores=_scores(row, 'miou'), context=context, notes=notes)
        cards.append({**card, 'optional': row['sepl']})  # SAM's weights are not everywhere
    return cards


def _verification_row(dataset, network, supervision):
    """The row of Table 3 or 4, or None."""
    rows = TABLE_3 if dataset == 'voc' else TABLE_4
    return next((row for row in rows if (row['network'], row['supervision']) == (network, supervision)), None)


def _verification_card(stage, row, settings):
    """Card of a network that was trained on CSRM's labels or on true masks."""
    note = f'{row["method"]}, {row["backbone"]}: the paper does not state scales, flip and dCRF of this score'
    return _card(
        stage, 'verify', row['source'], scores=_scores(row, 'seg/mIoU ms flip crf'), settings=settings, notes=[note]
    )


def _settings(dataset):
    """Settings of CSRM."""
    return {**CSRM_SETTINGS, **(COCO_SETTINGS if dataset == 'coco' else {})}


def _scores(row, metric):
    """Scores of a row by split."""
    return {split: {metric: row[split]} for split in ('train', 'val', 'test') if split in row}


def _card(stage, kind, source, scores=None, settings=None, context=None, data=None, notes=()):
    """One published card; run and number come later."""
    return dict(
        stage=stage,
        kind=kind,
        status='published',
        source=source,
        config={'settings': settings or {}},
        defaults=[key for key in DEFAULTS if key in (settings or {})],
        data=data or {},
        scores=scores or {},
        context=context or {},
        notes=list(notes),
    )
