"""Train a ResNet, by standard or adversarial training, on any TFDS image-classification set.

  python experiments/train.py --output runs/standard --label-smoothing 0.1 --epochs 24
  python experiments/train.py --output runs/robust --label-smoothing 0.1 --epochs 24 --norm l2
  python experiments/train.py --output runs/digits --dataset mnist
  python experiments/train.py --output runs/mine --dataset ./pictures --image-size 64

The first two trained the bundled pair; their cards, `card.md` in `saliency_jax/models/bundled/*/`,
say how long that took and how good they are, and `evaluate.py` measures it again.
Splits, image size, channels, normalization, stem and mirroring follow the data where no flag says
otherwise; epsilon does not, and 0.5 is usual at 32x32. The same command again continues an
interrupted run, and ends with the same weights as one that was never interrupted. The folder then
holds `model/` (for `models.load`), `card.md`, `evaluation.json`, `log.csv` and `curves.png`. The
weights kept are those with the best accuracy on the held-out split:
under the training attack with five steps for adversarial training, clean for standard training.
A run whose held-out accuracy collapses stops there, also when its command is given again. The last
evaluation attacks by two losses, as `evaluate.py` says.
"""

import csv
import dataclasses
import datetime
import functools
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import matplotlib
import numpy as np
import optax
import tqdm
from flax import nnx
from lab import robustness
from matplotlib import pyplot

from saliency_jax import data, models, runs, signals, training
from saliency_jax.signals import radio, sound

Stem = Literal["imagenet", "small", "halving"]
STEMS = {
    "imagenet": models.IMAGENET_STEM,
    "small": models.SMALL_IMAGE_STEM,
    "halving": models.HALVING_STEM,
}
# The stem for images whose smaller side is at least this: He et al. 2015, section 4.2, keep the
# resolution of 32x32 images; halving that of 64x64 images at once saves three quarters of the time.
STEM_SIDES: dict[Stem, int] = {"imagenet": 112, "halving": 48, "small": 1}
# Channels of the stages of a network for signals, in units of the width.
SIGNAL_WIDTHS = (1.0, 1.5, 2.0)
# Height and width of images that differ in theirs, as of ImageNet since Krizhevsky et al. 2012.
USUAL_SIZE = 224
# What the weights are rounded to on disk.
STORED = np.float16
# Of the attack on held-out images during adversarial training.
HOLDOUT_STEPS = 5
# A number in the log.
WRITTEN = "{:.6g}"
# A fall this deep in held-out robust accuracy is catastrophic overfitting (Wong et al. 2020).
COLLAPSE = 0.2


class LogRow(NamedTuple):
    """Means over the steps since the last row; held-out accuracy is nan where not measured."""

    step: float
    epoch: float
    loss: float
    accuracy: float
    holdout_accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Settings:
    output: Path
    """Folder of the run; an existing one is continued if its settings are the same."""
    dataset: str = "tiny_imagenet/paper20"
    """A TFDS name, or a path that begins with "." or "/": a folder PATH/SPLIT/CLASS/*.jpg."""
    train_split: str | None = None
    """90 % of the split train if none, 80 % where there is no other split."""
    holdout_split: str | None = None
    """The 10 % of the split train after those if none."""
    test_split: str | None = None
    """If none validation, else test, else the last 10 % of train."""
    image_size: int | None = None
    """Height and width that images are fitted to; if none theirs, 224 where they differ in size."""
    depth: int = 18
    width: int = 32
    stem: Stem | None = None
    """If none small for images below 48x48, halving below 112x112, else imagenet."""
    even: bool = True
    """Kernels that reach every pixel equally often where the stride is 2."""
    norm: Literal["none", "l2", "linf"] = "none"
    """Ball of adversarial training; none is standard training."""
    epsilon: float = 1.0
    """Radius of the ball, in units of [0, 1]."""
    attack_steps: int = 2
    """PGD steps from a random start; 1 is FGSM with a random start."""
    attack_step_size: float | None = None
    """Norm of an attack step; epsilon if none (1.25 epsilon for a single step)."""
    epochs: int = 15
    batch_size: int = 128
    learning_rate: float = 0.2
    """Peak of the one-cycle schedule."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    average_decay: float = 0.995
    """What the average of the weights keeps of itself each step; 0 for no average."""
    augment: bool = True
    """Shifts, zooms and lighting, of radio signals turns of the phase; off for images that these
    would falsify."""
    mirror: bool | None = None
    """Whether these include flips; if none, unless the dataset is known to be of characters."""
    seed: int = 0
    evaluate_every: int = 2
    """Epochs between held-out evaluations."""
    checkpoint_every: int = 25
    """Steps between checkpoints."""
    test_epsilons: tuple[float, ...] = (0.5, 1.0, 2.0)
    """L2 radii of the final evaluation."""
    test_attack_steps: int = 50
    test_restarts: int = 3
    data_dir: Path | None = None
    """Folder of prepared TFDS sets; TFDS's default if none."""


