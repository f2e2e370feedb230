"""Say whether a run is below its plain baseline; find its first stage that falls short of a reference, and why."""

import argparse

from csrm_plugin.utils.cli import run_tool

#: Columns of the table where the output is no terminal.
WIDTH = 140


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='Exit status: 0 if nothing is off, 1 if something is (or after an error, which is one line on stderr), '
        '2 for wrong usage. Labels and networks of the run are off if they are more than the tolerance below its plain '
        "baseline (the classifier's CAMs, and a network on them) at the same scales, flip and dCRF. A stage is off if "
        'a score is more than the tolerance below the reference, if it has none of its scores, if it is not finished, '
        'or if only the reference has it. Scores above the reference are fine.',
    )
    parser.add_argument('run', metavar='RUN', help='folder of a run, of one of its stages, or a card.json')
    parser.add_argument(
        'reference',
        metavar='REFERENCE',
        nargs='?',
        help='another run, stage or card, or `paper` for the published figures (default: paper, where the data set of '
        'the run is voc or coco; else none, if the run has a plain baseline)',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.5,
        metavar='POINTS',
        help='how far below the reference a score may be, in points of percent (default: 0.5)',
    )
    parser.add_argument('--ignore-missing', action='store_true', help='stages that only the reference has do not count')
    parser.add_argument('--ignore-baseline', action='store_true', help='do not compare with the plain baseline')
    parser.add_argument('--json', metavar='OUT', help='write everything that was found, and the verdict')
    return parser


def main(args: argparse.Namespace) -> int:
    import os

    from rich.console import Console

    from csrm_plugin.report.paper import doctor
    from csrm_plugin.utils import write_json

    run, reference = doctor.load_pair(args.run, args.reference)
    if args.ignore_missing:
        stages = {card['stage'] for card in run}
        reference = [card for card in reference if card['stage'] in stages]
    baseline = doctor.compare_with_baseline([] if args.ignore_baseline else run, args.tolerance)
    findings = doctor.compare_runs(run, reference, args.tolerance) if reference else []
    sentence = doctor.verdict(findings) if findings else ''
    off = doctor.is_below(baseline) or any(map(doctor.is_off, findings))
    if args.json:
        write_json(
            args.json,
            dict(
                run=args.run,
                reference=args.reference or ('paper' if reference else None),
                tolerance=args.tolerance,
                off=off,
                baseline=baseline,
                verdict=sentence,
                findings=findings,
            ),
        )
    console = Console()
    if not console.is_terminal and 'COLUMNS' not in os.environ:
        console.width = WIDTH
    for line in doctor.baseline_lines(baseline):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if findings:
        console.print(doctor.draw_findings(findings))
        for line in (*doctor.note_lines(findings), sentence):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    return int(off)


if __name__ == '__main__':
    run_tool(main, build_parser())
