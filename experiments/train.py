"""Train a ResNet, or fine-tune a trained network, standardly or adversarially, on any TFDS set.

  python experiments/train.py --output runs/standard --label-smoothing 0.1 --epochs 24
  python experiments/train.py --output runs/robust --label-smoothing 0.1 --epochs 24 --norm l2
  python experiments/train.py --output runs/digits --dataset mnist
  python experiments/train.py --output runs/mine --dataset ./pictures --image-size 64
  python experiments/train.py --output runs/tuned --start-from efficientnet-lite0 \
    --image-size 96 --batch-size 64 --epochs 3 --learning-rate 0.02

The first two trained the bundled pair; their cards, `card.md` in `saliency_jax/models/bundled/*/`,
say how long that took and how good they are, and `evaluate.py` measures it again.
Splits, image size, channels, normalization, stem and mirroring follow the data where no flag says
otherwise; epsilon does not, and 0.5 is usual at 32x32. A network that training starts from keeps
its own normalization, and of its last layer the rows of the classes that it knows by name or by
WordNet id.

The same command again continues an interrupted run, and ends with the same weights as one that was
never interrupted. The folder then holds `model/` (for `models.load`), `card.md`, `evaluation.json`,
`log.csv` and `curves.png`. The weights kept are those with the best accuracy on the held-out split:
under the training attack with five steps for adversarial training, clean for standard training.
A run whose held-out accuracy collapses stops there, also when its command is given again. The last
evaluation attacks by two losses, as `evaluate.py` says.
"""

import dataclasses
import datetime
import functools
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx
from lab import imagenet, robustness
from matplotlib.figure import Figure

from saliency_jax import data, models, runs, signals, training
from saliency_jax.runs import plots
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
SPLITS = ("train_split", "holdout_split", "test_split")
CAUTION = "The attacks are PGD and no AutoAttack: the true robust accuracy is somewhat lower."


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
    start_from: str | None = None
    """Name or folder of a trained network, fine-tuned in place of a new one."""
    frozen_statistics: bool = False
    """Batch normalization keeps the statistics that the network has, for fine-tuning."""
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
    keep_programs: bool = True
    """Whether compiled programs are kept for later runs, in the user's folder of caches."""


class Learner(NamedTuple):
    """What is trained on one kind of data."""

    network: models.Network
    """With its first weights."""
    architecture: str
    """What a card calls it."""
    augment: Callable
    """The changes of the data that it is trained on."""


def main(asked: Settings) -> None:
    if asked.keep_programs:
        runs.keep_programs()
    # A run is the same, and continued, with its programs kept or not.
    asked = dataclasses.replace(asked, keep_programs=True)
    info = data.describe(asked.dataset, data_dir=asked.data_dir)
    settings = follow(asked, info)
    load: Callable = functools.partial(
        data.load,
        settings.dataset,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        data_dir=settings.data_dir,
    )
    height, width = first_batch(settings, load)["image"].shape[1:3]
    config = dataclasses.asdict(settings) | {"output": None}
    del config["keep_programs"]
    with runs.claim(settings.output, config, kind="training run") as output:
        if info.mean is None or info.std is None:
            mean, std = data.channel_statistics(load(split=settings.train_split))
            info = dataclasses.replace(info, mean=mean, std=std)
        learner = LEARNERS[info.kind](settings, info)
        if settings.start_from is not None:
            learner = fine_tuned(settings, info, learner)
        best, log = trained(settings, learner, load)
        with runs.whole(output / "curves.png") as partial:
            draw(log).savefig(partial)
        folder = output / "model"
        if not folder.exists():
            params = jax.tree.map(lambda leaf: leaf.astype(STORED).astype(leaf.dtype), best.params)
            graphdef, _, _ = training.split(learner.network)
            network = nnx.merge(graphdef, params, best.batch_stats)
            test = data.joined(load(split=settings.test_split))
            attacks = robustness.Attacks(
                "l2", settings.test_epsilons, settings.test_attack_steps, settings.test_restarts
            )
            measured = robustness.accuracies(
                network, test["image"], test["label"], attacks, batch_size=settings.batch_size
            )
            evaluation = {
                "images": len(test["label"]),
                "accuracy": measured,
                "holdout_accuracy": float(best.accuracy),
                "best_epoch": int(best.step) / len(load(split=settings.train_split)),
                "training_minutes": sum(row.seconds for row in log) / 60,
            }
            with runs.whole(output / "evaluation.json") as partial:
                partial.write_text(json.dumps(evaluation, indent=2) + "\n", "utf-8")
            taken = models.Input(
                info.kind,  # type: ignore[arg-type]
                (height, width),
                channels=network.channels,
                sample_rate=info.sample_rate,
                mean=network.settings["mean"],
                std=network.settings["std"],
                mean_color=info.mean or (),
            )
            classifier = models.Classifier(
                "model",
                network,
                taken,
                info.class_names,
                robustness.stated(measured, attacks),
                record(asked, settings, learner.architecture, evaluation),
            )
            models.save(classifier, folder, dtype=STORED)
        card = models.card(models.load(folder))
        with runs.whole(output / "card.md") as partial:
            partial.write_text(card, "utf-8")
    print(card)
    print(f"model, card and curves are in {settings.output.resolve()}")


