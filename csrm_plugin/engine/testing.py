"""Run a test and keep what it found: metrics as JSON, predictions as pictures."""

import os.path as osp

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from csrm_plugin.config.load import load_config
from csrm_plugin.engine.launch import prepare_distributed
from csrm_plugin.engine.training import set_work_dir
from csrm_plugin.utils import MissingFileError, UserError, write_json
from csrm_plugin.visualization import save_label_png


def prepare_testing(config, checkpoint, cfg_options=None, work_dir=None, tta=False, launcher='none'):
    """Read a config and apply everything that a test command can ask for.

    Args:
        config (str): Config file.
        checkpoint (str): File or URL of the weights.
        cfg_options (dict, optional): Overrides, see :func:`csrm_plugin.config.load.load_config`.
        work_dir (str, optional): Defaults to the config's, then to ``./work_dirs/<config name>``.
        tta (bool): Whether to use ``tta_model`` and ``tta_pipeline`` of the config.
        launcher (str): See :func:`csrm_plugin.engine.launch.prepare_distributed`.

    Returns:
        mmengine.config.Config: Ready for :func:`run_test`.

    Raises:
        UserError: If the checkpoint is missing, or the config lacks what is asked for.
    """
    cfg = load_config(config, cfg_options)
    if '://' not in checkpoint and not osp.isfile(checkpoint):
        raise MissingFileError(f'checkpoint `{checkpoint}` does not exist')
    if cfg.get('test_dataloader') is None:
        raise UserError(f'config `{config}` has no test_dataloader')
    set_work_dir(cfg, config, work_dir)
    prepare_distributed(cfg, launcher)
    cfg.load_from, cfg.resume = checkpoint, False
    if tta:
        missing = [key for key in ('tta_model', 'tta_pipeline') if key not in cfg]
        if missing:
            raise UserError(f'--tta needs {" and ".join(missing)} in config `{config}`')
        cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
        cfg.test_evaluator.update(cfg.get('tta_context', {}))  # so that the report says what was done
        cfg.tta_model.module = cfg.model
        cfg.model = cfg.tta_model
    return cfg


def run_test(cfg, out_dir=None, json_path=None):
    """Test a model.

    Args:
        cfg (mmengine.config.Config): From :func:`prepare_testing`.
        out_dir (str, optional): Where each prediction goes as a palette PNG, named like its picture.
        json_path (str, optional): Where the metrics go, see :func:`report_of`.

    Returns:
        dict[str, float]: The metrics as the evaluator gives them.
    """
    runner = Runner.from_cfg(cfg)
    if out_dir is not None:
        runner.register_hook(SavePredictions(out_dir))
    metrics = runner.test()
    if json_path is not None and is_main_process():
        write_json(json_path, report_of(runner, metrics))
    return metrics


def report_of(runner, metrics, loop='test'):
    """What the JSON of a test holds: the metrics flat, what each metric object reports beyond, and the context.

    A metric object that has an attribute ``report`` (dict) adds its entries; what is under ``context`` there is
    merged into the context here.

    Args:
        runner (mmengine.runner.Runner): After the loop.
        metrics (dict): As the evaluator gives them.
        loop (str): ``'test'``, or ``'val'`` for a validation within a training.
    """
    report = dict(metrics)
    dataset = runner.cfg[f'{loop}_dataloader'].dataset
    context = dict(
        config=runner.cfg.filename,
        weights=weights_of(runner.model),
        seed=runner.cfg.get('randomness', {}).get('seed'),
        ann_file=dataset.get('ann_file'),
        split=_split_of(dataset.get('ann_file')),
        pictures=len(getattr(runner, f'{loop}_dataloader').dataset),
    )
    if loop == 'test':
        context['checkpoint'] = runner.cfg.load_from
        context['tta'] = 'tta_pipeline' in runner.cfg and dataset.pipeline == runner.cfg.tta_pipeline
    note = getattr(unwrapped(runner.model), 'segmentation_note', None)
    if note is not None:
        context['segmentation'] = note
    trained_on = ((runner.cfg.get('train_dataloader') or {}).get('dataset') or {}).get('pseudo_label_dir')
    if trained_on is not None:  # of a network that learnt from label maps, as the config says it now
        context['pseudo_label_dir'] = trained_on
    for metric in getattr(runner, f'{loop}_evaluator').metrics:
        for key, value in (getattr(metric, 'report', None) or {}).items():
            if key == 'context':
                context.update(value)
            else:
                report[key] = value
    report['context'] = context
    return report


def _split_of(ann_file) -> str | None:
    """Name of the split that a list of ids stands for."""
    return osp.splitext(osp.basename(ann_file))[0] if ann_file else None


def weights_of(model) -> str | None:
    """Which network of a model predicts: ``'teacher'`` or ``'student'``; None where there is only one."""
    return (getattr(unwrapped(model), 'test_cfg', None) or {}).get('network')


def unwrapped(model):
    """The segmentor itself, without DistributedDataParallel or test-time augmentation around it."""
    while hasattr(model, 'module'):
        model = model.module
    return model


class SavePredictions(Hook):
    """Saves the segmentation of each test picture as a palette PNG of class indices, named like the picture.

    Args:
        out_dir (str): Made if it is not there.
    """

    def __init__(self, out_dir):
        self.out_dir = out_dir

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Save the predictions of one batch."""
        palette = runner.test_dataloader.dataset.metainfo['palette']
        for sample in outputs or ():
            if 'pred_sem_seg' not in sample:
                raise UserError('--out: this model predicts no segmentation (only CAMs), so there is nothing to save')
            name = sample.metainfo.get('img_id') or osp.splitext(osp.basename(sample.img_path))[0]
            labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
            save_label_png(osp.join(self.out_dir, f'{name}.png'), labels, palette)
