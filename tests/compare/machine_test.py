"""What is free on a machine, from files like those of the kernel."""

from sleep_jax.compare import machine

GIB = 2**30


def test_a_job_fits_if_the_peaks_of_all_jobs_do():
  assert machine.fits(4 * GIB, 2 * GIB, [])
  # Half a gigabyte of the running job is still to come.
  assert machine.fits(4 * GIB, 2 * GIB, [int(1.5 * GIB)])
  assert not machine.fits(2 * GIB, 2 * GIB, [int(1.5 * GIB)])
  assert machine.fits(2 * GIB, 2 * GIB, [2 * GIB, 3 * GIB])


def test_memory_is_what_system_and_control_group_have_left(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(machine, '_PROC', tmp_path)
  monkeypatch.setattr(machine, '_CGROUP', tmp_path)
  (tmp_path / 'meminfo').write_text('MemTotal: 9 kB\nMemAvailable: 2048 kB\n')
  assert machine.free_bytes() == 2 * 2**20
  (tmp_path / 'memory.max').write_text(f'{2**20}\n')
  (tmp_path / 'memory.current').write_text(f'{2**19}\n')
  (tmp_path / 'memory.stat').write_text('anon 5\ninactive_file 1000\n')
  assert machine.free_bytes() == 2**19 + 1000
  (tmp_path / 'memory.max').write_text('max\n')
  assert machine.free_bytes() == 2 * 2**20


def test_a_core_that_others_use_is_not_free(monkeypatch):
  ticks = [{0: (0, 0), 1: (0, 0), 2: (0, 0)}, {0: (90, 100), 1: (20, 100),
           2: (60, 100)}]  # fmt: skip
  monkeypatch.setattr(machine, '_idle_ticks', lambda: ticks.pop(0))
  monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda _: {0, 1, 2})
  assert machine.free_cores(0) == [0, 2]


def test_on_a_busy_machine_the_least_busy_core_is_used(monkeypatch):
  ticks = [{0: (0, 0), 1: (0, 0)}, {0: (10, 100), 1: (20, 100)}]
  monkeypatch.setattr(machine, '_idle_ticks', lambda: ticks.pop(0))
  monkeypatch.setattr(machine.os, 'sched_getaffinity', lambda _: {0, 1})
  assert machine.free_cores(0) == [1]


def test_each_gpu_is_a_slot(monkeypatch):
  monkeypatch.setattr(machine, '_backend', lambda: ('gpu', 2))
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
  found = machine.slots()
  assert [slot.env['CUDA_VISIBLE_DEVICES'] for slot in found] == ['3', '5']
  assert len(machine.slots(1)) == 1
