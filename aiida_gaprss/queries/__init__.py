"""What the profile knows: frames over all datasets, what a potential rests on, which potentials saw a frame.

Nothing is changed and nothing is stored. How to ask with AiiDA's ``QueryBuilder`` directly: ``docs/queries.md``.
"""

from aiida_gaprss.queries.frames import FoundFrame, QueryError, datasets_with, find_frames
from aiida_gaprss.queries.potentials import Behind, Saw, calculations_behind, potentials_that_saw

__all__ = [
    "Behind",
    "FoundFrame",
    "QueryError",
    "Saw",
    "calculations_behind",
    "datasets_with",
    "find_frames",
    "potentials_that_saw",
]
