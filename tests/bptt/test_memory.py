"""Memory that the next call takes again: never while anybody holds a tensor over it, bounded, and let go of."""

import gc
import threading
import time

import pytest
import torch
from torch import nn

from rnnvg.bptt import memory
from rnnvg.bptt.cells import Buffers
from rnnvg.bptt.linearize import linearize
from rnnvg.bptt.stack import ModuleLinearization

LIKE = torch.empty(0)
SIZE = memory.LEAST_BYTES // 4


def test_a_block_comes_back_when_the_last_view_of_it_is_gone():
    pool = memory.Pool(idle_seconds=60)
    first = pool.empty(LIKE, 2 * SIZE)
    address, view = first.data_ptr(), first.view(-1, 4)[3:, 1]
    view.fill_(7.0)
    del first
    second = pool.empty(LIKE, 2 * SIZE)
    assert second.data_ptr() != address
    assert pool.unused_bytes() == 0
    second.zero_()
    assert bool((view == 7).all())
    del view
    assert pool.unused_bytes() == 2 * memory.LEAST_BYTES
    assert pool.empty(LIKE, 2 * SIZE - 5).data_ptr() == address


def test_a_block_held_by_a_graph_alone_is_in_use():
    pool = memory.Pool(idle_seconds=60)
    held = pool.empty(LIKE, SIZE).fill_(3.0)
    weight = torch.ones((), requires_grad=True)
    loss = (held * weight).sum()
    del held
    pool.empty(LIKE, SIZE).zero_()
    loss.backward()
    assert weight.grad is not None
    assert weight.grad.item() == 3 * SIZE


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_dtypes_share_blocks(dtype):
    pool = memory.Pool(idle_seconds=60)
    found = pool.empty(torch.empty(0, dtype=dtype), SIZE)
    assert (found.dtype, found.shape) == (dtype, (SIZE,))
    assert found.is_contiguous()
    assert found.data_ptr() % 64 == 0
    n_bytes = found.element_size() * SIZE
    del found
    assert pool.unused_bytes() == n_bytes


def test_small_tensors_and_other_devices_are_torchs_own():
    pool = memory.Pool(idle_seconds=60)
    assert pool.empty(LIKE, 10).shape == (10,)
    assert pool.empty(torch.empty(0, device="meta"), SIZE).device.type == "meta"
    gc.collect()
    assert pool.unused_bytes() == 0


def test_what_lies_unused_is_bounded():
    pool = memory.Pool(most_bytes=3 * memory.LEAST_BYTES, idle_seconds=60)
    several = [pool.empty(LIKE, SIZE) for _ in range(5)]
    latest = [each.data_ptr() for each in several[2:]]
    while several:
        del several[0]
    assert pool.unused_bytes() == 3 * memory.LEAST_BYTES
    assert pool.empty(LIKE, SIZE).data_ptr() in latest
    pool.clear()
    assert pool.unused_bytes() == 0


def test_a_block_that_is_far_too_large_is_left_alone():
    pool = memory.Pool(idle_seconds=60)
    address = pool.empty(LIKE, 3 * SIZE).data_ptr()
    assert pool.empty(LIKE, SIZE).data_ptr() != address


def test_what_is_idle_is_given_back_and_the_thread_ends():
    pool = memory.Pool(idle_seconds=0.02)
    del [pool.empty(LIKE, SIZE)][:]
    until = time.monotonic() + 20
    while (pool._free or pool._back or pool._sweeper is not None) and time.monotonic() < until:
        time.sleep(0.01)
    assert pool._sweeper is None
    assert pool.unused_bytes() == 0


def test_threads_never_share_a_block():
    pool, wrong = memory.Pool(idle_seconds=0.01), []

    def work(number: int) -> None:
        for _ in range(60):
            mine = pool.empty(LIKE, SIZE)[:1000].fill_(number)
            time.sleep(0)
            if not bool((mine == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_a_forked_child_does_not_wait_for_a_lock_that_another_thread_held():
    pool = memory.Pool(idle_seconds=60)
    pool._lock.acquire()
    pool.after_fork()
    assert pool.empty(LIKE, SIZE).shape == (SIZE,)


def trajectory(module: nn.LSTM, inputs: torch.Tensor) -> ModuleLinearization:
    found = linearize(module, inputs)
    assert isinstance(found, ModuleLinearization)
    return found


def test_a_trajectory_that_is_held_stays_what_it_was():
    module, inputs = nn.LSTM(16, 64), torch.randn(2, 600, 32, 16)
    assert memory.LEAST_BYTES <= 600 * 32 * 64 * 4  # each of its tensors comes from the pool
    first = trajectory(module, inputs[0]).outputs()
    expected, address = first.clone(), first.data_ptr()
    second = trajectory(module, inputs[1]).outputs()
    assert second.data_ptr() != address
    assert torch.equal(first, expected)
    assert torch.allclose(first, module(inputs[0])[0], atol=1e-5)


def test_buffers_take_their_memory_again():
    memory.clear()
    address = Buffers()("z", LIKE, SIZE).data_ptr()
    assert Buffers()("z", LIKE, SIZE).data_ptr() == address
