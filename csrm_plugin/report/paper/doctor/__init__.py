"""Which stage of a run is the first that falls short of a reference, and what may be why.

The first reference is the run's own plain baseline (:mod:`csrm_plugin.report.paper.baseline`), at an equal inference
budget; the second another run, or the paper (:mod:`csrm_plugin.report.paper.published`). Runs are lists of cards, see
:mod:`csrm_plugin.experiments.pipeline.cards`.
"""

from csrm_plugin.report.paper.doctor.baseline import baseline_lines, compare_with_baseline, is_below
from csrm_plugin.report.paper.doctor.comparison import compare_runs, is_off
from csrm_plugin.report.paper.doctor.drawing import draw_findings, note_lines
from csrm_plugin.report.paper.doctor.loading import load_pair
from csrm_plugin.report.paper.doctor.parts import PARTS
from csrm_plugin.report.paper.doctor.sentences import verdict

__all__ = [
    'PARTS',
    'baseline_lines',
    'compare_runs',
    'compare_with_baseline',
    'draw_findings',
    'is_below',
    'is_off',
    'load_pair',
    'note_lines',
    'verdict',
]
