"""One run of a pipeline in its folder: its stages, its data and what they share."""

import os
import os.path as osp

from mmengine.config import Config

from csrm_plugin.config.load import load_config
from csrm_plugin.experiments.pipeline.cards import SUMMARY
from csrm_plugin.experiments.pipeline.contents import ContentMemory
from csrm_plugin.experiments.pipeline.data import RunData
from csrm_plugin.experiments.pipeline.recipes import Recipe
from csrm_plugin.experiments.pipeline.stages import STAGES, Stage, last_checkpoint
from csrm_plugin.utils import write_json

#: File in the folder of a run that saves reading again what was not touched.
MEMORY = '.contents.json'


class Run:
    """One run of a pipeline in its folder.

    Args:
        recipe (Recipe): What to do.
        root (str): Folder of the project, with ``tools`` and ``mmcfg``.
        folder (str): Where everything goes, one sub-folder per stage.
        gpus (int): Processes of each training and test, and shards of what makes labels and masks.
    """

    def __init__(self, recipe: Recipe, root: str, folder: str, gpus: int = 1) -> None:
        self.recipe, self.root, self.folder, self.gpus = recipe, root, folder, gpus
        self.data = RunData(recipe, self.config_path(recipe.config))
        self.environment = self._environment()
        os.environ.update(self.environment)  # configs read the variables
        self.memory = ContentMemory(osp.join(folder, MEMORY))
        self._configs: dict = {}
        #: Stages that ran in this call or were up to date, and the identity of what came out.
        self.done: dict[str, str] = {}
        self.stages = {spec.name: STAGES[spec.kind](spec, self) for spec in recipe.stages}

    def _environment(self) -> dict:
        """Variables of the pipeline that are unset and for which there is a file."""
        found = {}
        for name, candidates in self.recipe.environment.items():
            paths = [osp.normpath(path.format(data_root=self.data.root)) for path in candidates]
            there = [path for path in paths if osp.isfile(path)]
            if name not in os.environ and there:
                found[name] = there[0]
        return found

    def config_path(self, config: str) -> str:
        """A config that a pipeline names: a file from here, else one of the project."""
        return config if osp.isfile(config) else osp.join(self.root, config)

    def load(self, config: str, options: dict) -> Config:
        """A resolved config, to be read only; read once for each set of overrides, for reading takes its time."""
        name = repr((config, sorted(options.items())))
        if name not in self._configs:
            self._configs[name] = load_config(self.config_path(config), options)
        return self._configs[name]

    def folder_of(self, name: str) -> str:
        """Folder of a stage."""
        return osp.join(self.folder, name)

    def stage(self, name: str) -> Stage:
        """A stage by its name."""
        self.recipe.stage(name)
        return self.stages[name]

    def checkpoint_of(self, name: str) -> str:
        """The checkpoint that a training stage ends with."""
        stage = self.stage(name)
        cfg = self.load(stage.options['config'], stage.options.get('options') or {})
        return last_checkpoint(stage.path('train'), cfg)

    def train_command(self, config: str, arguments: list[str]) -> list[str]:
        """A training, as one process would do it."""
        return ['tools/train.py', config, *arguments, *(['--resume'] if self.recipe.resume else [])]

    def write_summary(self) -> None:
        """Write :data:`SUMMARY`: what a report of the run asks beside its cards.

        ``stages`` are those that are done in this call; cards that other settings left are not among them.
        """
        recipe = self.recipe
        done = [spec.name for spec in recipe.stages if spec.name in self.done]
        write_json(
            osp.join(self.folder, SUMMARY),
            dict(name=recipe.name, dataset=recipe.dataset, seed=recipe.seed, splits=recipe.splits, stages=done),
        )
