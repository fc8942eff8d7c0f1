"""Work chains that run in this process: it may be interrupted at any moment, and another one goes on from there.

Every process is saved in the database after each of its steps, as those of the daemon are. An interruption ends none of them: the
programs on the compute machines are stopped, and all processes stay as they were last saved. Whoever goes on loads them all; jobs
whose program was stopped are begun again. That a disk is full, or a database gone, is an interruption, too.
"""
