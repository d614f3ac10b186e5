import torch

from condinst.modeling.sampling import Positives, Sampling, sample


def positives(images: list[int], instances: list[int], scores: list[float]) -> Positives:
    n = len(images)
    return Positives(
        torch.arange(float(n))[:, None],
        torch.tensor(images),
        torch.tensor(instances),
        torch.zeros(n, dtype=torch.long),
        torch.zeros(n, 2),
        torch.tensor(scores),
    )


MANY = positives([0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 2, 2], [0.1, 0.3, 0.2, 0.9, 0.5, 0.6])


def kept(sampling: Sampling, of: Positives = MANY) -> list[int]:
    return sample(of, sampling).params[:, 0].int().tolist()


def test_without_limits_all_stay() -> None:
    assert kept(Sampling()) == [0, 1, 2, 3, 4, 5]


def test_a_random_cap_follows_the_global_generator() -> None:
    torch.manual_seed(3)
    order = torch.randperm(6)[:4].tolist()
    torch.manual_seed(3)
    assert kept(Sampling(max_proposals=4)) == order


def test_the_best_of_an_image_are_shared_over_its_instances() -> None:
    # Image 0: 4 over two instances, 2 each; image 1: 4 for its one instance.
    assert sorted(kept(Sampling(top_per_image=4))) == [1, 2, 3, 4, 5]
    assert sorted(kept(Sampling(top_per_image=1))) == [1, 3, 5]  # at least one each


def test_the_random_cap_goes_first_where_it_bites() -> None:
    torch.manual_seed(0)
    assert len(kept(Sampling(max_proposals=2, top_per_image=1))) == 2
    assert sorted(kept(Sampling(max_proposals=6, top_per_image=1))) == [1, 3, 5]


def test_none_stay_none() -> None:
    for sampling in (Sampling(), Sampling(max_proposals=0), Sampling(top_per_image=2)):
        assert kept(sampling, positives([], [], [])) == []
