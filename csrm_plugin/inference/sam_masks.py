"""Mask proposals for SEPL: by a Segment Anything checkpoint, or superpixels to show the mechanism without one.

The masks come from a grid of point prompts and are filtered as in "Segment Anything" (Kirillov et al. 2023,
https://arxiv.org/abs/2304.02643, Appendix B): by predicted IoU, stability of the mask, touching the border of a crop,
and non-maximum suppression of boxes. The files are those of its mask generator with ``--convert-to-rle``.
"""

import hashlib
import itertools
import json
import math
import os.path as osp
import re
from dataclasses import asdict, dataclass, fields

import numpy as np
from PIL import Image, ImageOps
from rich.console import Console

from csrm_plugin.datasets import voc_layout
from csrm_plugin.datasets.label_folder import require_files
from csrm_plugin.inference.refine_sam import MASKS_MANIFEST, check_workers
from csrm_plugin.refine.sam import import_coder, mask_record, read_records
from csrm_plugin.utils import MissingFileError, UserError, write_json
from csrm_plugin.utils.devices import choose_device
from csrm_plugin.utils.processes import run_unordered
from csrm_plugin.utils.progress import track
from csrm_plugin.utils.shards import take_shard

#: Instead of a checkpoint: proposals that need no network.
SUPERPIXELS = 'superpixels'
SUPERPIXEL_ORIGIN = 'superpixels (felzenszwalb), mechanism only'
#: Larger scales give larger segments (``skimage.segmentation.felzenszwalb``).
SUPERPIXEL_SCALES = (50, 150, 400)
#: Standard deviation of the smoothing, in pixels.
SUPERPIXEL_SIGMA = 0.8
#: Smallest segment, as a fraction of the picture's pixels.
SUPERPIXEL_MIN_SHARE = 0.001

#: ``model_type`` of the configurations whose models are known to work here.
SAM_TYPES = ('sam', 'sam_hq')
#: Overlap of crops, as a fraction of the shorter side of the picture.
CROP_OVERLAP = 512 / 1500
#: A mask whose box comes this near (pixels) to the border of a crop, but not of the picture, is cut: dropped.
EDGE_DISTANCE = 20
#: Of boxes with a higher IoU the one with the best score is kept.
BOX_IOU = 0.7
#: Stability is the IoU of the mask at logits above +1 and above -1.
STABILITY_OFFSET = 1.0
#: What a complete checkpoint of the hub has: one of each of these.
_HUB_FILES = (
    ('config.json',),
    ('model.safetensors', 'model.safetensors.index.json', 'pytorch_model.bin', 'pytorch_model.bin.index.json'),
    ('preprocessor_config.json', 'processor_config.json'),
)
#: Elements of the mask logits that are brought to the picture's size at a time (256 MiB).
_UPSCALE_ELEMENTS = 2**26


