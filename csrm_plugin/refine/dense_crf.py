"""Densely connected conditional random field (Kraehenbuehl and Koltun 2011), by ``pydensecrf``."""

import weakref
from copy import deepcopy
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from csrm_plugin.utils import UserError
from csrm_plugin.utils.processes import start_pool

BACKENDS = ('pydensecrf',)


def dense_crf(
    image: np.ndarray | Tensor,
    probs: np.ndarray | Tensor,
    *,
    iterations: int = 10,
    gaussian_sxy: float = 3,
    gaussian_compat: float = 3,
    bilateral_sxy: float = 50,
    bilateral_srgb: float = 5,
    bilateral_compat: float = 10,
    backend: str = 'pydensecrf',
) -> np.ndarray | Tensor:
    """Refine class probabilities by looking at the picture.

    Args:
        image (np.ndarray | Tensor): (H, W, 3), uint8, RGB.
        probs (np.ndarray | Tensor): (K, H, W), float, in 0..1, summing to one over K.
        iterations (int): Mean-field iterations.
        gaussian_sxy (float): Standard deviation of the smoothness kernel, in pixels.
        gaussian_compat (float): Weight of the smoothness kernel.
        bilateral_sxy (float): Standard deviation of the appearance kernel in space, in pixels.
        bilateral_srgb (float): Standard deviation of the appearance kernel in colour, in grey levels of 0..255.
        bilateral_compat (float): Weight of the appearance kernel.
        backend (str): One of :data:`BACKENDS`.

    Returns:
        np.ndarray | Tensor: (K, H, W), float32, in 0..1; a tensor on the device of ``probs`` if that is one.

    Raises:
        UserError: If ``pydensecrf`` is not installed.
    """
    crf = DenseCRF(
        iterations=iterations,
        gaussian_sxy=gaussian_sxy,
        gaussian_compat=gaussian_compat,
        bilateral_sxy=bilateral_sxy,
        bilateral_srgb=bilateral_srgb,
        bilateral_compat=bilateral_compat,
        backend=backend,
    )
    array = _to_numpy(probs)
    if array.ndim != 3:
        raise ValueError(f'`probs` must be (K, H, W), but has shape {array.shape}.')
    # pydensecrf takes the logarithm; probabilities of zero stay finite.
    unary = -np.log(np.clip(array.astype(np.float32), 1e-5, 1)).reshape(len(array), -1)
    image = _to_numpy(image)
    _check_sizes(image, array)
    (refined,) = _infer(image, [unary], len(array), crf.kernels, crf.iterations)
    refined = refined.reshape(array.shape)
    return torch.from_numpy(refined).to(probs.device) if isinstance(probs, Tensor) else refined


