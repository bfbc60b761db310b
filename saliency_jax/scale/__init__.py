"""From one image to a data set on many devices: computed in chunks, stored as they come, resumable.

`attribute` takes one method over a data set, `top_examples` finds what excites the channels of a
layer most, `compute` takes any function over any points; `open` reads what they stored. A run goes
on from where it was interrupted, by kill -9, a full disk or a lost machine: the same call, on any
number of devices and processes, computes what is missing or damaged, to the same bits.

What means the same everywhere here:

  output: a folder, or the address of one that TensorStore knows: gs://BUCKET/PATH, s3://BUCKET/PATH.
    It is a group of zarr arrays, version 3, compressed, with checksums: a column each, its
    rows in the order of the points. A folder is one run's at a time; a bucket is not guarded.
  batch_size: how many points a device maps at once, and how many rows a chunk of the output has,
    at least 1. Every device runs the same program on chunks of its own, so the values do not
    depend on the number of devices; they may, in the last bits, on the batch_size.
  devices: on which to compute; if None those of the mesh that is set, or else all of all processes.
    On a CPU with several cores the setting `JAX_NUM_CPU_DEVICES` makes each a device. Of a chunk
    nothing more is shared out: methods do what they do in chunks of their own on one device.
    An array (n, m) of devices is for models that are too wide for one: n batches at once, each on m
    devices of one process, which hold a part of every kernel's output channels. XLA shares out the
    work on them and may round sums otherwise, so that such a run continues with the same m only.
  progress: called with the number of rows done and of all rows, first with what an earlier run has
    done; `report()` makes one that shows a bar, or writes a line a minute.

Several processes: each calls `jax.distributed.initialize`, then the same function with the same
arguments on an output that all of them reach. The first claims it; each computes and writes its
share. When one is lost JAX ends the others, and the same command continues.
"""

# The order is the order of teaching, which sorting would undo.
# ruff: noqa: I001

from ._attribute import attribute as attribute
from ._attribute import true_label as true_label
from ._attribute import predicted_label as predicted_label
from ._attribute import top_labels as top_labels
from ._attribute import Labels as Labels
from ._attribute import STATUS as STATUS
from ._store import open as open
from ._store import Stored as Stored
from ._store import Column as Column
from ._progress import report as report
from ._compute import compute as compute
from ._top_examples import top_examples as top_examples
from ._top_examples import TopExamples as TopExamples
from ._top_examples import activations as activations
from ._top_examples import relevances as relevances
from ._top_examples import receptive_field as receptive_field
