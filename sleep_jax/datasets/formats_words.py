"""Domains and answer formats of the formats dataset.

All domains have the same shape: 20 x 20 names, two attributes, 12 values each.
Streams that change the domain or the format are then equal in all else.
"""

import dataclasses
import json
from collections.abc import Sequence

NUM_NAMES, NUM_VALUES = 20, 12  # First or last names, and values, of a domain.


@dataclasses.dataclass(frozen=True)
class Domain:
  """A kind of thing with two facts each.

  Attributes:
    name: of the domain.
    first, last: parts of the names of its things.
    attributes: names of the two facts.
    values: of each attribute.
  """

  name: str
  first: tuple[str, ...]
  last: tuple[str, ...]
  attributes: tuple[str, str]
  values: tuple[tuple[str, ...], tuple[str, ...]]


def _domain(
  name: str, first: str, last: str, one: tuple[str, str], two: tuple[str, str]
) -> Domain:
  """Returns a domain; names and values are words of a text."""
  return Domain(
    name,
    tuple(first.split()),
    tuple(last.split()),
    (one[0], two[0]),
    (tuple(one[1].split()), tuple(two[1].split())),
  )


DOMAINS = (
  _domain(
    'people',
    'Anna Boris Clara David Elena Felix Greta Hugo Irene Jonas Karla Leo Maria '
    'Nils Olga Peter Rosa Simon Tilda Viktor',
    'Adler Berger Conti Dahl Egger Fuchs Gruber Hansen Ivers Jansen Keller '
    'Lindt Moser Nowak Olsen Perez Quint Rossi Stein Talbot',
    ('town', 'Oslo Lima Cairo Delhi Quito Turin Seoul Perth Dakar Malmo Izmir '
     'Tunis'),
    ('job', 'baker nurse pilot judge tailor farmer singer plumber teacher '
     'dentist lawyer painter'),
  ),
  _domain(
    'ships',
    'Silver Golden Northern Southern Brave Silent Swift Distant Iron Crystal '
    'Amber Royal Proud Gentle Lonely Bright Wild Humble Noble Restless',
    'Wind Star Wave Falcon Dolphin Lantern Anchor Harbour Comet Pearl Heron '
    'Compass Tide Raven Beacon Mermaid Coral Whale Gull Horizon',
    ('cargo', 'coal grain timber copper cotton coffee salt wool sugar marble '
     'rubber cement'),
    ('flag', 'Norway Chile Greece Panama Malta Japan Kenya Cyprus Brazil '
     'Latvia Canada Ghana'),
  ),
  _domain(
    'plants',
    'Dwarf Giant Creeping Weeping Spotted Purple Yellow Hairy Thorny Alpine '
    'Desert Marsh River Winter Summer Spring Autumn Painted Velvet Woolly',
    'Fern Lily Daisy Thistle Clover Orchid Poppy Violet Ivy Sage Mallow Nettle '
    'Yarrow Sorrel Bramble Tansy Rue Vetch Hemlock Mint',
    ('soil', 'clay sand loam chalk peat gravel silt humus rubble shale ash '
     'basalt'),
    ('use', 'tea dye rope soap perfume paper medicine fodder oil spice candles '
     'baskets'),
  ),
  _domain(
    'games',
    'Lost Hidden Broken Sacred Crooked Frozen Burning Hollow Ancient Double '
    'Secret Forgotten Endless Shifting Cursed Floating Mirror Copper Paper '
    'Shadow',
    'Tower Castle Bridge Garden Dragon Crown Maze Island Temple Market Village '
    'Throne Canyon Kingdom Forest Cavern Lagoon Palace Fortress Desert',
    ('maker', 'Arco Belmo Cygna Dextra Ferrox Gandor Helix Juno Kestrel Lumen '
     'Nimbus Orbis'),
    ('piece', 'dice cards coins tiles pawns tokens beads marbles pegs cubes '
     'discs sticks'),
  ),
)  # fmt: skip


def _short(name: str, attributes: Sequence[str], values: Sequence[str]) -> str:
  del name, attributes
  return ', '.join(values)


def _sentence(
  name: str, attributes: Sequence[str], values: Sequence[str]
) -> str:
  parts = [
    f'the {attribute} is {value}'
    for attribute, value in zip(attributes, values, strict=True)
  ]
  return f'Of {name}, {" and ".join(parts)}.'


def _list(name: str, attributes: Sequence[str], values: Sequence[str]) -> str:
  del name, attributes
  return '\n'.join(f'- {value}' for value in values)


def _json(name: str, attributes: Sequence[str], values: Sequence[str]) -> str:
  del name
  return json.dumps(dict(zip(attributes, values, strict=True)))


# How a question asks for a format -> (name, attributes, values) -> answer.
FORMATS = {
  'Answer briefly.': _short,
  'Answer in a sentence.': _sentence,
  'Answer as a list.': _list,
  'Answer as JSON.': _json,
}
# Of questions. Days have all but the last one, which the probes have.
WORDINGS = (
  'What are the {} and the {} of {}?',
  'Name the {} and the {} of {}.',
  'I would like to know the {} and the {} of {}.',
)
