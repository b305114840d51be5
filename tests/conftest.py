"""Under pytest-xdist each process has one thread: two processes of two threads on two cores wait for one another."""

import os


if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the programs that tests start
