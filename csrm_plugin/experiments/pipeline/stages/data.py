"""The first stage: the data are there, and right."""

from csrm_plugin.experiments.pipeline.stages.base import Stage


class DataStage(Stage):
    """Draws synthetic data where there is none, and checks pictures, masks, labels and lists."""

    def config(self) -> tuple[str, dict]:
        return self.options['config'], {}

    def reads(self, key: str) -> bool:
        return '_dataloader.dataset.' in key and '.pipeline.' not in key

    def commands(self) -> list[list[str]]:
        # Masks are looked for where they are scored; a larger training split need not have any.
        return [['tools/prepare_data.py', 'check', '--root', self.run.data.root, '--splits', *self.run.recipe.splits]]

    def finish(self) -> dict:
        return dict(context=dict(splits={split: self.run.data.count(split) for split in self.run.data.splits}))
