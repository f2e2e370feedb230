"""Run everything from image-level labels to the table: data, trainings, pseudo labels, verification."""

import argparse
import os.path as osp

from csrm_plugin.utils.cli import run_tool


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Stages whose inputs, code and settings have not changed are skipped, and it says so. After a crash or '
        'a kill, call it again. What a training made is never removed: what is in the way of another is renamed to '
        'STAGE.set_aside_TIME_WHY. Each stage writes a card.json with what it stands on; compare with tools/doctor.py.',
    )
    add = parser.add_argument
    add('name', help='demo, msrc, voc_animals, voc, coco, rml_... of each (mmcfg/pipelines), or a YAML file')
    add('--work-dir', metavar='DIR', help='folder of the run (default: work_dirs/pipeline_NAME)')
    add('--seed', type=int, help="seed of all trainings (default: the pipeline's)")
    add(
        '--from',
        dest='start',
        metavar='STAGE',
        help='take the stages before this one as they are, and run it and all after it anew',
    )
    add('--until', metavar='STAGE', help='stop after this stage')
    add('--dry-run', action='store_true', help='only say what would run, with the commands')
    add(
        '--gpus',
        type=int,
        default=1,
        metavar='N',
        help='processes of each training and test, by torchrun, and shards of what makes labels and masks (default: 1)',
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from rich.console import Console

    from csrm_plugin.experiments.pipeline.runner import run_pipeline
    from csrm_plugin.report import write_report
    from csrm_plugin.report.paper.table_text import show_table

    console = Console()
    root = osp.dirname(osp.dirname(osp.abspath(__file__)))
    outcome = run_pipeline(
        args.name,
        root,
        console,
        work_dir=args.work_dir,
        seed=args.seed,
        start=args.start,
        until=args.until,
        dry_run=args.dry_run,
        gpus=args.gpus,
    )
    if 'table' in outcome:
        show_table(outcome['table'], console)
        console.print(f'Report, for a browser: {write_report([outcome["folder"]])}', highlight=False, soft_wrap=True)


if __name__ == '__main__':
    run_tool(main, build_parser())