def trained(
    settings: Settings, learner: Learner, load: Callable
) -> tuple[training.Best, list[training.LogRow]]:
    """The best weights, from wherever the run stands, and its log."""
    steps_per_epoch = len(load(split=settings.train_split))
    num_steps = settings.epochs * steps_per_epoch
    trainer = training.Trainer(
        training.split(learner.network)[0],
        training.one_cycle_sgd(
            num_steps,
            settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        ),
        learner.augment if settings.augment else training.unchanged,
        attack(settings, settings.attack_steps, settings.attack_step_size),
        settings.label_smoothing,
        settings.average_decay,
        training.frozen_statistics if settings.frozen_statistics else training.batch_statistics,
    )
    holdout_attack = attack(settings, HOLDOUT_STEPS, None)
    correct = jax.jit(functools.partial(training.correct, attack=holdout_attack))

    def holdout(network: models.Network) -> float:
        batches = load(split=settings.holdout_split)
        return training.accuracy(correct, network, batches, jax.random.key(1))

    # Every step may be shown, since those that the folder holds come all at once.
    with tqdm.tqdm(total=num_steps, unit="step", file=sys.stdout, miniters=1) as bar:

        def progress(steps: int, log: Sequence[training.LogRow]) -> None:
            for _, _, loss, accuracy, holdout_accuracy, _ in log[-1:]:
                measured = {"loss": loss, "accuracy": accuracy, "holdout": holdout_accuracy}
                bar.set_postfix({name: f"{value:.3f}" for name, value in measured.items()}, False)
            bar.update(steps)

        state, log = training.fit(
            trainer,
            learner.network,
            lambda start: load(
                split=settings.train_split,
                seed=settings.seed,
                epochs=settings.epochs,
                start=start,
            ),
            settings.output,
            key=jax.random.key(settings.seed),
            epochs=settings.epochs,
            steps_per_epoch=steps_per_epoch,
            holdout=holdout,
            evaluate_every=settings.evaluate_every,
            checkpoint_every=settings.checkpoint_every,
            progress=progress,
        )
    if training.has_collapsed(log):
        print(
            f"held-out accuracy fell to {log[-1].holdout_accuracy:.3f}: stopped at step "
            f"{state.step}, best weights kept"
        )
    return state.best, log


