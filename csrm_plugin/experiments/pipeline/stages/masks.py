"""Stages of the refinement with masks: proposals, and their merging with labels (SEPL)."""

import os
import os.path as osp

from csrm_plugin.experiments.pipeline.stages.base import Stage


class MasksStage(Stage):
    """Makes mask proposals for every split, with SAM or with superpixels."""

    def generator(self) -> str:
        """Checkpoint of SAM, or ``superpixels``; ``$NAME`` in the pipeline is an environment variable."""
        value = self.options['generator']
        return os.environ.get(value[1:], '') if value.startswith('$') else value

    def missing(self) -> str | None:
        if not self.generator():
            return f'{self.options["generator"]} is not set to a SAM checkpoint'
        return None

    def masks_of(self, split: str) -> str:
        """Folder of the masks of a split."""
        return osp.join(self.folder, self.run.recipe.label_splits.get(split, split))

    def settings(self) -> dict:
        # Weights count by what they are, not by where they lie.
        generator = self.generator()
        weights = self.run.memory.content(generator) if osp.exists(generator) else None
        return dict(options=self.options.get('options', []), generator=osp.basename(generator), weights=weights)

    def commands(self) -> list[list[str]]:
        data = self.run.data
        return [
            [
                'tools/sam_masks.py',
                self.generator(),
                data.pictures,
                '--out',
                self.masks_of(split),
                '--split-file',
                data.list_of(split),
                '--suffix',
                data.suffix,
                *self.options.get('options', []),
            ]
            for split in self.run.recipe.label_splits.values()
        ]

    def outputs(self) -> list[str]:
        return [osp.relpath(self.masks_of(split), self.folder) for split in self.run.recipe.splits]

    def finish(self) -> dict:
        return dict(context=dict(masks=osp.basename(self.generator())))


class SEPLStage(Stage):
    """Merges labels with mask proposals."""

    def labels_of(self, split: str, crf: bool = False) -> str:
        """Folder of the label maps of a split."""
        return osp.join(self.folder, 'labels', self.run.recipe.label_splits.get(split, split))

    def missing(self) -> str | None:
        return self.run.stage(self.options['masks']).missing()

    def commands(self) -> list[list[str]]:
        data = self.run.data
        labels, masks = self.run.stage(self.options['labels']), self.run.stage(self.options['masks'])
        made = [
            [
                'tools/refine_sam.py',
                labels.labels_of(split),
                masks.masks_of(split),
                '--out',
                self.labels_of(split),
                '--split-file',
                data.list_of(split),
            ]
            for split in self.run.recipe.label_splits.values()
        ]
        splits = self.run.recipe.splits
        return made + [self.evaluate_command(split, self.labels_of(split), 'scores') for split in splits]

    def outputs(self) -> list[str]:
        return [osp.relpath(self.labels_of(split), self.folder) for split in self.run.recipe.splits]

    def finish(self) -> dict:
        return self.label_scores()
