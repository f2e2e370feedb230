from .cam_classifier import CAMClassifier
from .csrm import CSRM
from .csrm_network import CSRMNetwork
from .puzzle_cam import PuzzleCAM
from .rml import RML
from .teacher_student import TeacherStudent
from .wsss_segmentor import NonFiniteLossError, WSSSSegmentor
from .wsss_tta import WSSSTTAModel

__all__ = [
    'CSRM',
    'RML',
    'CAMClassifier',
    'CSRMNetwork',
    'NonFiniteLossError',
    'PuzzleCAM',
    'TeacherStudent',
    'WSSSSegmentor',
    'WSSSTTAModel',
]
