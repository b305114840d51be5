"""What the processes of test_work do: by a module that they can import, which a test module is not."""

import os
import signal
import time


def square(number):
    return number * number


def fail_at_three(number):
    if number == 3:
        raise ValueError("three is wrong")
    return number


def none_at_three(number):
    return None if number == 3 else number


def be_killed(number):
    os.kill(os.getpid(), signal.SIGKILL)


def process_id(number):
    return os.getpid()


def slow_process_id(number):
    time.sleep(0.05)
    return os.getpid()