@dataclass(frozen=True)
class SamSettings:
    """What decides on the masks of a Segment Anything model.

    Attributes:
        points_per_side (int): The prompts are this many points squared, on each crop.
        pred_iou_thresh (float): 0..1; masks that the model rates at most that are dropped. 0 drops none.
        stability_score_thresh (float): 0..1; masks that change more with the cut-off are dropped. 0 drops none.
        crop_layers (int): 0 sees the whole picture alone; layer i sees it in 4^i crops as well.
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    crop_layers: int = 0

    def __post_init__(self):
        for name, smallest in (('points_per_side', 1), ('crop_layers', 0)):
            if getattr(self, name) < smallest:
                raise UserError(f'{_option(name)} must be at least {smallest}, but is {getattr(self, name)}')
        for name in ('pred_iou_thresh', 'stability_score_thresh'):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f'{_option(name)} must be from 0 to 1, but is {getattr(self, name)}')


def make_masks(
    checkpoint: str,
    pictures,
    out_dir,
    split_file=None,
    suffix: str = '.jpg',
    settings: SamSettings | None = None,
    min_mask_area: int = 0,
    points_per_batch: int = 64,
    device: str = 'auto',
    workers: int = 0,
    shard: tuple[int, int] = (0, 1),
    console: Console | None = None,
) -> dict:
    """Write ``<id>.json`` with the masks of every picture that has none yet, and ``masks.json`` that says how.

    Args:
        checkpoint (str): Folder as ``save_pretrained`` of transformers writes it, name on the Hugging Face hub, or
            ``'superpixels'``.
        pictures (str): Folder of ``<id><suffix>``.
        out_dir (str): Gets the files.
        split_file (str, optional): List of picture ids; all pictures of the folder where None.
        suffix (str): Ending of the pictures.
        settings (SamSettings, optional): The defaults where None. Not for superpixels.
        min_mask_area (int): Smaller masks are dropped, in pixels.
        points_per_batch (int): Prompts at a time; has no effect on the masks. Halved when the memory is full.
        device (str): ``'auto'`` (CUDA where there is one), ``'cpu'``, ``'cuda:1'``, ...
        workers (int): Processes, for superpixels only; 0 works in this one.
        shard (tuple[int, int]): Part ``i`` of ``n`` of the list.
        console (rich.console.Console, optional): Where progress and messages go; standard error by default.

    Returns:
        dict: Counts over this shard: ``pictures``, ``made``, ``skipped``, and over those made: ``masks_per_picture``
        (None if none was made) and ``without_masks`` (pictures); ``origin`` (str), what made them.

    Raises:
        MissingFileError: If the checkpoint or a picture does not exist; before anything is written.
        UserError: If a setting is out of range, ``out_dir`` holds something else, a package is not installed, the
            checkpoint is no Segment Anything model, or the memory is full with one point at a time.
    """
    console = console or Console(stderr=True)
    _check_numbers(min_mask_area, points_per_batch, workers)
    import_coder()
    ids = take_shard(picture_ids(pictures, split_file, suffix), shard)
    require_files(pictures, ids, 'pictures', suffix)
    if checkpoint == SUPERPIXELS:
        proposer = _superpixels(settings, min_mask_area)
    elif workers:
        raise UserError('--workers is for superpixels; run Segment Anything with a --shard per GPU instead')
    else:
        proposer = SamProposer(checkpoint, settings or SamSettings(), min_mask_area, points_per_batch, device, console)
    described = proposer.describe()
    claim_masks(out_dir, described, ids)
    tasks = ((osp.join(pictures, name + suffix), osp.join(out_dir, f'{name}.json'), proposer) for name in ids)
    counts = list(track(run_unordered(_make_picture, tasks, workers), len(ids), 'masks', console=console))
    return {**_summarise(counts), 'origin': described['generator']}


def _summarise(counts):
    made = [count for count in counts if count is not None]
    return dict(
        pictures=len(counts),
        made=len(made),
        skipped=len(counts) - len(made),
        masks_per_picture=sum(made) / len(made) if made else None,
        without_masks=made.count(0),
    )


def report_line(summary: dict) -> str:
    """The summary of :func:`make_masks` in one line."""
    line = f'{summary["pictures"]} pictures ({summary["made"]} made now, {summary["skipped"]} were there already)'
    if summary['made']:
        line += f': {summary["masks_per_picture"]:.1f} masks per picture, {summary["without_masks"]} without masks'
    return f'{line}; by {summary["origin"]}'


def picture_ids(pictures, split_file=None, suffix: str = '.jpg') -> list[str]:
    """Ids of the list, or of all pictures of the folder in alphabetical order.

    Raises:
        MissingFileError: If the folder or the list does not exist.
        UserError: If there are none.
    """
    if not osp.isdir(pictures):
        raise MissingFileError(f'folder `{pictures}` does not exist; it should hold the pictures')
    if split_file is not None:
        return voc_layout.read_split(split_file)
    ids = sorted(name for name in voc_layout.list_names(pictures, suffix) if name and not name.startswith('.'))
    if not ids:
        raise UserError(f'`{pictures}` holds no pictures that end in {suffix}: check the folder, or give --suffix')
    return ids


def claim_masks(out_dir, content: dict, ids) -> None:
    """Write ``masks.json``, or make sure that what is in the folder was made in the same way.

    Raises:
        UserError: If the folder holds masks made with other settings, or by something that left no ``masks.json``.
    """
    path = osp.join(out_dir, MASKS_MANIFEST)
    if osp.splitext(MASKS_MANIFEST)[0] in ids:
        raise UserError(f'a picture may not be called `masks`: its file would be {MASKS_MANIFEST}; rename it')
    # In this order, for another shard writes the manifest before its first masks.
    there = len(ids) - len(voc_layout.missing_files(out_dir, ids, '.json'))
    if not osp.isfile(path):
        if there:
            raise UserError(
                f'--out: `{out_dir}` holds masks of {there} of the pictures but no {MASKS_MANIFEST} that says how '
                'they were made: give another --out, or remove them'
            )
        write_json(path, content)
        return
    try:
        with open(path) as file:
            found = dict(json.load(file)['settings'])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'`{path}` is damaged ({error!r}): give another --out, or remove that folder') from error
    # Through JSON, for tuples become lists there.
    wanted = json.loads(json.dumps(content['settings']))
    for key in sorted({*found, *wanted}, key=lambda name: (name != 'generator', name)):
        if found.get(key) != wanted.get(key):
            raise UserError(
                f'--out: `{out_dir}` holds masks made with other settings ({key}: {found.get(key)!r} there, '
                f'{wanted.get(key)!r} now). Give another --out, or remove that folder.'
            )


def read_picture(path) -> np.ndarray:
    """A picture as the data sets see it, turned as its EXIF data say: (H, W, 3), uint8, RGB."""
    try:
        with Image.open(path) as picture:
            return np.array(ImageOps.exif_transpose(picture).convert('RGB'))
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'picture `{path}` cannot be read ({error}); it is truncated or no picture') from error


def picture_size(path) -> tuple[int, int]:
    """(H, W) that :func:`read_picture` would give, from the header alone."""
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # The orientations from 5 on are turned by 90 degrees.
            return (width, height) if picture.getexif().get(0x0112, 1) >= 5 else (height, width)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f'picture `{path}` cannot be read ({error}); it is truncated or no picture') from error


class SuperpixelProposer:
    """Segments of Felzenszwalb and Huttenlocher (2004) at several scales: not Segment Anything, a stand-in.

    Args:
        min_mask_area (int): Smaller segments are dropped, in pixels.
    """

    def __init__(self, min_mask_area: int = 0) -> None:
        self.min_mask_area = min_mask_area

    def describe(self) -> dict:
        """Content of ``masks.json``."""
        settings = dict(
            generator=SUPERPIXELS,
            scales=SUPERPIXEL_SCALES,
            sigma=SUPERPIXEL_SIGMA,
            min_share=SUPERPIXEL_MIN_SHARE,
            min_mask_area=self.min_mask_area,
        )
        return dict(generator=SUPERPIXEL_ORIGIN, checkpoint=None, settings=settings)

    def __call__(self, image, name='') -> list[dict]:
        """Entries of the JSON file; a segment that is the same at several scales is there once.

        Args:
            image (np.ndarray): (H, W, 3), uint8, RGB.
            name (str): Unused.
        """
        felzenszwalb = import_felzenszwalb()
        min_size = max(1, round(SUPERPIXEL_MIN_SHARE * image.shape[0] * image.shape[1]))
        found = {}
        for scale in SUPERPIXEL_SCALES:
            segments = felzenszwalb(image, scale=scale, sigma=SUPERPIXEL_SIGMA, min_size=min_size)
            for index, area in enumerate(np.bincount(segments.ravel())):
                if area >= max(self.min_mask_area, 1):
                    record = mask_record(segments == index, scale=scale)
                    found.setdefault(record['segmentation']['counts'], record)
        return list(found.values())


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

    def __init__(self, checkpoint, settings, min_mask_area=0, points_per_batch=64, device='auto', console=None):
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

    def __call__(self, image, name='the picture') -> list[dict]:
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
                if not _is_out_of_memory(error):
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
            kept = [found[index] for index in _suppress(found, [record['predicted_iou'] for record in found])]
            records += kept
            # Across crops the smaller crop, which saw more detail, wins.
            priorities += [1 / ((box[2] - box[0]) * (box[3] - box[1]))] * len(kept)
        if self.settings.crop_layers:
            records = [records[index] for index in _suppress(records, priorities)]
        return records

    def _propose_in_crop(self, image, box):
        import torch

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
        import torch

        if self.device.type == 'cuda':
            torch.cuda.empty_cache()


def point_grid(points_per_side: int) -> np.ndarray:
    """Centres of equal cells of the unit square.

    Args:
        points_per_side (int): n.

    Returns:
        np.ndarray: (n * n, 2), float64, x and y in 0..1, row by row.
    """
    line = (np.arange(points_per_side) + 0.5) / points_per_side
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


def crop_boxes(height: int, width: int, layers: int) -> list[tuple[int, int, int, int]]:
    """The whole picture, and for each layer i from 1 on 2^i x 2^i overlapping crops.

    Args:
        height (int): Of the picture, in pixels.
        width (int): Of the picture, in pixels.
        layers (int): Number of layers of crops.

    Returns:
        list[tuple[int, int, int, int]]: left, top, right, bottom in pixels; the last two are exclusive.
    """
    boxes = [(0, 0, width, height)]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(CROP_OVERLAP * min(height, width) * 2 / count)
        crop_w, crop_h = (math.ceil((overlap * (count - 1) + side) / count) for side in (width, height))
        for column, row in itertools.product(range(count), repeat=2):
            left, top = (crop_w - overlap) * column, (crop_h - overlap) * row
            boxes.append((left, top, min(left + crop_w, width), min(top + crop_h, height)))
    return boxes


def is_cut(bbox, box, image_size) -> bool:
    """Whether a mask ends near a border of its crop that is no border of the picture.

    Args:
        bbox (Sequence[int]): x, y, width, height of the mask in the picture, in pixels.
        box (Sequence[int]): left, top, right, bottom of the crop.
        image_size (tuple[int, int]): (H, W) of the picture.
    """
    corners = (bbox[0], bbox[1], bbox[0] + bbox[2] - 1, bbox[1] + bbox[3] - 1)
    whole = (0, 0, image_size[1], image_size[0])
    return any(
        abs(corner - side) <= EDGE_DISTANCE < abs(corner - limit) for corner, side, limit in zip(corners, box, whole)
    )


def suppress_boxes(boxes, scores, max_iou: float = BOX_IOU) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes (np.ndarray): (n, 4), left, top, right, bottom.
        scores (np.ndarray): (n,); the best comes first, of equal ones the earlier.
        max_iou (float): A box is dropped if its IoU with one that is kept is higher, 0..1.

    Returns:
        list[int]: Indices of the boxes to keep, best first.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    order, kept = np.argsort(-np.asarray(scores, dtype=np.float64), kind='stable'), []
    while len(order):
        first, order = order[0], order[1:]
        kept.append(int(first))
        low, high = np.maximum(boxes[order, :2], boxes[first, :2]), np.minimum(boxes[order, 2:], boxes[first, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = areas[order] + areas[first] - shared
        order = order[shared <= max_iou * union]
    return kept


def stability_scores(logits):
    """How little a mask changes with the cut-off: its area at ``+STABILITY_OFFSET`` by that at the negative.

    Args:
        logits (Tensor): (n, H, W), float.

    Returns:
        Tensor: (n,), float, 0..1; 0 for an empty mask.
    """
    inner = (logits > STABILITY_OFFSET).flatten(1).sum(dim=1)
    outer = (logits > -STABILITY_OFFSET).flatten(1).sum(dim=1)
    return inner / outer.clamp(min=1)


def load_sam(checkpoint: str):
    """Load a Segment Anything model of ``transformers`` (SAM or SAM-HQ) and its image processor, on the CPU.

    A folder, and whatever looks like a path, is never looked up on the network; a hub name only if it is not in the
    local cache.

    Args:
        checkpoint (str): Folder with ``config.json``, weights and the processor's settings, or ``owner/name``.

    Returns:
        tuple[PreTrainedModel, BaseImageProcessor]: float32.

    Raises:
        MissingFileError: If it does not exist.
        UserError: If it is another model, damaged or incomplete, or the hub cannot be reached.
    """
    transformers = import_transformers()
    source, offline = _locate(checkpoint)
    config = _load(checkpoint, transformers.AutoConfig, source, offline)
    if config.model_type not in SAM_TYPES:
        raise UserError(
            f'checkpoint `{checkpoint}` is a model of type {config.model_type}, but must be Segment Anything: '
            f'{" or ".join(SAM_TYPES)}'
        )
    factory = transformers.AutoModelForMaskGeneration
    model, info = _load(checkpoint, factory, source, offline, output_loading_info=True)
    absent = sorted(map(str, [*info['missing_keys'], *info['mismatched_keys']]))
    if absent:
        raise UserError(
            f'the weights of checkpoint `{checkpoint}` lack {len(absent)} tensors or have them in another shape '
            f'({voc_layout.shorten(absent)}): it is incomplete, download it again'
        )
    return model.float(), _load(checkpoint, transformers.AutoImageProcessor, source, offline)


def weights_hash(model) -> str:
    """16 hexadecimal digits that stand for the names and values of a model's tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()))
    return digest.hexdigest()[:16]


