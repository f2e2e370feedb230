"""The data set of a run."""

import os.path as osp

from csrm_plugin.config.load import load_config
from csrm_plugin.datasets import voc_layout
from csrm_plugin.experiments.pipeline.recipes import Recipe
from csrm_plugin.inference.pseudo_labels import split_dataset


class RunData:
    """The data set of a run, as its config's test data set says.

    Args:
        recipe (Recipe): The pipeline.
        config (str): Path of its config.
    """

    def __init__(self, recipe: Recipe, config: str) -> None:
        self.cfg = load_config(config)
        dataset = self.cfg.test_dataloader.dataset
        prefix = dataset.get('data_prefix', {})
        self.recipe = recipe
        self.root = dataset.data_root
        self.lists = osp.dirname(dataset.ann_file)
        self.pictures = osp.join(self.root, prefix.get('img_path', 'JPEGImages'))
        self.masks = osp.join(self.root, prefix.get('seg_map_path', 'SegmentationClass'))
        self.suffix = dataset.get('img_suffix', '.jpg')

    @property
    def splits(self) -> list[str]:
        """All splits that the run scores, trains on or chooses a threshold on."""
        recipe = self.recipe
        return list(dict.fromkeys([*recipe.splits, recipe.train_split, *recipe.choice_splits]))

    def has_masks(self, split: str) -> bool:
        """Whether every picture of a split has a mask; taken for granted where there is no list yet."""
        path = self.list_of(split)
        return not osp.isfile(path) or not voc_layout.missing_files(self.masks, voc_layout.read_split(path), '.png')

    def label_file(self, split: str) -> str | None:
        """Label file of a split."""
        return voc_layout.find_label_file(self.root, split, self.cfg.test_dataloader.dataset.get('label_file'))

    def ann_file(self, split: str) -> str:
        """List of a split, relative to the data root."""
        return osp.join(self.lists, f'{split}.txt')

    def list_of(self, split: str) -> str:
        """Path of the list of a split."""
        return osp.join(self.root, self.ann_file(split))

    def count(self, split: str) -> int:
        """Number of pictures of a split."""
        with open(self.list_of(split)) as file:
            return sum(bool(line.strip()) for line in file)

    def load(self) -> None:
        """Build the data set of every split, which draws synthetic ones and finds missing files and labels.

        Raises:
            UserError: Naming what is missing.
        """
        for split in self.splits:
            split_dataset(self.cfg, split, with_labels=True)
