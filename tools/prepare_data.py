"""Make image-level labels from VOC XML, COCO JSON, masks or a table, and check a data set.

Examples:
    python tools/prepare_data.py voc-xml --root data/VOCdevkit/VOC2012 --splits train_aug val
    python tools/prepare_data.py coco-json --root data/coco14
    python tools/prepare_data.py masks --root data/msrc --classes msrc
    python tools/prepare_data.py csv --root data/mine --csv labels.csv
    python tools/prepare_data.py check --root data/msrc
    python tools/prepare_data.py synthetic --root data/demo
"""

import argparse
import os.path as osp
from collections.abc import Callable, Iterable, Sequence

from csrm_plugin.datasets import preparation
from csrm_plugin.datasets.preparation.common import PRESETS, label_paths, refuse_existing, union_of_ids
from csrm_plugin.datasets.synthetic import ensure_synthetic
from csrm_plugin.datasets.voc_layout import find_label_file, read_image_labels
from csrm_plugin.utils import UserError
from csrm_plugin.utils.cli import add_debug_argument, run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add_voc_xml(commands)
    add_coco_json(commands)
    add_masks(commands)
    add_csv(commands)
    add_check(commands)
    add_synthetic(commands)
    return add_debug_argument(parser)


def add_command(
    commands: argparse._SubParsersAction, name: str, run: Callable[[argparse.Namespace], int | None], help_text: str
) -> argparse.ArgumentParser:
    """A sub-command with the data root."""
    command = commands.add_parser(name, help=help_text, description=help_text)
    command.set_defaults(run=run)
    command.add_argument(
        '--root',
        required=True,
        metavar='DIR',
        help='folder in VOC layout (JPEGImages, SegmentationClass, ImageSets/Segmentation)',
    )
    # Also after the sub-command; suppressed, so that its absence here does not undo the one before it.
    command.add_argument('--debug', action='store_true', default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return command


def add_writing(command: argparse.ArgumentParser) -> None:
    """What the commands that write labels share."""
    command.add_argument(
        '--out',
        metavar='PATH',
        help='folder for image_labels_<split>.json, or one .json file for all splits (default: the root)',
    )
    command.add_argument('--overwrite', action='store_true', help='replace files that are there')
    command.add_argument('--no-check', action='store_true', help='leave out the check at the end')


def add_reading(command: argparse.ArgumentParser) -> None:
    """What the commands that read a folder in VOC layout share."""
    command.add_argument(
        '--splits', nargs='+', metavar='NAME', help='names of lists in ImageSets/Segmentation (default: all)'
    )
    command.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help='class names in the order of the mask values from 1, or a file with one per line, or one '
        f'of {", ".join(PRESETS)} (default: those of a label file in the root)',
    )
    command.add_argument('--img-suffix', default='.jpg', metavar='END', help='ending of the pictures (default: .jpg)')


def add_mask_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        '--mask-folder',
        default='SegmentationClass',
        metavar='DIR',
        help='folder of <id>.png, relative to the root (default: SegmentationClass)',
    )


def add_voc_xml(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, 'voc-xml', run_voc_xml, 'labels from VOC annotation files')
    add_reading(command)
    command.add_argument(
        '--annotations',
        default='Annotations',
        metavar='DIR',
        help='folder of <id>.xml, relative to the root (default: Annotations)',
    )
    command.add_argument(
        '--skip-difficult', action='store_true', help='leave out objects marked difficult (default: they count)'
    )
    add_writing(command)


def add_coco_json(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        'coco-json',
        run_coco,
        'splits in VOC layout (links to the pictures, masks, lists, labels) from COCO annotations',
    )
    command.add_argument(
        '--splits', nargs='+', default=['train', 'val'], metavar='NAME', help='splits to make (default: train val)'
    )
    command.add_argument(
        '--annotations',
        metavar='FILE',
        help='COCO file of the one split (default: <root>/annotations/instances_<split>2014.json)',
    )
    command.add_argument(
        '--images', metavar='DIR', help='folder of the pictures of the one split (default: <root>/<split>2014)'
    )
    command.add_argument(
        '--crowd',
        choices=['class', 'ignore', 'skip'],
        default='class',
        help='regions marked iscrowd: as their class, as 255, or not at all (default: class)',
    )
    command.add_argument(
        '--link',
        choices=['symlink', 'hardlink', 'copy', 'none'],
        default='symlink',
        help='how pictures get into JPEGImages (default: symlink)',
    )
    command.add_argument('--no-masks', action='store_true', help='labels and lists only; needs no pycocotools')
    command.add_argument(
        '--keep-unlabelled', action='store_true', help='keep pictures without objects (default: they are left out)'
    )
    add_writing(command)


def add_masks(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, 'masks', run_masks, 'labels from segmentation masks')
    add_reading(command)
    add_mask_folder(command)
    command.add_argument(
        '--min-pixels',
        type=int,
        default=1,
        metavar='N',
        help='leave out classes with fewer pixels in a picture (default: 1)',
    )
    add_writing(command)


def add_csv(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, 'csv', run_csv, 'labels from a table: id,labels or id and a 0/1 column per class')
    add_reading(command)
    command.add_argument('--csv', required=True, metavar='FILE', help='table with a header line')
    command.add_argument(
        '--separator', default=';', metavar='TEXT', help='between names in the column labels (default: ;)'
    )
    add_writing(command)


def add_check(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands, 'check', run_check, 'check pictures, masks, labels and lists; exit status 1 if there are errors'
    )
    add_reading(command)
    add_mask_folder(command)
    command.add_argument('--label-file', metavar='FILE', help='label file of all splits (default: those in the root)')
    command.add_argument('--quick', action='store_true', help='names and labels only, without reading the pictures')