def import_transformers():
    """The package, or one line on how to get it."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f'Segment Anything needs the package transformers, which cannot be imported ({error}). Mend: `pip install '
            f'transformers`, or the word `{SUPERPIXELS}` as checkpoint, to show the mechanism only'
        ) from error
    return transformers


def import_felzenszwalb():
    """The function of scikit-image, or one line on how to get it."""
    try:
        from skimage.segmentation import felzenszwalb
    except ImportError as error:
        raise UserError(
            f'superpixels need the package scikit-image, which cannot be imported ({error}). Mend: `pip install '
            'scikit-image` (the extra `superpixels`)'
        ) from error
    return felzenszwalb


def _locate(checkpoint):
    """What to give to ``from_pretrained``, and whether it must stay off the network."""
    if osp.isdir(checkpoint):
        if not osp.isfile(osp.join(checkpoint, 'config.json')):
            raise MissingFileError(
                f'checkpoint folder `{checkpoint}` has no config.json; it must be as `save_pretrained` of transformers '
                'writes it'
            )
        return osp.abspath(checkpoint), True
    if osp.isfile(checkpoint):
        raise UserError(
            f'checkpoint `{checkpoint}` is a file; give the folder of a model of transformers (config.json, '
            'model.safetensors, preprocessor_config.json), or a hub name such as facebook/sam-vit-huge'
        )
    is_name = re.fullmatch(r'\w[\w.-]*/\w[\w.-]*', checkpoint) and not osp.isdir(checkpoint.split('/')[0])
    if not is_name:
        raise MissingFileError(
            f'checkpoint `{checkpoint}` does not exist; give a folder, a hub name such as facebook/sam-vit-huge, or '
            f'the word `{SUPERPIXELS}`'
        )
    return checkpoint, _is_cached(checkpoint)


def _is_cached(name):
    """Whether a model of the hub is in the local cache; if not, make sure that the hub has it and can be reached."""
    import huggingface_hub

    def cached(file):
        return isinstance(huggingface_hub.try_to_load_from_cache(name, file), str)

    if all(any(map(cached, files)) for files in _HUB_FILES):
        return True
    try:
        # Asked once: transformers would try again for half a minute.
        huggingface_hub.HfApi().model_info(name, timeout=10)
    except Exception as error:  # what the network raises differs between versions of its packages
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f'checkpoint `{name}` is no folder, not in the local cache, and cannot be had from the Hugging Face hub '
            f'({text}): download it where there is a network, and give its folder'
        ) from error
    return False


def _load(checkpoint, factory, source, offline, **options):
    """``factory.from_pretrained`` with errors that fit on one line."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    try:
        return factory.from_pretrained(source, local_files_only=offline, **options)
    except MemoryError:
        raise
    except Exception as error:  # safetensors, JSON, missing files, unknown models: each has a type of its own
        text = ' '.join(str(error).split())[:300] or type(error).__name__
        raise UserError(f'checkpoint `{checkpoint}` cannot be loaded: {text}') from error


