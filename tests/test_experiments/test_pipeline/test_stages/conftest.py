"""Two pipelines of the project in folders of their own; what their stages call."""

import json
import os

import pytest

from csrm_plugin.experiments.pipeline.recipes import load_recipe
from csrm_plugin.experiments.pipeline.run import Run


@pytest.fixture
def voc(root, monkeypatch):
    """The VOC pipeline in a folder of its own; commands need no data."""
    monkeypatch.setenv('VOC_ROOT', 'voc')
    monkeypatch.delenv('SAM_CHECKPOINT', raising=False)
    return Run(load_recipe('voc', str(root)), str(root), 'RUN')


@pytest.fixture
def demo(root, tmp_path, monkeypatch):
    """The demo pipeline."""
    monkeypatch.setenv('DEMO_ROOT', str(tmp_path / 'data'))
    return Run(load_recipe('demo', str(root)), str(root), str(tmp_path / 'run'))


@pytest.fixture
def command():
    """Function: a command of a stage as text, by its tool and its place among those of that tool."""

    def find(stage, tool, index=0):
        found = [words for words in stage.commands() if any(word == f'tools/{tool}.py' for word in words)]
        return ' '.join(found[index])

    return find


@pytest.fixture
def write():
    """Function: write a JSON file."""

    def to(path, **content):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w') as file:
            json.dump(content, file)

    return to
