"""What each kind of stage does: the commands that it runs, what it stands on, and what it reads from their results."""

from csrm_plugin.experiments.pipeline.stages.base import Stage, for_inference, last_checkpoint
from csrm_plugin.experiments.pipeline.stages.data import DataStage
from csrm_plugin.experiments.pipeline.stages.labels import LabelsStage, RefinedStage
from csrm_plugin.experiments.pipeline.stages.masks import MasksStage, SEPLStage
from csrm_plugin.experiments.pipeline.stages.results import ExportStage, TableStage
from csrm_plugin.experiments.pipeline.stages.training import TrainStage, VerifyStage

#: Class of each kind of stage.
STAGES = {
    'data': DataStage,
    'train': TrainStage,
    'labels': LabelsStage,
    'refined': RefinedStage,
    'masks': MasksStage,
    'sepl': SEPLStage,
    'verify': VerifyStage,
    'export': ExportStage,
    'table': TableStage,
}

__all__ = ['STAGES', 'Stage', 'for_inference', 'last_checkpoint']