def main(asked: Settings) -> None:
    matplotlib.use("agg")
    info = data.describe(asked.dataset, data_dir=asked.data_dir)
    settings = follow(asked, info)
    load: Callable = functools.partial(
        data.load,
        settings.dataset,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        data_dir=settings.data_dir,
    )
    size = _first_batches(settings, load)["image"].shape[1:3]
    config = dataclasses.asdict(settings) | {"output": None}
    with runs.claim(settings.output, config, kind="training run"):
        if info.mean is None or info.std is None:
            mean, std = channel_statistics(load(split=settings.train_split))
            info = dataclasses.replace(info, mean=mean, std=std)
        network = MODALITIES[info.kind].network(settings, info, nnx.Rngs(settings.seed))
        graphdef = training.split(network)[0]
        state, log = _trained(settings, info, network, load)
        _draw(log, settings.output / "curves.png")
        folder = settings.output / "model"
        if not folder.exists():
            params = jax.tree.map(
                lambda leaf: leaf.astype(STORED).astype(leaf.dtype), state.best.params
            )
            best = nnx.merge(graphdef, params, state.best.batch_stats)
            steps_per_epoch = len(load(split=settings.train_split))
            measured, count = _evaluate(settings, best, load(split=settings.test_split))
            evaluation = {
                "images": count,
                "accuracy": measured,
                "holdout_accuracy": float(state.best.accuracy),
                "best_epoch": int(state.best.step) / steps_per_epoch,
                "training_minutes": sum(row.seconds for row in log) / 60,
            }
            _write(settings.output / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")
            taken = models.Input(
                info.kind,  # type: ignore[arg-type]
                tuple(size),
                channels=network.channels,
                sample_rate=info.sample_rate,
                mean=info.mean or (),
                std=info.std or (),
            )
            classifier = models.Classifier(
                "model",
                best,
                taken,
                tuple(info.class_names),
                robustness.stated(measured, _attacks_of_evaluation(settings)),
                _record(asked, settings, info, best, evaluation),
            )
            models.save(classifier, folder, dtype=STORED)
        card = models.card(models.load(folder))
        _write(settings.output / "card.md", card)
    print(card)
    print(f"model, card and curves are in {settings.output.resolve()}")


def _trained(
    settings: Settings, info: data.Description, network: models.Network, load: Callable
) -> tuple[training.TrainState, list[LogRow]]:
    """The state at the end of training, from wherever the run stands, and its log."""
    graphdef, params, batch_stats = training.split(network)
    steps_per_epoch = len(load(split=settings.train_split))
    num_steps = settings.epochs * steps_per_epoch
    optimizer = optax.chain(
        optax.add_decayed_weights(
            settings.weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(
            optax.cosine_onecycle_schedule(num_steps, settings.learning_rate, pct_start=0.25),
            momentum=settings.momentum,
            nesterov=True,
        ),
    )
    augment = MODALITIES[info.kind].augment(settings)
    trainer = training.Trainer(
        graphdef,
        optimizer,
        augment if settings.augment else training.unchanged,
        _attack(settings, settings.attack_steps, settings.attack_step_size),
        settings.label_smoothing,
        settings.average_decay,
    )
    train_step = jax.jit(functools.partial(training.train_step, trainer))
    holdout_attack = _attack(settings, HOLDOUT_STEPS, None)
    correct = jax.jit(functools.partial(training.correct, attack=holdout_attack))

    checkpoints = training.Checkpoints(settings.output / "checkpoints")
    key = jax.random.key(settings.seed)
    state = checkpoints.restore(training.initial_state(params, batch_stats, optimizer, key))
    step = int(state.step)
    log = _read_log(settings.output / "log.csv", step)
    if has_collapsed(log):
        print(f"held-out accuracy had collapsed by step {step}: stopped there, best weights kept")
        return state, log
    batches = load(
        split=settings.train_split, seed=settings.seed, epochs=settings.epochs, start=step
    )
    history = []
    start = time.perf_counter()
    with tqdm.tqdm(total=num_steps, initial=step, unit="step", file=sys.stdout) as bar:
        for batch in batches:
            state, metrics = train_step(state, batch["image"], batch["label"], batch["mask"])
            step += 1
            history.append(metrics)
            epoch, within = divmod(step, steps_per_epoch)
            evaluates = within == 0 and (epoch % settings.evaluate_every == 0 or step == num_steps)
            holdout = math.nan
            if evaluates:
                now = nnx.merge(graphdef, *state.average)
                batches_held_out = load(split=settings.holdout_split)
                holdout = training.accuracy(correct, now, batches_held_out, jax.random.key(1))
                state = training.keep_best(state, holdout)
            if evaluates or step % settings.checkpoint_every == 0 or step == num_steps:
                loss, accuracy = (
                    float(np.mean([float(row[name]) for row in history]))
                    for name in ("loss", "accuracy")
                )
                history = []
                seconds = time.perf_counter() - start
                start = time.perf_counter()
                row = LogRow(step, step / steps_per_epoch, loss, accuracy, holdout, seconds)
                log.append(as_written(row))
                bar.set_postfix(
                    loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", holdout=f"{holdout:.3f}"
                )
                _write_log(settings.output / "log.csv", log)
                checkpoints.save(state)
            bar.update()
            if evaluates and has_collapsed(log):
                print(f"held-out accuracy fell to {holdout:.3f}: stopped, best weights kept")
                break
    return state, log


def has_collapsed(log: list[LogRow]) -> bool:
    """Whether the newest held-out accuracy is far below the best one before it."""
    held_out = [row.holdout_accuracy for row in log if not math.isnan(row.holdout_accuracy)]
    return bool(held_out) and held_out[-1] < max(held_out) - COLLAPSE


def as_written(row: LogRow) -> LogRow:
    """The row as the log's file holds it, so that a run that continues from it says the same."""
    return LogRow(*(float(WRITTEN.format(value)) for value in row))


def follow(settings: Settings, info: data.Description) -> Settings:
    """The settings with all that is left to the data filled in from its description."""
    if info.kind not in MODALITIES:
        raise ValueError(
            f"expected a dataset of kind {', '.join(MODALITIES)}, got {settings.dataset} of kind "
            f"{info.kind}: the attribute KIND of its builder says what signals are"
        )
    splits = {
        "train_split": settings.train_split,
        "holdout_split": settings.holdout_split,
        "test_split": settings.test_split,
    }
    if None in splits.values():
        if "train" not in info.num_examples:
            raise ValueError(
                f"expected a dataset with a split train, got {settings.dataset} with "
                f"{', '.join(info.num_examples)}; name parts of these by --train-split, "
                "--holdout-split and --test-split"
            )
        if info.test_split == "train":
            usual = ("train[:80%]", "train[80%:90%]", "train[90%:]")
        else:
            usual = ("train[:90%]", "train[90%:]", info.test_split)
        splits = {
            name: default if given is None else given
            for (name, given), default in zip(splits.items(), usual, strict=True)
        }
    height, width, _ = info.image_shape
    size = settings.image_size
    if size is None and (height is None or width is None):
        size = USUAL_SIZE
    side = min(height or 0, width or 0) if size is None else size
    stem = next(name for name, least in STEM_SIDES.items() if side >= least)
    return dataclasses.replace(
        settings,
        train_split=splits["train_split"],
        holdout_split=splits["holdout_split"],
        test_split=splits["test_split"],
        image_size=size,
        stem=stem if settings.stem is None else settings.stem,
        mirror=info.mirrored if settings.mirror is None else settings.mirror,
    )


def _first_batches(settings: Settings, load: Callable) -> dict[str, np.ndarray]:
    """The first training batch, after a look at what every split can be used for."""
    first = {}
    for flag in ("train_split", "holdout_split", "test_split"):
        split = getattr(settings, flag)
        first[flag] = next(iter(load(split=split)))
        if first[flag]["label"].min() < 0:
            raise ValueError(
                f"expected labelled images in {split} of {settings.dataset}, got unlabelled ones; "
                f"name another --{flag.replace('_', '-')}"
            )
    return first["train_split"]


def _image_network(settings: Settings, info: data.Description, rngs: nnx.Rngs) -> models.Network:
    return models.ResNet(
        settings.depth,
        info.num_classes,
        width=settings.width,
        stem=STEMS[settings.stem or "imagenet"],
        even=settings.even,
        **_normalization(info),
        rngs=rngs,
    )


def _sound_network(settings: Settings, info: data.Description, rngs: nnx.Rngs) -> models.Network:
    if info.sample_rate is None:
        raise ValueError(
            f"expected sounds of a known sample rate, got none of {settings.dataset}: the "
            "attribute SAMPLE_RATE of its builder says it"
        )
    return signals.SpectrogramResNet(
        info.num_classes,
        width=settings.width,
        sample_rate=info.sample_rate,
        **_normalization(info),
        rngs=rngs,
    )


def _radio_network(settings: Settings, info: data.Description, rngs: nnx.Rngs) -> models.Network:
    widths = tuple(round(settings.width * factor) for factor in SIGNAL_WIDTHS)
    return signals.SignalResNet(info.num_classes, widths=widths, **_normalization(info), rngs=rngs)


def _normalization(info: data.Description) -> dict[str, Any]:
    return {"channels": info.image_shape[-1], "mean": info.mean, "std": info.std}


def _image_architecture(settings: Settings, built: Mapping[str, Any]) -> str:
    stem = f"{settings.stem} stem{', even strides' if built['even'] else ''}"
    return f"ResNet-{built['depth']}, width {built['width']}, {stem}"


def _sound_architecture(settings: Settings, built: Mapping[str, Any]) -> str:
    every = 1000 * built["hop"] / built["sample_rate"]
    bands = f"{built['num_bands']} mel bands every {every:g} ms"
    return f"Residual network over {bands}, width {built['width']}"


def _radio_architecture(settings: Settings, built: Mapping[str, Any]) -> str:
    return f"Residual network over time, widths {built['widths']}"


class Modality(NamedTuple):
    """What is trained on one kind of data, on which changes of them, and what a card calls it."""

    network: Callable[[Settings, data.Description, nnx.Rngs], models.Network]
    augment: Callable[[Settings], Callable]
    architecture: Callable[[Settings, Mapping[str, Any]], str]


# Signals are images of one row; sound is looked at through its spectrogram.
MODALITIES = {
    "image": Modality(
        _image_network,
        lambda settings: training.flip_crop_and_zoom if settings.mirror else training.crop_and_zoom,
        _image_architecture,
    ),
    "sound": Modality(
        _sound_network, lambda settings: sound.shift_gain_and_noise, _sound_architecture
    ),
    "iq": Modality(_radio_network, lambda settings: radio.rotate_phase, _radio_architecture),
}


def _attack(settings: Settings, steps: int, step_size: float | None) -> training.Attack | None:
    if settings.norm == "none":
        return None
    if step_size is None:
        # Two steps of epsilon each reach farther than Madry's rule only where the ball cuts them.
        factor = {1: 1.25, 2: 1.0}.get(steps, training.STEP_SIZE_FACTOR / steps)
        step_size = factor * settings.epsilon
    return training.pgd_attack(
        robustness.BALLS[settings.norm], settings.epsilon, step_size=step_size, steps=steps
    )


def channel_statistics(
    batches: Iterable[Mapping[str, np.ndarray]],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over a data set, rounded to four decimals."""
    moments = []
    for batch in batches:
        pixels = batch["image"][batch["mask"]].astype(np.float64)
        moments.append(
            (pixels.size / pixels.shape[-1], pixels.sum((0, 1, 2)), (pixels**2).sum((0, 1, 2)))
        )
    count, total, squares = (sum(column) for column in zip(*moments, strict=True))
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return tuple(mean.round(4).tolist()), tuple(std.round(4).tolist())


def _attacks_of_evaluation(settings: Settings) -> robustness.Attacks:
    return robustness.Attacks(
        "l2", settings.test_epsilons, settings.test_attack_steps, settings.test_restarts
    )


def _evaluate(
    settings: Settings, network: models.Network, batches: data.Batches
) -> tuple[dict[str, dict[float, float]], int]:
    """The accuracies on the test split, clean and under attack, and its number of examples."""
    loaded = list(batches)
    images, labels = (
        np.concatenate([batch[name][batch["mask"]] for batch in loaded])
        for name in ("image", "label")
    )
    measured = robustness.accuracies(
        network,
        images,
        labels,
        _attacks_of_evaluation(settings),
        batch_size=settings.batch_size,
    )
    return measured, len(images)


def _record(
    asked: Settings,
    settings: Settings,
    info: data.Description,
    network: models.Network,
    evaluation: dict,
) -> dict[str, Any]:
    """What is known of a run of settings, which a command asked for as far as the data left it
    open.
    """
    flags = " ".join(
        _flag(field.name, getattr(asked, field.name))
        for field in dataclasses.fields(asked)
        if field.name not in ("output", "data_dir") and getattr(asked, field.name) != field.default
    )
    method = (
        "standard training"
        if settings.norm == "none"
        else f"adversarial training, {settings.norm.upper()} epsilon {settings.epsilon:g}"
    )
    caution = "The attacks are PGD and no AutoAttack: the true robust accuracy is somewhat lower."
    return {
        "dataset": settings.dataset,
        "method": method,
        "architecture": MODALITIES[info.kind].architecture(settings, network.settings),
        "command": f"python experiments/train.py --output runs/NAME {flags}".rstrip(),
        "train_split": settings.train_split,
        "holdout_split": settings.holdout_split,
        "test_split": settings.test_split,
        "epochs": settings.epochs,
        "best_epoch": evaluation["best_epoch"],
        "chosen_by": "clean" if settings.norm == "none" else f"PGD-{HOLDOUT_STEPS}",
        "holdout_accuracy": round(100 * evaluation["holdout_accuracy"], 1),
        "test_examples": evaluation["images"],
        "dtype": np.dtype(STORED).name,
        "minutes": round(evaluation["training_minutes"], 1),
        "cores": os.cpu_count(),
        "device": jax.default_backend(),
        "date": datetime.date.today().isoformat(),
        "notes": [caution] if any(settings.test_epsilons) else [],
    }


def _flag(name: str, value: Any) -> str:
    """A setting as the command line takes it."""
    flag = name.replace("_", "-")
    if isinstance(Settings.__dataclass_fields__[name].default, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return shlex.join([f"--{flag}", *map(str, values)])


def _write(path: Path, text: str) -> None:
    with runs.whole(path) as partial:
        partial.write_text(text, "utf-8")


def _read_log(path: Path, step: int) -> list[LogRow]:
    """The rows up to a step; later ones are of work that the last checkpoint does not hold."""
    if not path.exists():
        return []
    with path.open() as file:
        table = list(csv.DictReader(file))
    rows = [LogRow(*(float(row[name] or "nan") for name in LogRow._fields)) for row in table]
    return [row for row in rows if row.step <= step]


def _write_log(path: Path, rows: list[LogRow]) -> None:
    lines = [",".join(WRITTEN.format(value) for value in row) for row in rows]
    _write(path, "\n".join([",".join(LogRow._fields), *lines]) + "\n")


def _draw(rows: list[LogRow], path: Path) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    epochs = [row.epoch for row in rows]
    left.plot(epochs, [row.loss for row in rows])
    left.set(xlabel="epoch", ylabel="training loss (nats)")
    right.plot(epochs, [row.accuracy for row in rows], label="training images, as trained on")
    held_out = [row for row in rows if not math.isnan(row.holdout_accuracy)]
    right.plot(
        [row.epoch for row in held_out],
        [row.holdout_accuracy for row in held_out],
        "o-",
        label="held-out images",
    )
    right.set(xlabel="epoch", ylabel="accuracy", ylim=(0, 1))
    right.legend()
    with runs.whole(path) as partial:
        figure.savefig(partial, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__)
