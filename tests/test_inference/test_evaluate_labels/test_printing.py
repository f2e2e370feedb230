from rich.console import Console

from csrm_plugin.inference.evaluate_labels import print_report


def test_report_is_readable(random_folder):
    console = Console(record=True, width=100, file=open('/dev/null', 'w'))  # noqa: SIM115
    report = random_folder.score(classes=['background', '[red]cat', 'dog', 'kite', 'tent'], thresholds='0:1:0.5')
    print_report(report, console)
    text = console.export_text()
    assert '[red]cat' in text and f'{report["iou"]["dog"]:.2f}' in text and 'mean without background' in text
    assert f'mIoU {report["miou"]:.2f} % (label maps)' in text
    assert 'split: some' in text and '5 pictures' in text and 'weights: not known' in text and 'coverage' in text
    assert 'chosen with the ground truth, and is not a result that one could have had without masks' in text
    assert 'No threshold was fixed beforehand' in text
    report['context'] |= dict(threshold=0.5, threshold_chosen_on='val')
    print_report(report, console)
    assert 'threshold: 0.5 (chosen with the masks of val)' in console.export_text()
