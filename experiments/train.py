"""Train a ResNet, by standard or adversarial training, on any TFDS image-classification set.

  python experiments/train.py --output runs/standard --label-smoothing 0.1 --epochs 14
  python experiments/train.py --output runs/robust --label-smoothing 0.1 --epochs 24 --norm l2
  python experiments/train.py --output runs/digits --dataset mnist
  python experiments/train.py --output runs/mine --dataset ./pictures --image-size 64

The first two trained the bundled pair, in 26 and 86 minutes on two processor cores beside other
work, to 73.1 % and 69.5 % clean accuracy, 11.2 % and 52.9 % under PGD-10 in L2 at epsilon 1.
Splits, image size, channels, normalization, stem and mirroring follow the data where no flag says
otherwise; epsilon does not, and 0.5 is usual at 32x32. The same command again continues an
interrupted run, and ends with the same weights as one that was never interrupted. The folder then
holds `model/` (for `models.load`), `card.md`, `evaluation.json`, `log.csv` and `curves.png`. The
weights kept are those with the best accuracy on the held-out split:
under the training attack with five steps for adversarial training, clean for standard training.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import command_line
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import tqdm
from flax import nnx
from matplotlib import pyplot

from saliency_jax import attacks, data, models, radio, sound, training

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
BALLS = {"l2": attacks.L2, "linf": attacks.LINF}
# Madry et al. 2018: so that the attack can reach the ball's edge from anywhere inside it.
STEP_SIZE_FACTOR = 2.5
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
    sample = _first_batches(settings, load)["image"]
    _claim(settings)
    mean, std = info.mean, info.std
    if mean is None or std is None:
        mean, std = _channel_statistics(load(split=settings.train_split))
    model = _network(
        settings,
        info.num_classes,
        channels=sample.shape[-1],
        mean=mean,
        std=std,
        input_size=sample.shape[1:3],
        class_names=tuple(info.class_names),
        rngs=nnx.Rngs(settings.seed),
    )
    graphdef, params, batch_stats = training.split(model)

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
    trainer = training.Trainer(
        graphdef,
        optimizer,
        _augmentation(settings, info),
        _attack(settings, settings.attack_steps, settings.attack_step_size),
        settings.label_smoothing,
        settings.average_decay,
    )
    train_step = jax.jit(functools.partial(training.train_step, trainer))
    holdout_attack = _attack(settings, 5, None)
    correct = jax.jit(functools.partial(training.correct, attack=holdout_attack))

    checkpoints = training.Checkpoints(settings.output / "checkpoints")
    key = jax.random.key(settings.seed)
    state = checkpoints.restore(training.initial_state(params, batch_stats, optimizer, key))
    step = int(state.step)
    log = _read_log(settings.output / "log.csv", step)
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
                log.append(LogRow(step, step / steps_per_epoch, loss, accuracy, holdout, seconds))
                bar.set_postfix(
                    loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}", holdout=f"{holdout:.3f}"
                )
                _write_log(settings.output / "log.csv", log)
                checkpoints.save(state)
            bar.update()
            if holdout < float(state.best.accuracy) - COLLAPSE:
                print(f"held-out accuracy fell to {holdout:.3f}: stopped, best weights kept")
                break
    _draw(log, settings.output / "curves.png")
    folder = settings.output / "model"
    if not folder.exists():
        best = nnx.merge(graphdef, state.best.params, state.best.batch_stats)
        models.save(best, folder, dtype=np.float16)
    evaluation = _evaluate(settings, folder, load(split=settings.test_split))
    evaluation |= {
        "holdout_accuracy": float(state.best.accuracy),
        "best_epoch": int(state.best.step) / steps_per_epoch,
        "training_minutes": sum(row.seconds for row in log) / 60,
    }
    _write(settings.output / "evaluation.json", json.dumps(evaluation, indent=2) + "\n")
    card = _card(asked, settings, models.load(folder), evaluation)
    _write(settings.output / "card.md", card)
    print(card)
    print(f"model, card and curves are in {settings.output.resolve()}")


def follow(settings: Settings, info: data.Description) -> Settings:
    """The settings with all that is left to the data filled in from its description."""
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


def _network(
    settings: Settings, num_classes: int, *, input_size: tuple[int, int], **described: Any
) -> models.ResNet:
    """A ResNet for images, and others for signals, which are images of one row: sound, of one
    channel, is looked at through its spectrogram.
    """
    described["input_size"] = input_size
    if input_size[0] == 1 and described["channels"] == 1:
        return models.SpectrogramResNet(num_classes, width=settings.width, **described)
    if input_size[0] == 1:
        widths = tuple(round(settings.width * factor) for factor in SIGNAL_WIDTHS)
        return models.SignalResNet(num_classes, widths=widths, **described)
    stem = STEMS[settings.stem or "imagenet"]
    return models.ResNet(
        settings.depth,
        num_classes,
        width=settings.width,
        stem=stem,
        even=settings.even,
        **described,
    )


def _augmentation(settings: Settings, info: data.Description) -> Callable:
    height, _, channels = info.image_shape
    if not settings.augment:
        return training.unchanged
    if height == 1:
        return sound.shift_gain_and_noise if channels == 1 else radio.rotate_phase
    return training.flip_crop_and_zoom if settings.mirror else training.crop_and_zoom


def _claim(settings: Settings) -> None:
    """Makes the run's folder, or sees that an existing one is of the same settings."""
    config = json.dumps(dataclasses.asdict(settings) | {"output": None}, default=str, indent=2)
    path = settings.output / "config.json"
    if path.exists():
        if path.read_text() != config + "\n":
            raise ValueError(
                f"expected the settings in {path} to be those of this command, got others; choose "
                "another --output or repeat the command that began the run"
            )
        return
    if settings.output.exists() and any(settings.output.iterdir()):
        raise ValueError(f"expected {settings.output} to be empty or a run, got another folder")
    settings.output.mkdir(parents=True, exist_ok=True)
    _write(path, config + "\n")


