"""The part of a report that is about a pipeline: its table, its stages, and what each cost."""

import os.path as osp

from csrm_plugin.report.page.layout import Section
from csrm_plugin.report.page.markup import Html, Ids
from csrm_plugin.report.paper.table_page import table_cards, table_section
from csrm_plugin.report.runs.sources import Group
from csrm_plugin.report.sections.stages import stage_cards, stage_sections


def pipeline_sections(ids: Ids, group: Group, several: bool) -> list[Section]:
    """Table, scores of the trainings, stages and their cost.

    Args:
        ids (Ids): Of the page.
        group (Group): With the cards of a pipeline.
        several (bool): Whether the page has other folders, so that headings name this one.
    """
    where = f' of {osp.basename(osp.abspath(group.folder))}' if several else ''
    return [table_section(group, where), *stage_sections(ids, group, where)]


def pipeline_cards(group: Group) -> list[Html]:
    """Key numbers: the best labels, the best network on labels, the time, the peak of memory."""
    return [*table_cards(group), *stage_cards(group)]