def add_synthetic(commands: argparse._SubParsersAction) -> None:
    command = add_command(commands, 'synthetic', run_synthetic, 'draw the synthetic data set of the demo')
    command.add_argument(
        '--size', nargs=2, type=int, default=(128, 96), metavar=('W', 'H'), help='pixels (default: 128 96)'
    )
    command.add_argument('--num-train', type=int, default=160, metavar='N', help='pictures (default: 160)')
    command.add_argument('--num-val', type=int, default=48, metavar='N', help='pictures (default: 48)')
    command.add_argument('--seed', type=int, default=0, metavar='N', help='seed of the pictures (default: 0)')


def known_classes(args: argparse.Namespace, splits: Iterable[str], fallback: Sequence[str] | None = None) -> list[str]:
    """Class names of ``--classes``, else of a label file in the root, else ``fallback``."""
    classes = preparation.resolve_classes(args.classes)
    if classes is not None:
        return classes
    path = next(filter(None, (find_label_file(args.root, split) for split in splits)), None)
    if path is not None:
        return read_image_labels(path)[0]
    if fallback is None:
        raise UserError(
            'Class names are unknown: give --classes NAME NAME ... in the order of the mask values, or one of '
            f'{", ".join(PRESETS)}.'
        )
    return list(fallback)


def finish(
    args: argparse.Namespace,
    splits: dict[str, list[str]],
    classes: Sequence[str],
    labels: dict[str, Iterable[str]],
    **check_options: object,
) -> int:
    """Write the labels of the splits, say so and check."""
    paths = preparation.write_split_labels(args.out or args.root, splits, classes, labels)
    for split, path in paths.items():
        chosen = find_label_file(args.root, split)
        if chosen is not None and osp.samefile(chosen, path):
            print(f'wrote {path}: the data sets find it by themselves')
        else:
            print(f'wrote {path}: use it with <dataloader>.dataset.label_file={osp.abspath(path)}')
    if args.no_check:
        return 0
    return report(preparation.check_data(args.root, list(splits), label_files=paths, classes=classes, **check_options))


def report(result: preparation.Report) -> int:
    """Print a report; give the exit status."""
    print(result)
    return 0 if result.ok else 1


def start(args: argparse.Namespace) -> dict[str, list[str]]:
    """Splits to work on, after a look whether their files may be written."""
    splits = preparation.resolve_splits(args.root, args.splits, args.img_suffix)
    refuse_existing(label_paths(args.out or args.root, splits).values(), args.overwrite)
    return splits


def run_voc_xml(args: argparse.Namespace) -> int:
    splits = start(args)
    classes = known_classes(args, splits, PRESETS['voc12'])
    folder = osp.join(args.root, args.annotations)
    labels = preparation.labels_from_voc_xml(union_of_ids(splits), classes, folder, args.skip_difficult)
    return finish(args, splits, classes, labels, img_suffix=args.img_suffix)


def run_masks(args: argparse.Namespace) -> int:
    splits = start(args)
    classes = known_classes(args, splits)
    folder = osp.join(args.root, args.mask_folder)
    labels = preparation.labels_from_masks(union_of_ids(splits), classes, folder, args.min_pixels)
    return finish(args, splits, classes, labels, img_suffix=args.img_suffix, mask_folder=args.mask_folder)


def run_csv(args: argparse.Namespace) -> int:
    splits = start(args)
    classes, labels = preparation.labels_from_csv(args.csv, preparation.resolve_classes(args.classes), args.separator)
    missing = [image_id for image_id in union_of_ids(splits) if image_id not in labels]
    if missing:
        raise UserError(
            f'{args.csv} has no row for {len(missing)} ids of {", ".join(splits)}, for example {missing[0]}.'
        )
    return finish(args, splits, classes, labels, img_suffix=args.img_suffix)


def run_coco(args: argparse.Namespace) -> int:
    if len(args.splits) > 1 and (args.annotations or args.images):
        raise UserError('--annotations and --images belong to one split: name it with --splits.')
    paths = label_paths(args.out or args.root, args.splits)
    if len(set(paths.values())) < len(args.splits):
        raise UserError('coco-json writes one label file per split: give a folder as --out, or one split in --splits.')
    for split in args.splits:
        made = preparation.prepare_coco(
            annotations=args.annotations or osp.join(args.root, 'annotations', f'instances_{split}2014.json'),
            images=args.images or osp.join(args.root, f'{split}2014'),
            root=args.root,
            split=split,
            label_path=paths[split],
            crowd=args.crowd,
            link=args.link,
            with_masks=not args.no_masks,
            keep_unlabelled=args.keep_unlabelled,
            overwrite=args.overwrite,
        )
        print(f'wrote {paths[split]}: {len(made["labels"])} pictures, {made["left_out"]} without objects left out')
    if args.no_check:
        return 0
    return report(preparation.check_data(args.root, args.splits, label_files=paths))


def run_check(args: argparse.Namespace) -> int:
    return report(
        preparation.check_data(
            args.root,
            args.splits,
            label_file=args.label_file,
            classes=preparation.resolve_classes(args.classes),
            img_suffix=args.img_suffix,
            mask_folder=args.mask_folder,
            decode=not args.quick,
        )
    )


def run_synthetic(args: argparse.Namespace) -> None:
    made = ensure_synthetic(args.root, tuple(args.size), args.num_train, args.num_val, args.seed)
    print(f'{"drew" if made else "already there:"} {args.num_train} + {args.num_val} pictures in {args.root}')


def main(args: argparse.Namespace) -> int | None:
    return args.run(args)


if __name__ == '__main__':
    run_tool(main, build_parser())
