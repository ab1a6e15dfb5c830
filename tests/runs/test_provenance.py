"""What a run says that it was computed on."""

from pgx_jax.runs.provenance import merge


def test_a_run_names_every_machine_that_it_was_on():
    gpu = {"device": "1 x H100", "versions": {"jax": "0.11.2"}, "commit": "abc"}
    cpu = {
        "device": "CPU",
        "versions": {"jax": "0.10.2", "brax": "0.14.2"},
        "commit": None,
    }
    assert merge([gpu, gpu, cpu, gpu]) == {
        "device": "1 x H100 and CPU",
        "versions": {"jax": "0.11.2 and 0.10.2", "brax": "0.14.2"},
        "commit": "abc",
    }
    assert merge([cpu]) == cpu
