"""A campaign as plain data, and as a page, tables and figures. No AiiDA."""

from aiida_gaprss.report.record import CampaignRecord, Counts, Failure, GenerationRecord
from aiida_gaprss.report.write import write_report

__all__ = ["CampaignRecord", "Counts", "Failure", "GenerationRecord", "write_report"]
