"""Two networks of one kind: a student that learns and a teacher that follows it."""

import torch
from mmengine.logging import print_log
from mmseg.registry import MODELS
from torch import Tensor, nn

from csrm_plugin.models.segmentors.wsss_segmentor import WSSSSegmentor
from csrm_plugin.utils import UserError


class TeacherStudent(WSSSSegmentor):
    """Student and teacher built from one config; the teacher is a moving average of the student, without gradient.

    The teacher always runs in evaluation mode. Its BatchNorm statistics are averaged like the weights: it sees plain
    pictures while the student sees mixed ones, and statistics that belong to its weights are the student's, averaged
    over the same steps. Integer buffers are copied.

    A teacher that stands still while the student learns (a frozen warm-up, see
    :class:`csrm_plugin.engine.hooks.MeanTeacherHook`) has branches that nothing has trained. As long as it does, the
    student makes the predictions in its place, :attr:`weights_note` says why, and so do checkpoints, which keep
    ``teacher_frozen``: whoever predicts with one gets the network that has learnt.

    Args:
        network (dict): Config of the network that both are.
        train_cfg (dict, optional): Unused.
        test_cfg (dict, optional): ``network``: ``'teacher'`` (default; the student while that is frozen) or
            ``'student'`` makes the predictions; ``pseudo_label``: see :class:`LabelRecipe`.
        data_preprocessor (dict, optional): Config of the data preprocessor.
        pretrained (None): See :class:`WSSSSegmentor`.

    Attributes:
        teacher_frozen (Tensor): (), int64: 1 while the teacher stands still and the student learns, else 0.
    """

    #: Keys of the settings that are dicts, for the check of `--cfg-options`.
    SETTINGS = {'test_cfg': ('network', 'pseudo_label')}

    def __init__(
        self,
        network: dict,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        pretrained: None = None,
    ) -> None:
        test_cfg = dict(network='teacher') | (test_cfg or {})
        super().__init__(data_preprocessor, train_cfg, test_cfg, pretrained=pretrained)
        if self.test_cfg['network'] not in ('teacher', 'student'):
            raise UserError(
                f"`model.test_cfg.network` must be 'teacher' or 'student', but is {self.test_cfg['network']!r}."
            )
        self.student = MODELS.build(network)
        self.teacher = MODELS.build(network)
        self.teacher.requires_grad_(False)
        self.register_buffer('teacher_frozen', torch.zeros((), dtype=torch.int64))
        self.update_teacher(0)
        self.train()

    @property
    def predicting(self) -> str:
        """Which network makes the predictions: ``'teacher'`` or ``'student'``; see :class:`WSSSSegmentor`."""
        return 'student' if self.weights_note else self.test_cfg['network']

    @property
    def weights_note(self) -> str:
        """Why the network that was asked for does not make the predictions; empty where it does."""
        frozen = self.test_cfg['network'] == 'teacher' and bool(self.teacher_frozen)
        return 'the teacher is frozen in the warm-up' if frozen else ''

    @property
    def predictor(self) -> nn.Module:
        """The network that makes the predictions."""
        return getattr(self, self.predicting)

    @property
    def cam_network(self) -> nn.Module:
        """The network that makes the predictions."""
        return self.predictor

    def init_weights(self) -> None:
        """Initialise the student, and the teacher equal to it."""
        self.student.init_weights()
        self.update_teacher(0)
        self._is_init = True

    def train(self, mode: bool = True) -> 'TeacherStudent':
        """Set the mode of everything but the teacher, which stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """Set teacher = decay * teacher + (1 - decay) * student; floats only, and 0 copies the student.

        With ``decay`` 1 the teacher stays as it is, which :attr:`teacher_frozen` notes.
        """
        self.teacher_frozen.fill_(int(decay == 1))
        student, teacher = self.student.state_dict(), self.teacher.state_dict()
        floats = [name for name, value in teacher.items() if value.is_floating_point()]
        torch._foreach_lerp_([teacher[name] for name in floats], [student[name] for name in floats], 1 - decay)
        for name, value in teacher.items():
            if not value.is_floating_point():
                value.copy_(student[name])

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the predicting network's backbone for (B, 3, H, W)."""
        return self.predictor.extract_feat(inputs)

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs) -> None:
        """Load a checkpoint of this class, or one of a plain classifier or segmentor into student and teacher alike."""
        # A plain checkpoint makes both networks equal, and older ones of this class do not say.
        frozen = {f'{prefix}teacher_frozen': torch.zeros_like(self.teacher_frozen)}
        if not any(name.startswith((f'{prefix}student.', f'{prefix}teacher.')) for name in state_dict):
            self._adopt_plain_checkpoint(state_dict, prefix, self.state_dict(prefix=prefix) | frozen)
        for name, value in frozen.items():
            state_dict.setdefault(name, value)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _adopt_plain_checkpoint(self, state_dict, prefix, own) -> None:
        """Replace plain names by those of student and teacher, keep our values elsewhere, and report the outcome."""
        plain = {name[len(prefix) :]: state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
        student = self.student.state_dict()
        loaded = {name for name, value in plain.items() if name in student and student[name].shape == value.shape}
        if not loaded:
            raise UserError(
                'The checkpoint fits nowhere: none of its tensors '
                f'({", ".join(sorted(plain)[:3]) or "it is empty"}, ...) has a name and shape of this model '
                f'({", ".join(sorted(student)[:3])}, ...). If it comes from a published repository, convert it with '
                '`tools/convert_checkpoint.py`.'
            )
        state_dict.update(own)
        for name in loaded:
            for network in ('student', 'teacher'):
                state_dict[f'{prefix}{network}.{name}'] = plain[name]
        mismatched = {name for name in plain if name in student and name not in loaded}
        print_log(
            'Plain checkpoint into student and teacher. Loaded: '
            f'{_summary(loaded, student)}. Not in the checkpoint, start from initialisation: '
            f'{_summary(set(student) - set(plain))}. Other shape, not loaded: {_summary(mismatched)}. '
            f'In the checkpoint only: {_summary(set(plain) - set(student))}.',
            logger='current',
        )


def _summary(names, whole=None) -> str:
    """Numbers of tensors by their first name part, as in ``backbone 260/260, cam_head 1/1``."""
    counts = {}
    for name in names:
        if not name.endswith('num_batches_tracked'):
            counts[name.split('.')[0]] = counts.get(name.split('.')[0], 0) + 1
    if whole is None:
        return ', '.join(f'{group} {count}' for group, count in sorted(counts.items())) or 'none'
    totals = {}
    for name in whole:
        if not name.endswith('num_batches_tracked'):
            totals[name.split('.')[0]] = totals.get(name.split('.')[0], 0) + 1
    return ', '.join(f'{group} {count}/{totals[group]}' for group, count in sorted(counts.items()))