def _superpixels(settings, min_mask_area):
    """The proposer, if no setting of Segment Anything is given and scikit-image is there."""
    default = SamSettings()
    chosen = settings or default
    given = [field.name for field in fields(default) if getattr(chosen, field.name) != getattr(default, field.name)]
    if given:
        raise UserError(f'{_option(given[0])} is for Segment Anything; superpixels do not have it')
    import_felzenszwalb()
    return SuperpixelProposer(min_mask_area)


def _make_picture(task):
    """Write the masks of one picture: how many, or None if they are there already."""
    picture, path, proposer = task
    if _is_done(path, picture_size(picture)):
        return None
    records = proposer(read_picture(picture), picture)
    write_json(path, records)
    return len(records)


def _is_done(path, size):
    try:
        read_records(path, size)
    except (UserError, FileNotFoundError):
        return False
    return True


def _suppress(records, scores):
    # Corners are pixels here, as in the authors' code: a box ends at its last pixel, not after it.
    boxes = [(x, y, x + w - 1, y + h - 1) for x, y, w, h in (record['bbox'] for record in records)]
    return suppress_boxes(boxes, scores)


def _is_out_of_memory(error):
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == 'OutOfMemoryError'
        or 'out of memory' in text
        or 'not enough memory' in text
        or "can't allocate memory" in text
    )


def _check_numbers(min_mask_area, points_per_batch, workers):
    check_workers(workers)
    if min_mask_area < 0:
        raise UserError(f'--min-mask-area must be at least 0 pixels, but is {min_mask_area}')
    if points_per_batch < 1:
        raise UserError(f'--points-per-batch must be at least 1, but is {points_per_batch}')


def _option(name):
    return '--' + name.replace('_', '-')
