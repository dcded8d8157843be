"""Runs the console command: python -m sleep_jax COMMAND."""

import runpy

if __name__ == '__main__':
  runpy.run_module('sleep_jax.cli', run_name='__main__')