def _attack(settings: Settings, steps: int, step_size: float | None) -> training.Attack | None:
    if settings.norm == "none":
        return None
    if step_size is None:
        # Two steps of epsilon each reach farther than Madry's rule only where the ball cuts them.
        step_size = settings.epsilon * {1: 1.25, 2: 1.0}.get(steps, STEP_SIZE_FACTOR / steps)
    return training.pgd_attack(
        BALLS[settings.norm], settings.epsilon, step_size=step_size, steps=steps
    )


def _channel_statistics(batches) -> tuple[tuple[float, ...], tuple[float, ...]]:
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


def _evaluate(settings: Settings, folder: Path, batches) -> dict:
    """Clean accuracy and accuracy under L2 PGD of the stored model, on the test split."""
    model = models.load(folder)
    batches = list(batches)
    images, labels = (
        np.concatenate([batch[name][batch["mask"]] for batch in batches])
        for name in ("image", "label")
    )
    steps = settings.test_attack_steps

    def attacked(model, images, labels, key, epsilon):
        attack = training.pgd_attack(
            attacks.L2, epsilon, step_size=STEP_SIZE_FACTOR * epsilon / steps, steps=steps
        )
        return training.correct(model, images, labels, key, attack)

    clean = jax.jit(training.correct)
    robust = jax.jit(attacked)
    with tqdm.tqdm(unit="image", desc="final evaluation", file=sys.stdout) as bar:
        accuracies = training.robust_accuracies(
            lambda model, images, labels, key, epsilon: (
                robust(model, images, labels, key, jnp.float32(epsilon))
                if epsilon
                else clean(model, images, labels, key)
            ),
            model,
            images,
            labels,
            settings.test_epsilons,
            jax.random.key(2),
            restarts=settings.test_restarts,
            batch_size=settings.batch_size,
            progress=bar.update,
        )
    return {"images": len(images), "accuracy": {str(k): v for k, v in accuracies.items()}}


def _card(asked: Settings, settings: Settings, model: models.ResNet, evaluation: dict) -> str:
    """Describes a run of settings, which a command asked for as far as the data left it open."""
    accuracy = {float(epsilon): value for epsilon, value in evaluation["accuracy"].items()}
    parameters = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    kind = (
        "standard training"
        if settings.norm == "none"
        else f"adversarial training, {settings.norm.upper()} epsilon {settings.epsilon:g}"
    )
    flags = " ".join(
        _flag(field.name, getattr(asked, field.name))
        for field in dataclasses.fields(asked)
        if field.name not in ("output", "data_dir") and getattr(asked, field.name) != field.default
    )
    rows = "\n".join(
        f"| PGD-{settings.test_attack_steps}, {settings.test_restarts} restarts, L2 epsilon {e:g} "
        f"| {value:.1%} |"
        for e, value in accuracy.items()
        if e
    )
    height, width = model.input_size
    if isinstance(model, models.SignalResNet):
        network, units = f"Residual network over time, widths {model.widths}", ""
    elif isinstance(model, models.SpectrogramResNet):
        bands = f"{model.num_bands} mel bands every {1000 * model.hop / model.sample_rate:g} ms"
        network, units = f"Residual network over {bands}, width {model.width}", " in [-1, 1]"
    else:
        stem = f"{settings.stem} stem{', even strides' if settings.even else ''}"
        network, units = f"ResNet-{settings.depth}, width {settings.width}, {stem}", " in [0, 1]"
    caution = "The attacks are PGD and no AutoAttack: the true accuracy is somewhat lower.\n"
    chosen_by = "clean" if settings.norm == "none" else "PGD-5"
    return f"""# {settings.dataset}, {kind}

{network}, {parameters:,} parameters;
input {height}x{width}x{model.channels}{units}, normalization inside.

    python experiments/train.py --output runs/NAME {flags}

Data: `{settings.dataset}`, trained on `{settings.train_split}`;
epoch {evaluation["best_epoch"]:g} of {settings.epochs} chosen by {chosen_by} accuracy on
`{settings.holdout_split}` ({evaluation["holdout_accuracy"]:.1%}).
Reported on all {evaluation["images"]} images of `{settings.test_split}`, the weights as stored
(float16):

| evaluation | accuracy |
|---|---|
| clean | {accuracy[0.0]:.1%} |
{rows}

{caution if rows else ""}Classes: {", ".join(model.class_names)}.
Training took {evaluation["training_minutes"]:.0f} minutes on {os.cpu_count()} cores
({jax.default_backend()}), {datetime.date.today().isoformat()}.
"""


def _flag(name: str, value: Any) -> str:
    """A setting as the command line takes it."""
    flag = name.replace("_", "-")
    if isinstance(Settings.__dataclass_fields__[name].default, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    values = value if isinstance(value, tuple) else (value,)
    return shlex.join([f"--{flag}", *map(str, values)])


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


def _read_log(path: Path, step: int) -> list[LogRow]:
    """The rows up to a step; later ones are of work that the last checkpoint does not hold."""
    if not path.exists():
        return []
    with path.open() as file:
        table = list(csv.DictReader(file))
    rows = [LogRow(*(float(row[name] or "nan") for name in LogRow._fields)) for row in table]
    return [row for row in rows if row.step <= step]


def _write_log(path: Path, rows: list[LogRow]) -> None:
    lines = [",".join(f"{value:.6g}" for value in row) for row in rows]
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
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    command_line.run(main, Settings, __doc__)
