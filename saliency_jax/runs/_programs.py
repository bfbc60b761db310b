"""Compiled programs, kept from one process to the next."""

import os
import sys
from pathlib import Path

import jax

# Less than it takes to compile most of a script's programs, more than it takes to read one.
_LEAST_SECONDS = 0.1
_MOST_BYTES = 2**30


def keep_programs() -> None:
    """Keeps what JAX compiles in the user's folder of caches, for this and all later processes.

    The folder is `saliency-jax/programs` in `$XDG_CACHE_HOME` or `~/.cache`, in `~/Library/Caches`
    on macOS, and in `%LOCALAPPDATA%` on Windows. It grows to 1 GiB, whereupon the programs that
    were used longest ago go. Programs of other versions of JAX, other devices and other flags are
    told apart by JAX. Where `JAX_COMPILATION_CACHE_DIR` or the program has set a folder, that one
    is used as it is; where the folder cannot be written, programs are not kept.

    Example:
      >>> from saliency_jax import runs
      >>> runs.keep_programs()

    Reference:
      Bradbury et al., JAX: composable transformations of Python+NumPy programs, 2018, on the
      persistent compilation cache (not on arXiv).
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    folder = _caches() / "saliency-jax" / "programs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _caches() -> Path:
    """The user's folder of what can be made again."""
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".cache"
