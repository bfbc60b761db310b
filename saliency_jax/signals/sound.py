"""Sounds: from a WAV file to the signal that a network takes, and back; and variations of them.

A sound is mono, (t,), in [-1, 1]. A network takes it as an image of one row, (1, t, 1).
"""

import functools
import io
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import scipy.io.wavfile
import scipy.signal
from jaxtyping import Array, Float

from .._numerics import at_least_single
from .._types import Count, Image, Key
from .._validation import as_image, check_array, check_count, check_finite, check_key

_FULL_SCALE = 2**15
# Above this a file is damaged: the filter that brings it to another rate grows with the rate.
_HIGHEST_RATE = 10**6
# How `shift_gain_and_noise` varies a sound. Noise of -100 dB is the rounding to 16 bits, -30 dB
# that of a bad one.
_LARGEST_SHIFT = 0.1
_GAINS = (-10.0, 10.0)
_NOISES = (-100.0, -30.0)


def read(file: str | os.PathLike | io.BufferedIOBase, sample_rate: Count) -> Float[np.ndarray, "t"]:
    """The sound in a WAV file, as one channel, at the wanted sample rate.

    Channels are averaged. Another sample rate is brought to the wanted one by a polyphase filter.

    Args:
      file: a path, or an open binary file.
      sample_rate: in hertz, at least 1.

    Returns:
      (t,), float32; a file of integers is in [-1, 1).

    Raises:
      FileNotFoundError: there is no such file.
      TypeError: it is neither, or the sample rate is not an integer.
      ValueError: the file is no WAV file, or has no samples or such as are not finite, or more than
        a million of them a second.

    Example:
      >>> import io
      >>> import numpy as np
      >>> from saliency_jax.signals import sound
      >>> file = io.BytesIO(sound.encode_wav(np.array([0.0, 0.5, -1.0]), 8000))
      >>> print(sound.read(file, 8000))
      [ 0.   0.5 -1. ]

    Reference:
      Oppenheim, Schafer, Discrete-Time Signal Processing, 3rd edition, 2010, section 4.6, on
      changing the sample rate.
    """
    sample_rate = check_count("sample_rate", sample_rate, 1)
    if not isinstance(file, str | os.PathLike) and not hasattr(file, "read"):
        raise TypeError(f"expected a path or an open binary file, got {type(file).__name__}")
    named = os.fspath(file) if isinstance(file, str | os.PathLike) else "the file"
    try:
        rate, samples = scipy.io.wavfile.read(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a WAV file, got no file at {named}") from None
    # Damaged files make the reader stumble in many ways, and its warnings may be errors.
    except Exception as error:
        raise ValueError(f"expected a WAV file, got {named} ({error})") from error
    if not 1 <= rate <= _HIGHEST_RATE:
        raise ValueError(
            f"expected a WAV file of 1 to {_HIGHEST_RATE} samples a second, got {rate} in {named}"
        )
    if not samples.size:
        raise ValueError(f"expected a WAV file with samples, got none in {named}")
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples / np.float32(-float(np.iinfo(samples.dtype).min))
    samples = samples.reshape(len(samples), -1).mean(1).astype(np.float32)
    if not samples.size or not np.isfinite(samples).all():
        raise ValueError(f"expected finite samples in {named}, got {samples.size} or others")
    common = math.gcd(int(sample_rate), rate)
    if rate != sample_rate:
        samples = scipy.signal.resample_poly(samples, int(sample_rate) // common, rate // common)
    return samples.astype(np.float32)


def encode_wav(samples: Float[np.ndarray, "t"] | Float[Array, "t"], sample_rate: Count) -> bytes:
    """A sound as a WAV file of 16 bits, which every browser plays.

    Args:
      samples: (t,), in [-1, 1]; what is beyond is cut off.
      sample_rate: in hertz, at least 1.

    Returns:
      The file's bytes.

    Raises:
      TypeError: the samples do not hold floats, or the sample rate is not an integer.
      ValueError: the samples are not of shape (t,), or not finite.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.signals import sound
      >>> encoded = sound.encode_wav(np.zeros(8000), 8000)
      >>> encoded[:4], len(encoded)
      (b'RIFF', 16044)

    Reference:
      IBM, Microsoft, Multimedia Programming Interface and Data Specifications 1.0, 1991.
    """
    check_array("samples", samples, ("t",))
    check_finite("samples", samples)
    sample_rate = check_count("sample_rate", sample_rate, 1)
    levels = np.round(np.asarray(samples, np.float64) * _FULL_SCALE)
    buffer = io.BytesIO()
    whole = levels.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16)
    scipy.io.wavfile.write(buffer, int(sample_rate), whole)
    return buffer.getvalue()


def centre(
    samples: Float[np.ndarray, "t"] | Float[Array, "t"], length: Count
) -> Float[np.ndarray, "length"]:
    """A sound in the middle of a clip of a given length: silence around it, or its ends cut off.

    Args:
      samples: (t,).
      length: of the clip in samples, at least 1.

    Returns:
      (length,).

    Raises:
      TypeError: the samples do not hold floats, or the length is not an integer.
      ValueError: the samples are not of shape (t,), or the length is below 1.

    Example:
      >>> import numpy as np
      >>> from saliency_jax.signals import sound
      >>> print(sound.centre(np.array([1.0, 2.0]), 5), sound.centre(np.array([1.0, 2.0, 3.0]), 1))
      [0. 1. 2. 0. 0.] [2.]
    """
    check_array("samples", samples, ("t",))
    length = check_count("length", length, 1)
    cut = max(0, len(samples) - int(length)) // 2
    kept = np.asarray(samples)[cut : cut + int(length)]
    before = (int(length) - len(kept)) // 2
    return np.pad(kept, (before, int(length) - len(kept) - before))


def shift_gain_and_noise(signal: Image, key: Key) -> Float[Array, "h t c"]:
    """Shifts a sound in time, makes it louder or softer, and adds noise, all at random.

    T(x)_n = 10^(g / 20) x_{n - u} + 10^(v / 20) e_n, with u uniform up to a tenth of the length
    either way, zeros coming in; g uniform in -10 .. 10 dB; v uniform in -100 .. -30 dB; e normal

    Args:
      signal: (1, t, c), usually in [-1, 1].
      key: random key.

    Returns:
      (1, t, c).

    Raises:
      TypeError: the signal does not hold floats.
      ValueError: it is not of shape (1, t, c).

    Example:
      >>> import jax
      >>> from saliency_jax.signals import sound
      >>> sound.shift_gain_and_noise(jax.numpy.ones((1, 50, 1)), jax.random.key(0)).shape
      (1, 50, 1)

    Reference:
      Ko, Peddinti, Povey, Khudanpur, Audio augmentation for speech recognition, Interspeech 2015.
    """
    image = as_image(signal, "signal")
    check_key(key)
    samples = at_least_single(image)
    draw = functools.partial(jax.random.uniform, dtype=samples.dtype)
    shift_key, gain_key, level_key, noise_key = jax.random.split(key, 4)
    margin = int(_LARGEST_SHIFT * samples.shape[1])
    start = jax.random.randint(shift_key, (), 0, 2 * margin + 1, jnp.int32)
    padded = jnp.pad(samples, ((0, 0), (margin, margin), (0, 0)))
    shifted = jax.lax.dynamic_slice_in_dim(padded, start, samples.shape[1], axis=1)
    gain = draw(gain_key, minval=_GAINS[0], maxval=_GAINS[1])
    level = draw(level_key, minval=_NOISES[0], maxval=_NOISES[1])
    noise = jax.random.normal(noise_key, samples.shape, samples.dtype)
    return (10 ** (gain / 20) * shifted + 10 ** (level / 20) * noise).astype(image.dtype)