class DenseCRF:
    """Settings of dCRF and, where asked, a pool of processes that lives until :meth:`close` or the program's end.

    Args:
        iterations, gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat, backend: As in
            :func:`dense_crf`.
        label_confidence (float): Probability that :meth:`refine_labels` gives to a pixel's own hard label; the rest
            is shared by the other classes.
        workers (int): Processes that work on the pictures of a batch; 0 works in the calling process.
    """

    #: As captions call it.
    title = 'dCRF'

    def __init__(
        self,
        iterations: int = 10,
        gaussian_sxy: float = 3,
        gaussian_compat: float = 3,
        bilateral_sxy: float = 50,
        bilateral_srgb: float = 5,
        bilateral_compat: float = 10,
        label_confidence: float = 0.7,
        workers: int = 0,
        backend: str = 'pydensecrf',
    ) -> None:
        if backend not in BACKENDS:
            raise UserError(f'Unknown dCRF backend `{backend}`; known: {", ".join(BACKENDS)}.')
        if not 0 < label_confidence < 1:
            raise UserError(f'`label_confidence` must be between 0 and 1, but is {label_confidence}.')
        import_pydensecrf()
        self.iterations = iterations
        self.kernels = (gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat)
        self.label_confidence = label_confidence
        self.workers = workers
        self._pool = None

    def at_stride(self, stride: int) -> 'DenseCRF':
        """The same, for maps that have one pixel for each ``stride`` of the picture that the kernels were chosen for.

        Without it a kernel of 50 pixels would reach twice as far on a map of half the picture's size: the labels of
        VOC animals and MSRC then lose half a point to three points of mIoU.

        Args:
            stride (int): At least 1.

        Returns:
            DenseCRF: With a pool of its own, if any.
        """
        copy = deepcopy(self)
        gaussian_sxy, gaussian_compat, bilateral_sxy, *appearance = self.kernels
        copy.kernels = (gaussian_sxy / stride, gaussian_compat, bilateral_sxy / stride, *appearance)
        return copy

    def refine_labels(
        self, images: np.ndarray | Tensor | list, labels: list[np.ndarray], num_labels: list[int]
    ) -> list[np.ndarray]:
        """Refine several hard label maps of each picture; the maps of one picture share its lattice.

        Args:
            images (np.ndarray | Tensor): (B, H, W, 3), uint8, RGB, or a list of B pictures.
            labels (list[np.ndarray]): For each picture (T, H, W), integer, 0..num_labels - 1.
            num_labels (list[int]): For each picture, the number of labels. A single label needs no refinement.

        Returns:
            list[np.ndarray]: For each picture (T, H, W), uint8.
        """
        tasks = [
            (np.ascontiguousarray(_to_numpy(image)), label, count, self.label_confidence, self.kernels, self.iterations)
            for image, label, count in zip(images, labels, num_labels)
        ]
        if self.workers == 0:
            return [_refine_labels(task) for task in tasks]
        if self._pool is None:
            self._pool = start_pool(self.workers)
            self._finalizer = weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        return list(self._pool.map(_refine_labels, tasks))

    def close(self) -> None:
        """End the pool's processes; the next call starts new ones."""
        if self._pool is not None:
            self._finalizer.detach()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> 'DenseCRF':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, '_pool': None, '_finalizer': None}

    def __deepcopy__(self, memo: dict) -> 'DenseCRF':
        copy = DenseCRF.__new__(DenseCRF)
        copy.__dict__.update(self.__getstate__())
        return copy


def import_pydensecrf() -> ModuleType:
    """The module ``pydensecrf.densecrf``, or one line on how to get it."""
    try:
        import pydensecrf.densecrf
    except ImportError as error:
        raise UserError(
            f'dCRF needs the package pydensecrf, which cannot be imported ({error}). Mend: `pip install pydensecrf2`, '
            'or train without dCRF by `--cfg-options model.pseudo_label.crf=None`, or with pixel-adaptive refinement '
            'in its place by `model.pseudo_label.refine=par`.'
        ) from error
    return pydensecrf.densecrf


def _refine_labels(task):
    image, labels, num_labels, confidence, kernels, iterations = task
    _check_sizes(image, labels)
    if num_labels == 1:
        return labels.astype(np.uint8)
    unaries = []
    for label in labels:
        unary = np.full((num_labels, label.size), -np.log((1 - confidence) / (num_labels - 1)), dtype=np.float32)
        unary[label.ravel(), np.arange(label.size)] = -np.log(confidence)
        unaries.append(unary)
    refined = _infer(image, unaries, num_labels, kernels, iterations)
    return np.stack([probs.argmax(axis=0) for probs in refined]).astype(np.uint8).reshape(labels.shape)


def _infer(image, unaries, num_labels, kernels, iterations):
    """List of (K, H * W) float32 probabilities, one for each unary (K, H * W); the lattice is built once."""
    densecrf = import_pydensecrf()
    height, width = image.shape[:2]
    gaussian_sxy, gaussian_compat, bilateral_sxy, bilateral_srgb, bilateral_compat = kernels
    crf = densecrf.DenseCRF2D(width, height, num_labels)
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy, srgb=bilateral_srgb, rgbim=np.array(image, order='C'), compat=bilateral_compat
    )
    results = []
    for unary in unaries:
        crf.setUnaryEnergy(np.ascontiguousarray(unary))
        results.append(np.array(crf.inference(iterations), dtype=np.float32))
    return results


def _check_sizes(image: np.ndarray, maps: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f'`image` must be (H, W, 3) uint8, but is {image.shape} {image.dtype}.')
    if maps.shape[1:] != image.shape[:2]:
        raise ValueError(f'The picture has {image.shape[0]} x {image.shape[1]} pixels, but its maps {maps.shape[1:]}.')


def _to_numpy(value: np.ndarray | Tensor) -> np.ndarray:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
