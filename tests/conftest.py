"""What every test runs under: strict shapes, strict ranks, cheap compilation."""

import ast
import contextlib
import functools
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import jaxtyping
import psutil
import pytest
from jax._src.interpreters import mlir
from transfers import Transfers

# Before JAX starts, and for the processes of scripts as well: few programs of the tests run for
# longer than their compilation takes. The last of equal flags wins: those of the environment.
CHEAP_COMPILATION = (
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    # Later versions do not know it.
    *(("--xla_cpu_use_fusion_emitters=false",) if jax.__version_info__ < (0, 11) else ()),
)
os.environ["XLA_FLAGS"] = " ".join((*CHEAP_COMPILATION, os.environ.get("XLA_FLAGS", "")))
# Most of the suite's time is compilation: workers, the processes of scripts and the next run share
# their programs, the smallest too, as a third of them come again within a file and to read one
# takes a seventh of the time. JAX's key tells programs of other flags and versions apart.
PROGRAMS = {
    "jax_compilation_cache_dir": str(Path(tempfile.gettempdir()) / "saliency-jax-test-programs"),
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}
for option, value in PROGRAMS.items():
    os.environ.setdefault(option.upper(), str(value))
    jax.config.update(option, value)
# One that another process is writing, or wrote when it was killed, is compiled again: no script has
# to say so. The last of filters wins.
HALF_WRITTEN = "ignore:Error reading persistent compilation cache entry"
os.environ["PYTHONWARNINGS"] = ",".join(
    filter(None, (os.environ.get("PYTHONWARNINGS"), HALF_WRITTEN))
)

# One context of MLIR for many programs: to make one takes half as long as to compile a
# small program, of which there are tens of thousands.
with contextlib.suppress(AttributeError):
    mlir.make_ir_context = functools.cache(mlir.make_ir_context)


def leave_alone_what_is_not_annotated() -> None:
    """The hook also wraps functions in which there is nothing to check, closures at every call."""
    from jaxtyping._import_hook import JaxtypingTransformer

    wrapped = JaxtypingTransformer.visit_FunctionDef

    def visit(self: Any, node: ast.FunctionDef) -> ast.FunctionDef:
        decorators = [*node.decorator_list]
        node = wrapped(self, node)
        arguments = (part for part in ast.walk(node.args) if isinstance(part, ast.arg))
        if not (node.returns or any(argument.annotation for argument in arguments)):
            node.decorator_list = decorators
        return node

    JaxtypingTransformer.visit_FunctionDef = visit


# Private, and of speed alone.
with contextlib.suppress(ImportError, AttributeError):
    leave_alone_what_is_not_annotated()
# Before the library is imported: the hook checks the shapes in its signatures at every call.
jaxtyping.install_import_hook("saliency_jax", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# What is shared out among devices is tested on two.
jax.config.update("jax_num_cpu_devices", 2)

# Of a process, with its programs: others may use them.
MOST_BYTES = 2**31
COMPILATION = "/jax/core/compile/backend_compile_duration"


# Those that take about a minute and more of a processor, most of them of few tests and lines.
LONGEST = (
    "attribution_experiments",
    "documents",
    "docstrings",
    "scripts",
    "lrp_rules",
    "invariants",
    "any_model",
    "rules_any_model",
    "metric_invariants",
    "explore",
    "ascent_invariants",
    "properties",
    "radio",
    "experiments",
    "rules_architectures",
    "train_script",
    "localization_script",
    "scale_processes",
    "radio_signals_script",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, the shortest last: the workers then end together."""
    names = {f"test_{name}.py" for name in LONGEST}
    items.sort(key=lambda item: (item.path.name not in names, -item.path.stat().st_size))


def pytest_collection_finish() -> None:
    """What is imported stays until the end: the garbage collector need not go through it.

    Nor often through what JAX keeps, which tracing makes very much of.
    """
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


@pytest.fixture(autouse=True, scope="module")
def programs() -> Iterator[None]:
    """Lets compiled programs go at a file's end if there are many: all would take gigabytes."""
    yield
    if psutil.Process().memory_info().rss > MOST_BYTES:
        jax.clear_caches()
        with contextlib.suppress(AttributeError):
            mlir.make_ir_context.cache_clear()


@pytest.fixture(scope="module")
def loaded_once() -> Iterator[None]:
    """What scripts load again in every test is read once: no test of the file saves over it."""
    from saliency_jax import models

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", functools.cache(models.load))
        yield


@pytest.fixture
def entry_checks() -> Iterator[None]:
    """Switches the hook off, so that a test of bad input meets the library's own checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Compilations:
    """Counts the programs that are compiled inside `counted()`."""

    def __init__(self) -> None:
        self.count = 0

    def _listen(self, event: str, duration: float, **_: object) -> None:
        self.count += event == COMPILATION

    @contextlib.contextmanager
    def counted(self) -> Iterator["Compilations"]:
        self.count = 0
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        try:
            yield self
        finally:
            jax.monitoring.unregister_event_duration_listener(self._listen)


@pytest.fixture
def compilations() -> Compilations:
    return Compilations()


@pytest.fixture
def transfers() -> Transfers:
    return Transfers()


@pytest.fixture(scope="session")
def tiny_imagenet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data folder with a miniature Tiny-ImageNet of twenty classes, prepared from a zip."""
    # Not at the top: the hook above must see the library's first import.
    import small_data

    root = tmp_path_factory.mktemp("tiny_imagenet")
    return small_data.prepared_folder(root, "tiny-imagenet-200.zip", small_data.layout())


@pytest.fixture(scope="module")
def a_browser() -> Iterator[Any]:
    """A browser, or the reason why there is none."""
    import browser

    with browser.found() as it:
        yield it


@pytest.fixture
def pages_are_sound(a_browser: Any, tmp_path: Path) -> Iterator[None]:
    """Has every page that a test's runs leave opened in a browser, if there is one, and checked."""
    import browser

    yield
    browser.check_pages(a_browser, tmp_path)
