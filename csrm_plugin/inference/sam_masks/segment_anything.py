"""Masks of one picture by a Segment Anything model."""

import math
import os.path as osp
from dataclasses import asdict

import numpy as np
import torch
from rich.console import Console

from csrm_plugin.inference.sam_masks.checkpoints import load_sam, weights_hash
from csrm_plugin.inference.sam_masks.geometry import crop_boxes, is_cut, point_grid, stability_scores, suppress_records
from csrm_plugin.inference.sam_masks.settings import SamSettings
from csrm_plugin.refine.sam import mask_record
from csrm_plugin.utils import UserError
from csrm_plugin.utils.devices import choose_device, is_out_of_memory

#: Elements of the mask logits that are brought to the picture's size at a time (256 MiB).
_UPSCALE_ELEMENTS = 2**26


class SamProposer:
    """Masks of a whole picture from a Segment Anything model of ``transformers``.

    Args:
        checkpoint (str): See :func:`load_sam`.
        settings (SamSettings): What decides on the masks.
        min_mask_area (int): Smaller masks are dropped, in pixels.
        points_per_batch (int): Prompts at a time; halved, for good, when the memory is full.
        device (str): See :func:`make_masks`.
        console (rich.console.Console, optional): Gets a line when the memory is full.
    """

    def __init__(
        self,
        checkpoint: str,
        settings: SamSettings,
        min_mask_area: int = 0,
        points_per_batch: int = 64,
        device: str = 'auto',
        console: Console | None = None,
    ) -> None:
        self.device = choose_device(device)
        self.model, self.processor = load_sam(checkpoint)
        self.model = self.model.to(self.device).eval()
        self.name = osp.basename(osp.abspath(checkpoint)) if osp.isdir(checkpoint) else checkpoint
        self.settings, self.min_mask_area = settings, min_mask_area
        self.points_per_batch = points_per_batch
        self.console = console or Console(stderr=True)

    def describe(self) -> dict:
        """Content of ``masks.json``."""
        kind = self.model.config.model_type.replace('_', '-')
        settings = dict(
            generator=kind,
            weights=weights_hash(self.model),
            processor=type(self.processor).__name__,
            min_mask_area=self.min_mask_area,
            **asdict(self.settings),
        )
        return dict(generator=f'{kind} {self.name}', checkpoint=self.name, settings=settings)

    def __call__(self, image: np.ndarray, name: str = 'the picture') -> list[dict]:
        """Entries of the JSON file, with ``predicted_iou`` and ``stability_score``, best first within a crop.

        Args:
            image (np.ndarray): (H, W, 3), uint8, RGB.
            name (str): What to call the picture in an error.

        Raises:
            UserError: If the memory is full with one point at a time.
        """
        while True:
            try:
                return self._propose(image)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.points_per_batch == 1:
                    raise UserError(
                        f'the memory of {self.device} is full with one point at a time ({name}, {image.shape[1]} x '
                        f'{image.shape[0]} pixels): use a smaller checkpoint, or --device cpu'
                    ) from error
            # Outside of `except`, for the traceback keeps the tensors alive.
            self.points_per_batch //= 2
            self._free_memory()
            self.console.print(
                f'out of memory: going on with --points-per-batch {self.points_per_batch} (the masks stay the same)',
                highlight=False,
                soft_wrap=True,
            )

    def _propose(self, image):
        records, priorities = [], []
        for box in crop_boxes(*image.shape[:2], self.settings.crop_layers):
            found = self._propose_in_crop(image, box)
            kept = [found[index] for index in suppress_records(found, [record['predicted_iou'] for record in found])]
            records += kept
            # Across crops the smaller crop, which saw more detail, wins.
            priorities += [1 / ((box[2] - box[0]) * (box[3] - box[1]))] * len(kept)
        if self.settings.crop_layers:
            records = [records[index] for index in suppress_records(records, priorities)]
        return records

    def _propose_in_crop(self, image, box):
        left, top, right, bottom = box
        inputs = self.processor(images=[image[top:bottom, left:right]], return_tensors='pt')
        sizes = {key: inputs[key].tolist() for key in ('original_sizes', 'reshaped_input_sizes')}
        height, width = sizes['reshaped_input_sizes'][0]
        points = point_grid(self.settings.points_per_side) * (width, height)
        found = []
        with torch.inference_mode():
            embeddings = self.model.get_image_embeddings(inputs['pixel_values'].to(self.device))
            if isinstance(embeddings, tuple):  # SAM-HQ
                embeddings = dict(image_embeddings=embeddings[0], intermediate_embeddings=embeddings[1])
            else:
                embeddings = dict(image_embeddings=embeddings)
            for batch in torch.as_tensor(points, dtype=torch.float32, device=self.device).split(self.points_per_batch):
                ones = torch.ones(1, len(batch), 1, dtype=torch.long, device=self.device)
                output = self.model(**embeddings, input_points=batch[None, :, None], input_labels=ones)
                logits, scores = output.pred_masks[0].flatten(0, 1), output.iou_scores[0].flatten()
                if self.settings.pred_iou_thresh > 0:
                    good = scores > self.settings.pred_iou_thresh
                    logits, scores = logits[good], scores[good]
                found += self._filter(logits, scores, sizes, box, image.shape[:2])
        return found

    def _filter(self, logits, scores, sizes, box, image_size):
        """Bring logits (n, h, w) to the size of the crop; records of the stable, uncut masks."""
        found = []
        pixels = max(
            self.processor.pad_size['height'] * self.processor.pad_size['width'], math.prod(sizes['original_sizes'][0])
        )
        step = max(1, _UPSCALE_ELEMENTS // pixels)
        for part, part_scores in zip(logits.split(step), scores.split(step)):
            large = self.processor.post_process_masks([part[:, None].float()], binarize=False, **sizes)[0][:, 0]
            stability = stability_scores(large)
            masks = large > 0
            good = masks.flatten(1).sum(dim=1) >= max(self.min_mask_area, 1)
            if self.settings.stability_score_thresh > 0:
                good &= stability > self.settings.stability_score_thresh
            rows = zip(masks[good].cpu().numpy(), part_scores[good].tolist(), stability[good].tolist())
            for mask, score, stable in rows:
                whole = np.zeros(image_size, dtype=bool)
                whole[box[1] : box[3], box[0] : box[2]] = mask
                record = mask_record(whole, predicted_iou=score, stability_score=stable)
                if not is_cut(record['bbox'], box, image_size):
                    found.append(record)
        return found

    def _free_memory(self):
        if self.device.type == 'cuda':
            torch.cuda.empty_cache()
