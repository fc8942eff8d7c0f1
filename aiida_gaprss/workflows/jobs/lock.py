"""One process of a profile at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone() -> Iterator[None]:
    """Keep all other processes of this profile out: extras are written all at once, and what another writes would be lost."""
    from aiida.manage.configuration import get_config, get_profile

    profile = get_profile()
    assert profile is not None
    with (Path(get_config().dirpath) / f"gaprss-{profile.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
