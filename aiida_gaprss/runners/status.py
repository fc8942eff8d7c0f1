"""What a job says of a frame, in the words that scripts, parsers and work chains share (uploaded with the job)."""

from __future__ import annotations

#: How the status begins of frames that a job has not come to.
NOT_REACHED_WORD = "not reached"
#: The status of frames that a job had no time for.
NOT_REACHED = f"{NOT_REACHED_WORD}: the job ended before"
#: That of frames which were stopped in the middle.
STOPPED = f"{NOT_REACHED_WORD}: stopped when the time of the job was up"
#: That of frames whose relaxation the end of a job's time cut off.
TIME_LIMIT = "time_limit"

#: How a relaxation ends, and why one is given up.
ON_THE_WAY, CONVERGED, MAX_STEPS, STALLED = "on_the_way", "converged", "max_steps", "stalled"
COLLAPSED, EXPLODED, EVAPORATED, NOT_FINITE = "collapsed", "exploded", "evaporated", "not_finite"
#: One that was stopped where the potential is not sure of itself; its last frame is there.
UNSURE = "unsure"
ENDED = (CONVERGED, MAX_STEPS, STALLED)
#: … with a last step; of those that are given up, there may be none.
ENDS = (*ENDED, TIME_LIMIT)
GIVEN_UP = (COLLAPSED, EXPLODED, EVAPORATED, NOT_FINITE, UNSURE)

#: How a trajectory ends that comes to its end; it may be given up, or cut off by the time limit, as a relaxation.
FINISHED = "finished"
#: That of a trajectory whose calculator raised an error on the way: what came before is there.
CALCULATOR_FAILED = "calculator_failed"
#: That of a trajectory whose program, and whoever tried to go on, came no further.
INTERRUPTED = "interrupted"
#: A path whose two ends have relaxed to the same structure.
MERGED = "merged"
