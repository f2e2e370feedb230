"""Pseudo labels from the CAMs of a network: what CSRM, RML and the next method share."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from csrm_plugin import functional as F
from csrm_plugin.refine import build_refinement, refinement_title
from csrm_plugin.utils import UserError


@dataclass
class PseudoLabelSettings:
    """How CAMs become pseudo labels (Eq. 6 of CSRM): the keys of ``model.pseudo_label``, the same for all methods.

    The defaults are the paper's; a method may have its own (``PSEUDO_LABEL`` of the class).

    Attributes:
        fg_threshold (float): delta_fg, score of the background above which a class is certain, in 0..1.
        bg_threshold (float): delta_bg, the one below which the background is, in 0..1, at most ``fg_threshold``.
        refine (str): What looks at the picture: ``'crf'``, ``'par'`` or ``'none'``.
        crf (dict | None): Arguments of :class:`csrm_plugin.refine.DenseCRF`, its kernels in pixels of the input,
            whatever the ``stride``; None leaves dCRF out.
        par (dict | None): Arguments of :class:`csrm_plugin.refine.PixelAdaptiveRefinement`; None is its defaults.
        stride (int): Pixels of the input per pixel of the labels, in each direction. 1 is the paper's; 2 makes a
            quarter of the work.
        scales (Sequence[float]): Sizes, relative to the input, whose CAMs are averaged. One is the paper's.
        flip (bool): Whether each is also seen mirrored.
    """

    fg_threshold: float = 0.35
    bg_threshold: float = 0.05
    refine: str | None = 'crf'
    crf: dict | None = field(default_factory=dict)
    par: dict | None = field(default_factory=dict)
    stride: int = 1
    scales: tuple = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        F.check_thresholds(self.fg_threshold, self.bg_threshold)
        if isinstance(self.stride, bool) or not isinstance(self.stride, int) or self.stride < 1:
            raise UserError(f'`model.pseudo_label.stride` must be a whole number of at least 1, but is {self.stride}.')
        check_scales('model.pseudo_label.scales', self.scales)
        self.scales = tuple(self.scales)


class PseudoLabeler:
    """Makes pseudo labels from CAMs as its settings say, on the maps of each picture's own classes only.

    Not a module: it has no weights, and what refines is its own business (a pool of processes, or a module without
    parameters), so that nothing of it is in a checkpoint.

    Args:
        settings (PseudoLabelSettings): How.
        align_corners (bool): How CAMs are made larger.

    Attributes:
        refinement (DenseCRF | PixelAdaptiveRefinement | None): What looks at the picture.
    """

    def __init__(self, settings: PseudoLabelSettings, align_corners: bool = False) -> None:
        self.settings, self.align_corners = settings, align_corners
        self.refinement = build_refinement(settings)

    @property
    def sees_one_view(self) -> bool:
        """Whether the CAM of the picture as it is is all that the labels stand on."""
        return self.settings.scales == (1.0,) and not self.settings.flip

    def size(self, inputs: Tensor) -> tuple[int, int]:
        """Height and width of the labels of ``inputs`` (B, 3, H, W)."""
        return tuple(max(length // self.settings.stride, 1) for length in inputs.shape[2:])

    @torch.no_grad()
    def __call__(
        self,
        cam: Tensor,
        labels: Tensor,
        pictures: Tensor | np.ndarray | None = None,
        valid: Tensor | None = None,
        size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Labels from one CAM of each picture.

        Args:
            cam (Tensor): (B, C, h', w'), float: CAM before ReLU.
            labels (Tensor): (B, C), 0/1: image-level labels.
            pictures (Tensor | np.ndarray, optional): (B, h, w, 3), uint8, RGB. Needed where there is a refinement.
            valid (Tensor, optional): (B, h, w), bool, False at padding, which gets 255.
            size (tuple[int, int], optional): (h, w), the size of the result; that of ``cam`` by default.

        Returns:
            Tensor: (B, h, w), int64, 0 background, c + 1 for class c, 255 uncertain.
        """
        classes, present = F.own_classes(labels)
        own = F.upscale(F.gather_classes(cam, classes), size, self.align_corners)
        return self._label(_normalize(own, present, valid), classes, present, pictures, valid)

    @torch.no_grad()
    def from_views(
        self,
        cam_of: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        pictures: Callable[[Tensor, tuple[int, int]], Tensor],
        valid: Tensor,
        known: Tensor | None = None,
    ) -> Tensor:
        """Labels from the CAMs of the views that the settings name.

        Args:
            cam_of (Callable): CAM (B, C, h', w') of normalised pictures (B, 3, H', W') of any size.
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            labels (Tensor): (B, C), 0/1: image-level labels.
            pictures (Callable): Pictures (B, h, w, 3), uint8, of ``inputs`` at a size, as
                :meth:`WSSSSegmentor.pictures` gives them; called where there is a refinement.
            valid (Tensor): (B, H, W) or (B, h, w), bool, False at padding.
            known (Tensor, optional): CAM of ``inputs``, where there is one already.

        Returns:
            Tensor: (B, h, w), int64, as :meth:`__call__`; h, w is :meth:`size`.
        """
        size = self.size(inputs)
        valid = F.shrink_nearest(valid, size)
        cams, classes, present = self.own_cams(cam_of, inputs, labels, valid, known)
        seen = pictures(inputs, size) if self.refinement is not None else None
        return self._label(cams, classes, present, seen, valid)

    @torch.no_grad()
    def own_cams(
        self,
        cam_of: Callable[[Tensor], Tensor],
        inputs: Tensor,
        labels: Tensor,
        valid: Tensor,
        known: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the thresholds are applied to: CAMs of each picture's own classes, of the views that are asked for.

        Args:
            cam_of (Callable): CAM (B, C, h', w') of normalised pictures (B, 3, H', W') of any size.
            inputs (Tensor): (B, 3, H, W), float: normalised pictures.
            labels (Tensor): (B, C), 0/1: image-level labels.
            valid (Tensor): (B, h, w), bool, False at padding; h, w is :meth:`size`.
            known (Tensor, optional): CAM of ``inputs``, where there is one already.

        Returns:
            tuple[Tensor, Tensor, Tensor]: CAMs (B, n, h, w), float, in 0..1 (Eq. 2), and the classes (B, n) and which
            of them are present (B, n), as :func:`csrm_plugin.functional.own_classes` gives them.
        """
        size = self.size(inputs)
        classes, present = F.own_classes(labels)
        if self.sees_one_view:
            cam = cam_of(inputs) if known is None else known
            own = F.upscale(F.gather_classes(cam, classes), size, self.align_corners)
        else:
            own = average_cam(
                lambda view: F.gather_classes(cam_of(view), classes),
                inputs,
                size,
                self.settings.scales,
                self.settings.flip,
                None if known is None else F.gather_classes(known, classes),
                self.align_corners,
            )
        return _normalize(own, present, valid), classes, present

    @torch.no_grad()
    def view(self, cam_of: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
        """The CAM that the labels stand on, for drawing: of ``inputs``, or the average at their size, (B, C, h, w)."""
        if self.sees_one_view:
            return cam_of(inputs)
        settings, size = self.settings, tuple(inputs.shape[2:])
        return average_cam(cam_of, inputs, size, settings.scales, settings.flip, align_corners=self.align_corners)

    def _label(self, cams: Tensor, classes: Tensor, present: Tensor, pictures, valid: Tensor | None) -> Tensor:
        """Labels of the own classes' maps (B, n, h, w), in 0..1."""
        thresholds = self.settings.fg_threshold, self.settings.bg_threshold
        made = F.own_class_pseudo_labels(pictures, cams, classes, present, *thresholds, self.refinement)
        return made if valid is None else made.masked_fill(~valid, F.IGNORE_INDEX)

    def caption(self) -> str:
        """How the labels are made, in a few words under a picture."""
        settings = self.settings
        return f'fg > {settings.fg_threshold:g}, bg < {settings.bg_threshold:g}, {refinement_title(self.refinement)}'

    def note(self) -> str:
        """How the labels are made, in one line."""
        settings, refined = self.settings, refinement_title(self.refinement)
        if self.refinement is not None:
            refined += f' with {self.refinement.iterations} iterations'
        views = '' if self.sees_one_view else f'CAMs of {views_title(settings.scales, settings.flip)}; '
        return (
            f'{views}fg_threshold {settings.fg_threshold:g}, bg_threshold {settings.bg_threshold:g} (between the two: '
            f'hatched), {refined}'
        )

    def close(self) -> None:
        """End the processes of the refinement, if it has any; the next call starts new ones."""
        if hasattr(self.refinement, 'close'):
            self.refinement.close()


def _normalize(own: Tensor, present: Tensor, valid: Tensor | None) -> Tensor:
    """Eq. 2 of the own classes' maps (B, n, h, w) before ReLU, or after it."""
    if valid is not None:
        # Padding is no part of the picture: it must not set the maximum that the map is divided by.
        own = F.masked(own, valid)
    return F.normalize_cam(own, labels=present)


def average_cam(
    cam_of: Callable[[Tensor], Tensor],
    inputs: Tensor,
    size: tuple[int, int],
    scales: tuple[float, ...],
    flip: bool,
    known: Tensor | None = None,
    align_corners: bool = False,
) -> Tensor:
    """Mean of the CAMs of several sizes of the pictures, after ReLU.

    Args:
        cam_of (Callable): CAM (B, X, h', w') of normalised pictures (B, 3, H', W').
        inputs (Tensor): (B, 3, H, W), float: normalised pictures.
        size (tuple[int, int]): Height and width (h, w) of the result.
        scales (Sequence[float]): Sizes relative to the input.
        flip (bool): Whether each is also seen mirrored.
        known (Tensor, optional): (B, X, h', w'): the CAM of scale 1, where there is one already.
        align_corners (bool): How CAMs are resized.

    Returns:
        Tensor: (B, X, h, w), float32, at least 0.
    """
    total = 0
    for scale in scales:
        view = inputs if scale == 1 else F.scale_pictures(inputs, scale)
        cams = [known if scale == 1 and known is not None else cam_of(view)]
        if flip:
            cams.append(cam_of(view.flip(3)).flip(3))
        for cam in cams:
            total = total + F.upscale(cam.float().relu(), size, align_corners)
    return total / (len(scales) * (2 if flip else 1))


def views_title(scales: tuple[float, ...], flip: bool) -> str:
    """Scales and flip for people.

    Example:
        >>> views_title((0.5, 1.0), True)
        'scales 0.5 1 with flip'
    """
    return f'scales {" ".join(f"{scale:g}" for scale in scales)} {"with" if flip else "without"} flip'


def check_scales(name: str, scales: object) -> None:
    """Raise ``UserError`` unless ``scales`` are one or more numbers above 0; ``name`` is the setting."""
    if not isinstance(scales, (tuple, list)) or not scales or not all(map(_is_positive, scales)):
        raise UserError(f'`{name}` must be a list of one or more numbers above 0, but is {scales!r}.')


def _is_positive(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
