"""The methods, and what they share."""

from csrm_plugin.models.segmentors.cam_classifier import CAMClassifier
from csrm_plugin.models.segmentors.csrm import CSRM
from csrm_plugin.models.segmentors.csrm_network import CSRMNetwork
from csrm_plugin.models.segmentors.propagating_segmentor import PropagatingSegmentor
from csrm_plugin.models.segmentors.pseudo_labeler import PseudoLabeler, PseudoLabelSettings
from csrm_plugin.models.segmentors.puzzle_cam import PuzzleCAM
from csrm_plugin.models.segmentors.rml import RML
from csrm_plugin.models.segmentors.teacher_student import TeacherStudent
from csrm_plugin.models.segmentors.wsss_segmentor import NonFiniteLossError, WSSSSegmentor
from csrm_plugin.models.segmentors.wsss_tta import WSSSTTAModel

__all__ = [
    'CSRM',
    'RML',
    'CAMClassifier',
    'CSRMNetwork',
    'NonFiniteLossError',
    'PropagatingSegmentor',
    'PseudoLabelSettings',
    'PseudoLabeler',
    'PuzzleCAM',
    'TeacherStudent',
    'WSSSSegmentor',
    'WSSSTTAModel',
]
