"""Which models fit together: told, reckoned or learnt."""

import pytest

from llmpool_worker.models.fit import Fit, Fits, Memory

A, B, C = "a:1b", "b:1b", "c:1b"
GB = 10**9


def test_one_alone_may_be_tried() -> None:
    """However large it seems, and however little is known."""
    fits = Fits(Memory(total_bytes=GB))
    fits.on_disk({A: 50 * GB})
    assert fits.of([A]) is Fit.YES
    assert fits.of([]) is Fit.YES


def test_nobody_knows() -> None:
    """Without any word about memory two models may fit or not."""
    assert Fits(Memory()).of([A, B]) is Fit.UNKNOWN


def test_a_count_only_forbids() -> None:
    """More than the server's own limit never fit; fewer may, if there is memory."""
    fits = Fits(Memory(max_loaded=2))
    assert fits.of([A, B, C]) is Fit.NO
    assert fits.of([A, B]) is Fit.UNKNOWN


@pytest.mark.parametrize(
    ("a", "b", "fit"),
    [
        pytest.param(4 * GB, 4 * GB, Fit.YES, id="exactly the threshold"),
        pytest.param(4 * GB, 4 * GB + 1, Fit.NO, id="a byte more"),
        pytest.param(4 * GB, None, Fit.UNKNOWN, id="one of them is unknown"),
        pytest.param(9 * GB, None, Fit.NO, id="one of them is too much already"),
        pytest.param(4 * GB, 0, Fit.UNKNOWN, id="a size of nothing is no size"),
    ],
)
def test_a_threshold_of_a_total(a: int, b: int | None, fit: Fit) -> None:
    """Sizes in memory count up to MODEL_MEMORY_THRESHOLD of the total; a missing one isn't zero."""
    fits = Fits(Memory(total_bytes=10 * GB, threshold=0.8))
    fits.seen({A: a})
    fits.seen({B: b})
    assert fits.of([A, B]) is fit


def test_files_stand_in_for_sizes() -> None:
    """A model that was never loaded takes what its file does and a quarter more; once seen, what was seen."""
    fits = Fits(Memory(total_bytes=10 * GB))
    fits.on_disk({A: 4 * GB, B: None, C: 4 * GB})
    assert fits.size_of(A) == 5 * GB
    assert fits.size_of(B) is None
    assert fits.of([A, C]) is Fit.NO
    fits.seen({A: 3 * GB})
    assert fits.size_of(A) == 3 * GB
    assert fits.of([A, C]) is Fit.YES


def test_seen_together() -> None:
    """What was resident together fits, and so does each part of it, whatever the sizes say."""
    fits = Fits(Memory(total_bytes=GB))
    fits.seen({A: GB, B: GB, C: GB})
    assert fits.of([A, B, C]) is Fit.YES
    assert fits.of([A, C]) is Fit.YES
    assert fits.of([A, "d:1b"]) is Fit.NO


def test_pushed_out() -> None:
    """A load that pushed another model out shows that they don't fit, nor they and others."""
    fits = Fits(Memory())
    fits.loaded(B, before=[A], after=[B])
    assert fits.of([A, B]) is Fit.NO
    assert fits.of([A, B, C]) is Fit.NO
    assert fits.of([A, C]) is Fit.UNKNOWN


def test_the_newest_counts() -> None:
    """Seen together after all (less context, a neighbour gone), they fit again."""
    fits = Fits(Memory())
    fits.loaded(B, before=[A], after=[B])
    fits.seen({A: None, B: None})
    assert fits.of([A, B]) is Fit.YES


def test_no_longer_together() -> None:
    """What fitted once and pushed one another out since doesn't fit now."""
    fits = Fits(Memory())
    fits.seen({A: None, B: None})
    fits.loaded(B, before=[A], after=[B])
    assert fits.of([A, B]) is Fit.NO


def test_a_load_beside_others() -> None:
    """Where nothing was pushed out, nothing is known to be apart."""
    fits = Fits(Memory())
    fits.loaded(B, before=[A], after=[A, B])
    assert fits.of([A, B]) is Fit.UNKNOWN


@pytest.mark.parametrize(
    ("cards", "total"),
    [
        pytest.param([4 * GB, 6 * GB], 10 * GB, id="added up"),
        pytest.param([4 * GB, None], None, id="one that doesn't tell"),
        pytest.param([], None, id="none"),
    ],
)
def test_the_cards_total(cards: list[int | None], total: int | None) -> None:
    """The memory of all cards, or nothing: a part of it would forbid what fits."""
    fits = Fits(Memory(threshold=0.5))
    fits.total_from(cards)
    assert fits.memory == Memory(total_bytes=total, threshold=0.5)
