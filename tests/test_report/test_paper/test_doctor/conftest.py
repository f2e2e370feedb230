"""Cards of a run to compare, and what tests do with them; fixtures of these names give the functions."""

import copy
import io
import json

import pytest
from rich.console import Console

from csrm_plugin.experiments.pipeline.cards import write_card
from csrm_plugin.report.paper import doctor, published


def make_card(stage, number, inputs=(), scores=None, **parts):
    """A finished card of a run on MSRC."""
    return dict(
        stage=stage,
        kind='train',
        run='msrc',
        dataset='msrc',
        number=number,
        status='done',
        seed=0,
        key=f'key of {stage}',
        key_parts={'code': 'c0' * 32},
        git={'revision': 'abc', 'dirty': False},
        config={'file': 'mmcfg/x.py', 'hash': 'h', 'settings': {'model.type': 'X', 'model.width': 64, 'lr': 0.1}},
        data={'split train': {'pictures': 276, 'hash': 'd'}},
        inputs={name: f'key of {name}' for name in inputs},
        versions={'torch': '2.13.0', 'numpy': '2.4.6'},
        context={'scales': [1.0], 'flip': False, 'crf': False},
        scores=scores or {},
        **parts,
    )


@pytest.fixture
def run():
    """Data, classifier, CSRM, its labels, and a table."""
    return [
        make_card('data', 1),
        make_card('classifier', 2, ['data'], {'train': {'pseudo/mIoU': 40.0, 'cam/mIoU': 42.0, 'cam/threshold': 0.3}}),
        make_card('csrm', 3, ['data', 'classifier'], {'train': {'pseudo/mIoU': 50.0}, 'val': {'pseudo/mIoU': 45.0}}),
        make_card('labels_csrm', 4, ['csrm'], {'train': {'miou': 52.0}, 'val': {'miou': 47.0}}),
        make_card('table', 5, ['labels_csrm']),
    ]


@pytest.fixture
def other(run):
    """The same once more, to change."""
    return copy.deepcopy(run)


def card_of(cards, stage):
    return next(card for card in cards if card['stage'] == stage)


def compare(run, other, **options):
    """Findings by stage, and the verdict."""
    findings = doctor.compare_runs(run, other, **options)
    json.dumps(findings, allow_nan=False)
    return {finding['stage']: finding for finding in findings}, doctor.verdict(findings)


def lower(run, stage, split, points, metric='pseudo/mIoU'):
    card_of(run, stage)['scores'][split][metric] -= points


def paper_run():
    """A run that has what the paper has."""
    cards = [copy.deepcopy(card) | {'status': 'done'} for card in published.paper_card_run('voc')]
    for card in cards:
        card['context'] = {
            'scales': [0.5, 1.0],
            'crf': {'iterations': 10} if card['context'].get('with_crf') else False,
        }
        for key in card.pop('defaults'):
            del card['config']['settings'][key]
    return cards


def drawn(findings):
    stream = io.StringIO()
    Console(file=stream, width=140).print(doctor.draw_findings(findings))
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    """Writes a run and gives its folder."""

    def write_run(name, cards):
        for card in cards:
            write_card(tmp_path / name / card['stage'], card)
        return str(tmp_path / name)

    return write_run


@pytest.fixture(name='make_card')
def give_make_card():
    return make_card


@pytest.fixture(name='card_of')
def give_card_of():
    return card_of


@pytest.fixture(name='compare')
def give_compare():
    return compare


@pytest.fixture(name='lower')
def give_lower():
    return lower


@pytest.fixture(name='paper_run')
def give_paper_run():
    return paper_run


@pytest.fixture(name='drawn')
def give_drawn():
    return drawn
