"""Run a test and keep what it found: metrics as JSON, predictions as pictures."""

import os.path as osp
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from csrm_plugin.config.load import load_config
from csrm_plugin.engine.launch import prepare_distributed
from csrm_plugin.engine.training import set_work_dir
from csrm_plugin.models.checkpoints.prediction import keep_training_state, prediction_settings
from csrm_plugin.utils import MissingFileError, UserError, write_json
from csrm_plugin.utils.models import unwrap
from csrm_plugin.utils.pictures import picture_id
from csrm_plugin.visualization import save_label_png


def prepare_testing(
    config: str,
    checkpoint: str,
    cfg_options: dict | None = None,
    work_dir: str | None = None,
    tta: bool = False,
    launcher: str = 'none',
) -> Config:
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


def run_test(cfg: Config, out_dir: str | None = None, json_path: str | None = None) -> dict[str, float]:
    """Test a model.

    Args:
        cfg (mmengine.config.Config): From :func:`prepare_testing`.
        out_dir (str, optional): Where each prediction goes as a palette PNG, named like its picture.
        json_path (str, optional): Where the metrics go, see :func:`report_of`.

    Returns:
        dict[str, float]: The metrics as the evaluator gives them.
    """
    runner = PredictionRunner.from_cfg(cfg)
    runner.register_hook(TellWeights())
    if out_dir is not None:
        runner.register_hook(SavePredictions(out_dir))
    metrics = runner.test()
    if json_path is not None and is_main_process():
        write_json(json_path, report_of(runner, metrics))
    return metrics


def report_of(runner: Runner, metrics: dict, loop: str = 'test') -> dict:
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
    note = getattr(unwrap(runner.model), 'segmentation_note', None)
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


def weights_of(model: nn.Module) -> str | None:
    """Which network of a model predicts: ``'teacher'`` or ``'student'``, and why, where it is not the one asked for.

    As in ``'student (the teacher is frozen in the warm-up)'``. None where there is only one network.
    """
    model = unwrap(model)
    network, note = getattr(model, 'predicting', None), getattr(model, 'weights_note', '')
    return f'{network} ({note})' if network and note else network


def tell_weights(runner: Runner) -> None:
    """Say in the log whose weights the scores are of that come next; nothing where there is only one network."""
    weights = weights_of(runner.model)
    if weights is not None:
        runner.logger.info(f'Whose weights: {weights}.')


class PredictionRunner(Runner):
    """The host's runner, but its model only predicts: see :mod:`csrm_plugin.models.checkpoints.prediction`.

    Its config, which it writes into the work directory, stays that of the training.
    """

    def build_model(self, model: nn.Module | dict) -> nn.Module:
        """Build a model without what takes part in the training alone; a checkpoint may have that or not."""
        model = super().build_model(prediction_settings(model) if isinstance(model, dict) else model)
        keep_training_state(model)
        return model


class TellWeights(Hook):
    """Says whose weights are tested, see :func:`tell_weights`."""

    def before_test_epoch(self, runner: Runner) -> None:
        """The checkpoint, which may have its say in it, has been loaded."""
        tell_weights(runner)


class SavePredictions(Hook):
    """Saves the segmentation of each test picture as a palette PNG of class indices, named like the picture.

    Args:
        out_dir (str): Made if it is not there.
    """

    def __init__(self, out_dir: str) -> None:
        self.out_dir = out_dir

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence | None = None
    ) -> None:
        """Save the predictions of one batch."""
        palette = runner.test_dataloader.dataset.metainfo['palette']
        for sample in outputs or ():
            if 'pred_sem_seg' not in sample:
                raise UserError('--out: this model predicts no segmentation (only CAMs), so there is nothing to save')
            labels = sample.pred_sem_seg.data.squeeze(0).cpu().numpy()
            save_label_png(osp.join(self.out_dir, f'{picture_id(sample)}.png'), labels, palette)
