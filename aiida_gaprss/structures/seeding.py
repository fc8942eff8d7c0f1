"""Seeds of random numbers, all derived from one."""

from __future__ import annotations

import numpy as np


def stage_seed(seed: int, generation: int, stage: str) -> int:
    """Return the seed of one stage, derived from the campaign's seed: positive and below 2³¹, as gap_fit needs."""
    name = [ord(letter) for letter in stage]
    return int(np.random.SeedSequence([seed, generation, *name]).generate_state(1)[0] % (2**31 - 2)) + 1
