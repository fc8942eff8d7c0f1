from aiida_gaprss.models.gap.log import expected_counts, read_log


def test_log_of_a_fit(fitted, silicon_frames):
    log = read_log(fitted[1])
    assert log.abort is None
    assert log.counts == expected_counts(silicon_frames)
    assert log.counts["virials"] == 6 * (len(silicon_frames) - 1)
    assert log.peak_memory_MB > 0
    assert len(log.descriptors) == 2
    assert log.descriptors[1] == sum(map(len, silicon_frames)), "one SOAP per atom"
    assert log.version != "unknown"


def test_log_of_an_abort(fit_with_binary, silicon_frames):
    folder, text = fit_with_binary(silicon_frames, extra="sparse_jiter=1e-8\n")
    log = read_log(text)
    assert log.abort is not None, text[-2000:]
    assert log.abort.startswith("SYSTEM ABORT")
    assert "sparse_jiter" in log.abort
    assert "\n" not in log.abort
    assert not (folder / "gap.xml").exists()


def test_log_of_nothing():
    log = read_log("")
    assert log.counts == {}
    assert log.abort is None
    assert log.peak_memory_MB is None
