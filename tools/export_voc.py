"""Make the archive for the evaluation server of PASCAL VOC 2012, or say what the server would reject."""

import argparse

from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='exit status of --check: 0 if the server would take the archive, 1 if not',
    )
    parser.add_argument(
        'pred_dir',
        nargs='?',
        metavar='PRED_DIR',
        help='folder with <id>.png, class indices 0..20, original sizes (from tools/pseudo_labels.py or tools/test.py '
        '--out)',
    )
    parser.add_argument('--out', metavar='FILE', help='archive to write: .tgz, .tar.gz, .tar or .zip')
    parser.add_argument('--check', metavar='ARCHIVE', help='only check this archive')
    parser.add_argument(
        '--split-file', metavar='FILE', required=True, help='list of the test ids, ImageSets/Segmentation/test.txt'
    )
    parser.add_argument(
        '--pictures', metavar='DIR', help='JPEGImages: the sizes must be those of its pictures (default: not checked)'
    )
    parser.add_argument(
        '--competition',
        default='comp6',
        choices=['comp5', 'comp6'],
        help="comp5: trained on VOC's data alone; comp6: outside data, such as ImageNet weights (default: comp6)",
    )
    return parser


def main(args: argparse.Namespace) -> int | None:
    from csrm_plugin.utils import UserError

    if args.check is not None and (args.pred_dir or args.out):
        raise UserError('--check takes neither PRED_DIR nor --out: it checks an archive that is there')
    if args.check is None and not (args.pred_dir and args.out):
        raise UserError('give PRED_DIR and --out to write an archive, or --check ARCHIVE')
    return check(args) if args.check else export(args)


def export(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.export_voc import export_voc

    result = export_voc(args.pred_dir, args.split_file, args.out, args.pictures, args.competition)
    print(f'wrote {result["out"]}: {result["files"]} label maps in {result["folder"]}/')
    if result['regrayed']:
        print(f'{result["regrayed"]} grey label maps got the palette')
    if result['left_out']:
        print(f'note: {result["left_out"]} PNG files of {args.pred_dir} are not in the split and were left out')
    print_notes(args)


def check(args: argparse.Namespace) -> int:
    from csrm_plugin.datasets.voc_layout import read_split
    from csrm_plugin.inference.export_voc import archive_folder, check_archive

    problems = check_archive(args.check, args.split_file, args.pictures, args.competition)
    for problem in problems:
        print(f'problem: {problem}')
    if not problems:
        count = len(read_split(args.split_file))
        print(f'{args.check} is good: {count} label maps in {archive_folder(args.competition)}/, nothing else')
    print_notes(args)
    return int(bool(problems))


def print_notes(args: argparse.Namespace) -> None:
    from csrm_plugin.inference.export_voc import split_note

    note = split_note(args.split_file)
    if note:
        print(f'note: {note}')
    if args.pictures is None:
        print('note: sizes were not compared with the pictures; --pictures DIR does')


if __name__ == '__main__':
    run_tool(main, build_parser())
