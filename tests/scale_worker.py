"""A run over a folder of small pictures as a process of its own: `python scale_worker.py JSON`."""

import json
import sys
import time

import jax


def main(output, dataset, *, seconds=0.0, processes=1, process=0, port=0, heartbeat=100):
    """A run whose steps take at least so many seconds, alone or as one of several processes."""
    if processes > 1:
        jax.config.update("jax_enable_preemption_service", False)
        jax.distributed.initialize(
            f"127.0.0.1:{port}", processes, process, heartbeat_timeout_seconds=heartbeat
        )
    # After JAX knows of the others.
    import small_photographs

    from saliency_jax import attribution, scale

    def progress(done, total):
        time.sleep(seconds)

    # On every process: of several only the first is told how far they are.
    judge = scale._attribute.judge
    scale._attribute.judge = lambda rows, **options: (time.sleep(seconds), judge(rows, **options))
    scale.attribute(
        attribution.input_gradient,
        small_photographs.classifier(small_photographs.squared),
        dataset,
        output,
        batch_size=2,
        dtype="float32",
        progress=progress,
    )


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