def follow(settings: Settings, info: data.Description) -> Settings:
    """The settings with all that is left to the data filled in from its description."""
    if info.kind not in LEARNERS:
        raise ValueError(
            f"expected a dataset of kind {', '.join(LEARNERS)}, got {settings.dataset} of kind "
            f"{info.kind}: the attribute KIND of its builder says what signals are"
        )
    usual = ("train[:90%]", "train[90%:]", info.test_split)
    if info.test_split == "train":
        usual = ("train[:80%]", "train[80%:90%]", "train[90%:]")
    left: dict[str, Any] = {
        name: split
        for name, split in zip(SPLITS, usual, strict=True)
        if getattr(settings, name) is None
    }
    if left and "train" not in info.num_examples:
        raise ValueError(
            f"expected a dataset with a split train, got {settings.dataset} with "
            f"{', '.join(info.num_examples)}; name parts of these by --train-split, "
            "--holdout-split and --test-split"
        )
    height, width, _ = info.image_shape
    size = settings.image_size
    if size is None and (height is None or width is None):
        size = USUAL_SIZE
    side = min(height or 0, width or 0) if size is None else size
    stem = next(name for name, least in STEM_SIDES.items() if side >= least)
    return dataclasses.replace(
        settings,
        **left,
        image_size=size,
        stem=stem if settings.stem is None else settings.stem,
        mirror=info.mirrored if settings.mirror is None else settings.mirror,
    )


def first_batch(settings: Settings, load: Callable) -> dict[str, np.ndarray]:
    """The first training batch, after a look at what every split can be used for."""
    first = {}
    for name in SPLITS:
        split = getattr(settings, name)
        first[name] = next(iter(load(split=split)))
        if first[name]["label"].min() < 0:
            raise ValueError(
                f"expected labelled images in {split} of {settings.dataset}, got unlabelled ones; "
                f"name another --{name.replace('_', '-')}"
            )
    return first["train_split"]


def learner_of_images(settings: Settings, info: data.Description) -> Learner:
    network = models.ResNet(
        settings.depth,
        info.num_classes,
        width=settings.width,
        stem=STEMS[settings.stem or "imagenet"],
        even=settings.even,
        **common(settings, info),
    )
    strides = ", even strides" if settings.even else ""
    return Learner(
        network,
        f"ResNet-{settings.depth}, width {settings.width}, {settings.stem} stem{strides}",
        training.flip_crop_and_zoom if settings.mirror else training.crop_and_zoom,
    )


def learner_of_sounds(settings: Settings, info: data.Description) -> Learner:
    if info.sample_rate is None:
        raise ValueError(
            f"expected sounds of a known sample rate, got none of {settings.dataset}: the "
            "attribute SAMPLE_RATE of its builder says it"
        )
    network = signals.SpectrogramResNet(
        info.num_classes,
        width=settings.width,
        sample_rate=info.sample_rate,
        **common(settings, info),
    )
    every = 1000 * network.settings["hop"] / info.sample_rate
    bands = f"{network.settings['num_bands']} mel bands every {every:g} ms"
    words = f"Residual network over {bands}, width {settings.width}"
    return Learner(network, words, sound.shift_gain_and_noise)


def learner_of_radio(settings: Settings, info: data.Description) -> Learner:
    widths = tuple(round(settings.width * factor) for factor in SIGNAL_WIDTHS)
    network = signals.SignalResNet(info.num_classes, widths=widths, **common(settings, info))
    return Learner(network, f"Residual network over time, widths {widths}", radio.rotate_phase)


def fine_tuned(settings: Settings, info: data.Description, learner: Learner) -> Learner:
    """The trained network that is asked for, with a last layer of the data's classes."""
    start = models.load(str(settings.start_from))
    if start.input.kind != info.kind or start.input.channels != info.image_shape[-1]:
        raise ValueError(
            f"expected a network of {info.image_shape[-1]}-channel {info.kind}s to start from, got "
            f"{start.name} of {start.input.channels}-channel {start.input.kind}s"
        )

    def network_of(num_classes: int) -> models.Network:
        changed = start.network.settings | {"num_classes": num_classes}
        return type(start.network)(**changed, rngs=nnx.Rngs(settings.seed))

    graphdef, *new = training.split(network_of(info.num_classes))
    wider = training.split(nnx.eval_shape(lambda: network_of(info.num_classes + 1)))[1:]
    found = imagenet.labels(info.class_names, start)
    known = np.array([label is not None for label in found])
    places = np.array([label or 0 for label in found])

    def taken_over(old, new, wider):
        # What the number of classes changes is the last layer, whose last axis they are.
        return old if new.shape == wider.shape else jnp.where(known, old[..., places], new)

    old = training.split(start.network)[1:]
    weights = jax.tree.map(taken_over, old, tuple(new), wider)
    words = f"{type(start.network).__name__} from {start.name}, {known.sum()} of its classes kept"
    return learner._replace(network=nnx.merge(graphdef, *weights), architecture=words)


