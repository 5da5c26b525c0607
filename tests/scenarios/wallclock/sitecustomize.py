"""Moves the wall clock of an interpreter, and of the interpreters it starts, by what a shared file says, at once and at any time.

Put on ``PYTHONPATH`` by ``tests.scenarios.test_clock``: Python imports it before anything else. Every reading of
the wall clock from Python goes through what is replaced here; monotonic time is left alone, as a step of the real clock does.
The service starts its fork server isolated from the environment, so that one is told in its first line.
"""

import ctypes
import datetime
import gc
import mmap
import os
import subprocess
import sys
import time

FILE = os.environ["SCENARIO_WALL_CLOCK"]

with open(FILE, "r+b") as _file:
    _shared = mmap.mmap(_file.fileno(), 8)  # forks share it


def ahead_us():
    """How far the clock is ahead, in microseconds."""
    return int.from_bytes(_shared[:8], "little", signed=True)


_time, _time_ns, _clock_gettime, _clock_gettime_ns = time.time, time.time_ns, time.clock_gettime, time.clock_gettime_ns
_now = datetime.datetime.now


def _moved_clock_gettime(clock):
    return _clock_gettime(clock) + (ahead_us() / 1e6 if clock == time.CLOCK_REALTIME else 0)


def _moved_clock_gettime_ns(clock):
    return _clock_gettime_ns(clock) + (ahead_us() * 1000 if clock == time.CLOCK_REALTIME else 0)


def _moved_now(cls, tz=None):
    return _now(tz) + datetime.timedelta(microseconds=ahead_us())


time.time = lambda: _time() + ahead_us() / 1e6
time.time_ns = lambda: _time_ns() + ahead_us() * 1000
time.clock_gettime = _moved_clock_gettime
time.clock_gettime_ns = _moved_clock_gettime_ns

_methods = gc.get_referents(datetime.datetime.__dict__)[0]  # a type written in C has no other door
_methods["now"] = classmethod(_moved_now)
_methods["today"] = classmethod(_moved_now)
_methods["utcnow"] = classmethod(lambda cls: _moved_now(cls, datetime.UTC).replace(tzinfo=None))
ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))

_TOLD = f"""
import os
os.environ["SCENARIO_WALL_CLOCK"] = {FILE!r}
exec(open({__file__!r}).read(), {{"__file__": {__file__!r}}})
"""
_popen = subprocess.Popen.__init__


def _moving_popen(self, args, *more, **named):
    if isinstance(args, list) and args[0] == sys.executable and "-I" in args and "-c" in args:
        code = args.index("-c") + 1
        args = [*args[:code], _TOLD + args[code], *args[code + 1 :]]
    _popen(self, args, *more, **named)


subprocess.Popen.__init__ = _moving_popen
