"""Seconds of the clock and peak memory of one call, on the device at hand."""

import time
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def timed(step: Callable[[], None]) -> float:
    synchronise()
    started = time.perf_counter()
    step()
    synchronise()
    return time.perf_counter() - started


def peak_memory(step: Callable[[], None]) -> int:
    """The most bytes that are allocated at once in a step, beyond those that were before."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def synchronise() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
