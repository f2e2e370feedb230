"""A run as a report sees it: its record, its log and its card put together."""

from dataclasses import dataclass, field

from csrm_plugin.tracking.record import RunRecord


@dataclass
class Run:
    """A run as the report sees it.

    Attributes:
        label (str): Short, unique in the report.
        record (RunRecord): What its work directory tells.
        card (dict): Card of the pipeline's stage that it belongs to, or empty.
        tests (list[tuple[str, dict]]): Names and contents of files of ``tools/test.py --json`` beside the run.
        style (int): Number in the report, which decides on its colour.
    """

    label: str
    record: RunRecord
    card: dict = field(default_factory=dict)
    tests: list = field(default_factory=list)
    style: int = 0

    @property
    def folder(self) -> str:
        """The work directory."""
        return self.record.folder

    @property
    def info(self) -> dict:
        """``run.json``, or what the card of the stage tells of it."""
        if self.record.run:
            return self.record.run
        if not self.card:
            return {}
        config = self.card.get('config') or {}
        known = dict(config=config.get('file'), settings=config.get('settings') or {}, seed=self.card.get('seed'))
        return {**known, **{key: self.card[key] for key in ('versions', 'git') if self.card.get(key)}}

    @property
    def settings(self) -> dict:
        """All settings, flat; empty where none were recorded."""
        return self.info.get('settings') or {}

    @property
    def seed(self) -> int | None:
        """Seed of the training, or None."""
        seed = self.info.get('seed')
        return self.settings.get('randomness.seed') if seed is None else seed

    @property
    def seed_text(self) -> str:
        """The seed, or ``not recorded``."""
        return 'not recorded' if self.seed is None else str(self.seed)

    @property
    def validations(self) -> list[dict]:
        """Every validation: ``iteration``, ``metrics``, ``parts``, ``context``; from the record, else from the log."""
        found = {line['step']: dict(iteration=line['step'], metrics=line) for line in self.record.val}
        found |= {item.get('iteration', 0): item for item in self.record.validations}
        parts = ('metrics', 'parts', 'context')
        return [{**found[step], **{key: found[step].get(key) or {} for key in parts}} for step in sorted(found)]

    @property
    def iteration(self) -> int:
        """The last iteration that is known."""
        steps = [line['step'] for line in (*self.record.train, *self.record.val)]
        return max([*steps, self.info.get('iteration') or 0], default=0)
