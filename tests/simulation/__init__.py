"""The storage code on a simulated disk: power cuts, failing operations and kills by the thousand, from seeds.

    disk.py        the disk: what is in the page cache, what is on the platter, what may be left after a cut
    database.py    the disk as SQLite sees it (a VFS), and as the session files see it (a `Disk`)
    machine.py     one process on that disk: the real stores, driven as the daemon drives them
    workload.py    what the processes are asked to do, from a seed
    model.py       what was acknowledged, and so must be there
    judge.py       compares what is there with the model; imports nothing of the project
    suites.py      the experiments, and what they count
    __main__.py    the soak: `python -m tests.simulation --factor 100`

The one rule: the storage code runs unchanged, and whatever fails is told with the seed and the operation that
make it fail again.
"""
