"""Commands of the tests are forked, also where a library that a test imported has set variables for OpenMP."""

from __future__ import annotations

import os
import subprocess

from tests.warm import environment, warm


def test_a_command_is_forked_and_not_begun_anew() -> None:
    """A new interpreter would be as right, and take seconds more in each of hundreds of tests."""
    set_by_libraries = {"KMP_DUPLICATE_LIB_OK": "True", "KMP_INIT_AT_FORK": "FALSE"}  # scipy.io, scikit-learn
    command = warm().command("-c", "import os, sys; print(os.getppid(), 'torch' in sys.modules)")
    done = subprocess.run(
        command, env=environment() | set_by_libraries, capture_output=True, text=True, check=True
    )
    parent, torch = done.stdout.split()
    assert torch == "True" and int(parent) != os.getpid()


def test_what_an_interpreter_reads_at_its_start_makes_a_new_one() -> None:
    """The number of threads, say, cannot be changed in a fork."""
    command = warm().command("-c", "import sys; print('torch' in sys.modules)")
    done = subprocess.run(
        command, env=environment() | {"OMP_NUM_THREADS": "3"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
