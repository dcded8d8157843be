"""Tests of the intents dataset: classes, candidate labels, probes, tuning."""

import gzip
import json

import pytest

from sleep_jax.datasets import intents

SMALL = dict(
  pretrain_classes=4, num_days=2, classes_per_day=2, texts_per_class=3
)


def write(path, rows):
  with gzip.open(path, 'wt') as file:
    file.writelines(json.dumps(row) + '\n' for row in rows)


@pytest.fixture
def folder(tmp_path):
  for split, count in (('train', 5), ('val', 8), ('test', 6)):
    write(
      tmp_path / f'{split}.jsonl.gz',
      [
        {'text': f'{split} {i} of {label}', 'label': f'class_{label}'}
        for i in range(count)
        for label in range(9)
      ],
    )
  return str(tmp_path)


def labels(rows):
  return {row.text[row.response_start :] for row in rows}


def test_rows_end_in_the_text_of_their_label(folder):
  row = intents.make(path=folder, **SMALL).pretrain[0]
  label = row.text[row.response_start :]
  assert row.text == f'Text: train 0 of {label[-1]}\nLabel:{label}'
  assert label.startswith(' class ')
  assert 'train.jsonl.gz:' in row.where


def test_each_class_occurs_in_one_experience_only(folder):
  dataset = intents.make(path=folder, **SMALL)
  groups = [labels(dataset.pretrain)] + [
    labels(rows) for _, rows in dataset.experiences
  ]
  assert [len(group) for group in groups] == [4, 2, 2]
  assert len(set.union(*groups)) == 8
  for since, group in enumerate(groups):
    assert {
      text for text, taught in dataset.candidates['label'] if taught == since
    } == group


def test_probes_are_test_texts_of_their_classes(folder):
  dataset = intents.make(path=folder, **SMALL)
  assert {key: len(group) for key, group in dataset.probes.items()} == {
    'pretrain': 12,
    '1': 6,
    '2': 6,
  }
  for key, (_, rows) in zip('12', dataset.experiences, strict=True):
    assert {probe.answer for probe in dataset.probes[key]} == labels(rows)
  assert all('test' in p.prompt for p in dataset.probes['pretrain'])
  assert all('val' in p.prompt for p in dataset.guard)
  assert all('val' in row.text for row in dataset.held_out)
  assert dataset == intents.make(path=folder, **SMALL)
  assert dataset.score == 'rank' and dataset.templates == []


def test_a_tuning_stream_keeps_pretraining_and_never_uses_test(folder):
  dataset = intents.make(path=folder, **SMALL)
  streams = [
    intents.make(path=folder, **SMALL, stream_seed=seed) for seed in range(3)
  ]
  assert any(
    labels(stream.experiences[0][1]) != labels(dataset.experiences[0][1])
    for stream in streams
  )
  for stream in streams:
    assert (
      stream.pretrain == dataset.pretrain
      and stream.held_out == dataset.held_out
    )
    probes = [p for group in stream.probes.values() for p in group]
    assert all('val' in probe.prompt for probe in probes + stream.guard)
    scored = {probe.prompt for probe in stream.probes['pretrain']}
    assert not scored & {probe.prompt for probe in stream.guard}


def test_a_missing_path_names_the_dataset_and_the_flag(tmp_path):
  for path in (None, ''):
    with pytest.raises(ValueError, match='CLINC150.*--config.data.path'):
      intents.make(path=path)
  with pytest.raises(FileNotFoundError, match='no train.jsonl.*Larson'):
    intents.make(path=str(tmp_path))


def test_broken_lines_and_missing_labels_are_named_in_the_error(
  folder, tmp_path
):
  write(tmp_path / 'val.jsonl.gz', [{'text': 'x', 'label': 'a'}, {'text': 'y'}])
  with pytest.raises(ValueError, match="val.jsonl.gz:2.*'label'"):
    intents.make(path=folder, **SMALL)
  write(tmp_path / 'val.jsonl.gz', [])
  with pytest.raises(ValueError, match='val.jsonl.gz holds no rows'):
    intents.make(path=folder, **SMALL)


def test_too_many_classes_and_classes_without_probes_are_refused(
  folder, tmp_path
):
  with pytest.raises(ValueError, match='need 10 classes.* has 9'):
    intents.make(path=folder, **(SMALL | dict(num_days=3)))
  with pytest.raises(ValueError, match='num_days 0'):
    intents.make(path=folder, **(SMALL | dict(num_days=0)))
  write(tmp_path / 'test.jsonl.gz', [{'text': 'x', 'label': 'class_0'}])
  with pytest.raises(ValueError, match="label 'class_.* no text.*test"):
    intents.make(path=folder, **SMALL)
