"""Stages at the end: the archive for the VOC server, and the table."""

import os.path as osp

from csrm_plugin.experiments.pipeline.stages.base import Stage, cfg_options, for_inference, inference_arguments


class ExportStage(Stage):
    """Predicts the test split and packs the archive for the VOC server."""

    def missing(self) -> str | None:
        path = self.run.data.list_of(self.options['split'])
        return None if osp.isfile(path) else f'there is no list {path}'

    def config(self) -> tuple[str, dict]:
        config, options = self.run.stage(self.options['model']).config()
        return config, for_inference(options)

    def commands(self) -> list[list[str]]:
        split, out = self.options['split'], self.path('predictions')
        arguments = inference_arguments(self.options) + (['--crf'] if self.options.get('crf') else [])
        config, options = self.config()
        checkpoint = self.run.checkpoint_of(self.options['model'])
        return [
            [
                'tools/pseudo_labels.py',
                config,
                checkpoint,
                '--out',
                out,
                '--split',
                split,
                '--source',
                'seg',
                '--unrestricted',
                *arguments,
                *cfg_options(options),
            ],
            [
                'tools/export_voc.py',
                out,
                '--split-file',
                self.run.data.list_of(split),
                '--out',
                self.path('results.tgz'),
                '--pictures',
                self.run.data.pictures,
            ],
        ]

    def outputs(self) -> list[str]:
        return ['results.tgz']


class TableStage(Stage):
    """Puts the scores of all stages into the paper's Table 2 for this run."""

    by_content = False

    def prepare(self) -> None:
        self.run.write_summary()

    def commands(self) -> list[list[str]]:
        return [['tools/report.py', self.run.folder, '--table', self.folder]]

    def outputs(self) -> list[str]:
        return ['table.md', 'table.json']