def common(settings: Settings, info: data.Description) -> dict[str, Any]:
    """What every network is built with."""
    channels, keys = info.image_shape[-1], nnx.Rngs(settings.seed)
    return {"channels": channels, "mean": info.mean, "std": info.std, "rngs": keys}


# Signals are images of one row; sound is looked at through its spectrogram.
LEARNERS = {"image": learner_of_images, "sound": learner_of_sounds, "iq": learner_of_radio}


def attack(settings: Settings, steps: int, step_size: float | None) -> training.Attack | None:
    if settings.norm == "none":
        return None
    if step_size is None:
        # Two steps of epsilon each reach farther than Madry's rule only where the ball cuts them.
        factor = {1: 1.25, 2: 1.0}.get(steps, training.STEP_SIZE_FACTOR / steps)
        step_size = factor * settings.epsilon
    return training.pgd_attack(
        robustness.BALLS[settings.norm], settings.epsilon, step_size=step_size, steps=steps
    )


def record(
    asked: Settings, settings: Settings, architecture: str, evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known of a run of settings, some of which a command had left to the data."""
    robust = settings.norm != "none"
    ball = f"{settings.norm.upper()} epsilon {settings.epsilon:g}"
    return {
        **{name: getattr(settings, name) for name in ("dataset", *SPLITS, "epochs")},
        "method": f"adversarial training, {ball}" if robust else "standard training",
        "architecture": architecture,
        "command": command(asked),
        "best_epoch": evaluation["best_epoch"],
        "chosen_by": f"PGD-{HOLDOUT_STEPS}" if robust else "clean",
        "holdout_accuracy": round(100 * evaluation["holdout_accuracy"], 1),
        "test_examples": evaluation["images"],
        "dtype": np.dtype(STORED).name,
        "minutes": round(evaluation["training_minutes"], 1),
        "cores": os.cpu_count(),
        "device": jax.default_backend(),
        "date": datetime.date.today().isoformat(),
        "notes": [CAUTION] if any(settings.test_epsilons) else [],
    }


def command(asked: Settings) -> str:
    """The command line that asks for these settings."""
    words = ["python", "experiments/train.py", "--output", "runs/NAME"]
    for field in dataclasses.fields(asked):
        value = getattr(asked, field.name)
        if field.name in ("output", "data_dir") or value == field.default:
            continue
        flag = field.name.replace("_", "-")
        if isinstance(field.default, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def draw(log: Sequence[training.LogRow]) -> Figure:
    """The loss and the accuracies over the epochs."""
    held_out = [row for row in log if not math.isnan(row.holdout_accuracy)]

    def curve(name: str, column: str, rows: Sequence[training.LogRow] = log) -> plots.Curve:
        values = np.array([getattr(row, column) for row in rows])
        epochs = np.array([row.epoch for row in rows])
        return plots.Curve(name, epochs, values, values, values)

    trained_on = "training images, as trained on"
    accuracies = [
        curve(trained_on, "accuracy"),
        curve("held-out images", "holdout_accuracy", held_out),
    ]
    loss = [curve(trained_on, "loss")]
    return plots.curves({"training loss (nats)": loss, "accuracy": accuracies}, "epoch")


if __name__ == "__main__":
    runs.from_command_line(main, Settings, __doc__)
