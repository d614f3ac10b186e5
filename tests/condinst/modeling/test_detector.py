import copy
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BoxMode, Instances, PolygonMasks

from condinst.errors import UserError
from condinst.modeling.mask_head.rle import encode_masks
from tests.condinst.modeling.tiny import (
    NUM_CLASSES,
    example,
    noise_image,
    rectangles,
    tiny_cfg,
    tiny_model,
)

BOXES = [(4, 4, 40, 30), (20, 10, 90, 60), (50, 5, 62, 20)]
EPIPHQNY = (
    *("MODEL.CONDINST.MASK_OUT_STRIDE", 1, "MODEL.CONDINST.COORDINATES", "absolute"),
    *("MODEL.CONDINST.CENTER", "box", "MODEL.CONDINST.DICE_NUMERATOR", 1.0),
    *("MODEL.CONDINST.DICE_DENOMINATOR", 1.0, "MODEL.CONDINST.MASK_BRANCH.KIND", "single_level"),
    *("MODEL.CONDINST.MASK_BRANCH.CHANNELS", -1, "MODEL.CONDINST.MASK_BRANCH.NORM", "fcos"),
)
FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN")  # no BN of ours is in evaluation's way


def losses(model: torch.nn.Module, batch: list[dict[str, Any]]) -> dict[str, float]:
    with torch.no_grad():
        return {k: v.item() for k, v in model(batch).items()}


def assert_same(a: Instances, b: Instances) -> None:
    assert a.image_size == b.image_size
    assert len(a) == len(b) > 0
    torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(a.scores, b.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(a.pred_classes, b.pred_classes)
    assert (a.pred_masks != b.pred_masks).float().mean() < 1e-4


OPTIONS: dict[str, tuple[Any, ...]] = {
    "adelaidet": (),
    "epiphqny": EPIPHQNY,
    "stride 1": ("MODEL.CONDINST.MASK_OUT_STRIDE", 1),
    "stride 2": ("MODEL.CONDINST.MASK_OUT_STRIDE", 2),
    "stride 8": ("MODEL.CONDINST.MASK_OUT_STRIDE", 8),
    "no coordinates": ("MODEL.CONDINST.MASK_HEAD.DISABLE_REL_COORDS", True),
    "absolute, plain": (
        *("MODEL.CONDINST.COORDINATES", "absolute", "MODEL.CONDINST.UPSAMPLING", "plain"),
    ),
    "no features": ("MODEL.CONDINST.USE_MASK_FEATURES", False),
    "small head": (
        "MODEL.CONDINST.MASK_HEAD.CHANNELS",
        4,
        "MODEL.CONDINST.MASK_HEAD.NUM_LAYERS",
        1,
    ),
    "big head": ("MODEL.CONDINST.MASK_HEAD.CHANNELS", 16, "MODEL.CONDINST.MASK_HEAD.NUM_LAYERS", 4),
    "mask channels": (
        *("MODEL.CONDINST.MASK_BRANCH.OUT_CHANNELS", 2, "MODEL.CONDINST.MASK_BRANCH.NORM", "GN"),
    ),
    "semantic": ("MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON", True),
    "capped": ("MODEL.CONDINST.MAX_PROPOSALS", 3),
    "top": ("MODEL.CONDINST.TOPK_PROPOSALS_PER_IM", 4),
    "iou quality": ("MODEL.FCOS.BOX_QUALITY", "iou", "MODEL.FCOS.LOC_LOSS_TYPE", "linear_iou"),
    "moving": ("MODEL.FCOS.LOSS_NORMALIZER_CLS", "moving_fg", "MODEL.FCOS.LOC_LOSS_TYPE", "iou"),
    "all": ("MODEL.FCOS.LOSS_NORMALIZER_CLS", "all", "MODEL.FCOS.CENTER_SAMPLE", False),
    "BN": ("MODEL.FCOS.NORM", "BN", "MODEL.FCOS.NUM_SHARE_CONVS", 1, "MODEL.FCOS.USE_SCALE", False),
    "SyncBN": ("MODEL.FCOS.NORM", "SyncBN", "MODEL.CONDINST.MASK_BRANCH.NORM", "SyncBN"),
    "no norm": ("MODEL.FCOS.NORM", "none", "MODEL.FCOS.USE_DEFORMABLE", True),
    "no top levels": (
        *("MODEL.FCOS.TOP_LEVELS", 0, "MODEL.FCOS.IN_FEATURES", ["p3", "p4", "p5"]),
        *("MODEL.FCOS.FPN_STRIDES", [8, 16, 32], "MODEL.FCOS.SIZES_OF_INTEREST", [32, 64]),
    ),
    "from stride 4": (
        *("MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.FCOS.TOP_LEVELS", 1),
        *("MODEL.FCOS.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"]),
        *("MODEL.FCOS.FPN_STRIDES", [4, 8, 16, 32, 64]),
        *("MODEL.CONDINST.MASK_BRANCH.IN_FEATURES", ["p2", "p3"]),
    ),
    "boxes alone": ("MODEL.MASK_ON", False),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_trains_and_detects(name: str) -> None:
    model = tiny_model(*OPTIONS[name])
    made = model([example(64, 96, BOXES), example(64, 96, BOXES[:1], seed=1)])
    sum(made.values()).backward()
    names = {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr", "loss_mask"}
    if name == "iou quality":
        names = names - {"loss_fcos_ctr"} | {"loss_fcos_iou"}
    if name == "semantic":
        names.add("loss_sem")
    if name == "boxes alone":
        names.remove("loss_mask")
    assert set(made) == names
    assert all(x.isfinite() and x > 0 for x in made.values())
    untouched = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    model.eval()
    with torch.no_grad():
        found = model([{"image": noise_image(64, 96), "height": 50, "width": 80}])[0]["instances"]
    assert len(found) > 0
    if name != "boxes alone":
        assert found.pred_masks.shape == (len(found), 50, 80)
        assert found.pred_masks.dtype == torch.bool


@pytest.mark.parametrize("options", [(), EPIPHQNY], ids=["adelaidet", "epiphqny"])
def test_a_batch_of_mixed_sizes_equals_its_images(options: tuple[Any, ...]) -> None:
    model = tiny_model(*options).eval()
    batch = [
        {"image": noise_image(64, 96), "height": 70, "width": 100},
        {"image": noise_image(40, 130, seed=1)},
        {
            "image": noise_image(61, 90, seed=2),
            "height": 61,
            "width": 90,
        },  # pads to the first one's size
    ]
    with torch.no_grad():
        together = model(batch)
        for one, x in zip(together, batch, strict=True):
            assert_same(one["instances"], model([x])[0]["instances"])


def test_results_do_not_depend_on_the_order_of_instances() -> None:
    model = tiny_model("MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON", True)
    straight = example(64, 96, BOXES)
    mixed = dict(straight, instances=straight["instances"][[2, 0, 1]])
    assert losses(model, [straight]) == pytest.approx(losses(model, [mixed]), rel=1e-5)


def test_results_do_not_depend_on_the_order_of_images() -> None:
    model = tiny_model()
    batch = [example(64, 96, BOXES), example(64, 80, BOXES[:1], seed=1)]
    assert losses(model, batch) == pytest.approx(losses(model, batch[::-1]), rel=1e-5)


def test_polygons_train_as_bitmasks() -> None:
    model = tiny_model()
    bitmap = example(64, 96, BOXES)
    polygon = copy.deepcopy(bitmap)
    corners = [[[x0, y0, x1, y0, x1, y1, x0, y1]] for x0, y0, x1, y1 in BOXES]
    polygon["instances"].gt_masks = PolygonMasks(corners)
    assert losses(model, [bitmap]) == pytest.approx(losses(model, [polygon]), rel=1e-6)


@pytest.mark.parametrize("polygons", [False, True])
@pytest.mark.parametrize("options", [(), EPIPHQNY], ids=["adelaidet", "epiphqny"])
def test_images_without_instances_beside_others(options: tuple[Any, ...], polygons: bool) -> None:
    model = tiny_model(*options)
    empty = example(64, 96, [], seed=1)
    if polygons:
        empty["instances"].gt_masks = PolygonMasks([])
    full = example(64, 96, BOXES)
    first, last = losses(model, [empty, full]), losses(model, [full, empty])
    assert first == pytest.approx(last, rel=1e-5)
    assert first["loss_mask"] > 0


def test_a_batch_without_instances_is_zero_and_connected() -> None:
    model = tiny_model("MODEL.CONDINST.MASK_BRANCH.SEMANTIC_LOSS_ON", True)
    made = model([example(64, 96, []), example(60, 90, [])])
    for name in ("loss_fcos_loc", "loss_fcos_ctr", "loss_mask"):
        assert made[name].item() == 0
    assert made["loss_fcos_cls"] > 0
    sum(made.values()).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_instances_may_lack_masks_where_there_are_none() -> None:
    bare = example(64, 96, [])
    bare["instances"].remove("gt_masks")
    assert losses(tiny_model(), [bare])["loss_mask"] == 0


def test_masks_as_runs_are_the_masks() -> None:
    model = tiny_model("MODEL.FCOS.INFERENCE_TH_TEST", 0.0).eval()
    batch = [{"image": noise_image(64, 96), "height": 50, "width": 80}]
    with torch.no_grad():
        masks = model(batch)[0]["instances"]
        model.masks_as_runs = True
        runs = model(batch)[0]["instances"]
    assert not runs.has("pred_masks")
    assert runs.pred_rles == encode_masks(masks.pred_masks)
    assert len(runs.pred_rles) == len(masks) > 0


@pytest.mark.parametrize(("h", "w"), [(1, 130), (130, 1)])
def test_a_strip_of_one_pixel_trains_and_detects(h: int, w: int) -> None:
    model = tiny_model(*FROZEN)
    terms = model([example(h, w, [(0, 0, w, h)])])
    assert all(term.isfinite() for term in terms.values())
    (found,) = model.eval()([{"image": noise_image(h, w), "height": 3 * h, "width": 3 * w}])
    assert found["instances"].pred_masks.shape[1:] == (3 * h, 3 * w)


def test_nothing_found_keeps_its_shapes() -> None:
    model = tiny_model("MODEL.FCOS.INFERENCE_TH_TEST", 1.0).eval()
    with torch.no_grad():
        found = model([{"image": noise_image(64, 96)}])[0]["instances"]
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 64, 96)


def test_boxes_are_clipped_to_the_original_image() -> None:
    model = tiny_model().eval()
    with torch.no_grad():
        found = model([{"image": noise_image(64, 96), "height": 128, "width": 192}])[0]["instances"]
    boxes = found.pred_boxes.tensor
    assert boxes.min() >= 0
    assert (boxes <= torch.tensor([192, 128, 192, 128])).all()
    assert (found.pred_boxes.area() > 0).all()


def test_the_moving_normaliser_starts_at_a_hundred() -> None:
    fixed, moving = (
        tiny_model("MODEL.FCOS.LOSS_NORMALIZER_CLS", name) for name in ("fg", "moving_fg")
    )
    x = [example(64, 96, BOXES)]
    total = losses(fixed, x)["loss_fcos_cls"]
    first, second = losses(moving, x)["loss_fcos_cls"], losses(moving, x)["loss_fcos_cls"]
    # total * n = first * (90 + n / 10), so n is known; the second mean follows from the first.
    n = 90 * first / (total - first / 10)
    assert n == pytest.approx(round(n), abs=1e-2)
    assert second == pytest.approx(total * n / (0.9 * (90 + n / 10) + n / 10), rel=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.FCOS.IN_FEATURES", ["p3", "p4", "p5", "p6", "p8"], "the backbone gives"),
        ("MODEL.FCOS.FPN_STRIDES", [8, 16, 32, 64, 64], "have strides"),
        ("MODEL.CONDINST.CENTER", "corner", "use mass or box"),
        ("MODEL.FCOS.NORM", "LN", "use one of GN"),
        ("MODEL.FCOS.PRIOR_PROB", 1.0, "between 0 and 1"),
    ],
)
def test_contradictions_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_model(tiny_cfg(key, value))


def test_training_instances_without_masks_are_refused() -> None:
    bare = example(64, 96, BOXES)
    bare["instances"].remove("gt_masks")
    with pytest.raises(UserError, match="no gt_masks"):
        tiny_model()([bare])


@pytest.mark.parametrize("value", [-1, NUM_CLASSES])
def test_classes_that_the_model_has_not_are_named(value: int) -> None:
    model = tiny_model()
    given = example(64, 96, BOXES[:2])
    given["instances"].gt_classes[1] = value
    with pytest.raises(AssertionError, match=f"gt_classes contain {value}; .* classes 0 to 2"):
        model([given])
    with pytest.raises(AssertionError, match=f"gt_classes contain {value}"):
        model.normalizers([given])


def test_rectangles_are_what_the_tests_take_them_for() -> None:
    instances = rectangles(10, 12, [(1, 2, 5, 7)])
    box = BoxMode.convert(instances.gt_boxes.tensor, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)
    assert box.tolist() == [[1, 2, 4, 5]]
    assert instances.gt_masks.tensor.sum() == 20


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_cpus_numbers() -> None:
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    cpu = tiny_model()
    gpu = copy.deepcopy(cpu).cuda()
    batch = [example(64, 96, BOXES), example(60, 90, [])]
    assert losses(gpu, batch) == pytest.approx(losses(cpu, batch), rel=1e-4)
    cpu.eval()
    gpu.eval()
    with torch.no_grad():
        a, b = (m([{"image": noise_image(64, 96)}])[0]["instances"] for m in (cpu, gpu))
    assert_same(a, b.to("cpu"))


@pytest.mark.parametrize("options", [(), EPIPHQNY], ids=["adelaidet", "epiphqny"])
def test_half_precision_trains_and_detects(options: tuple[Any, ...]) -> None:
    model = tiny_model(*options)
    batch = [example(64, 96, BOXES), example(60, 90, [])]
    full = losses(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = losses(model, batch)
        found = model.eval()([{"image": noise_image(64, 96)}])[0]["instances"]
    assert half == pytest.approx(full, rel=0.4)  # eight bits, fifty layers
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32


def test_keys_without_effect_are_named(caplog: pytest.LogCaptureFixture) -> None:
    build_model(tiny_cfg("MODEL.FCOS.USE_RELU", False))
    assert "MODEL.FCOS.USE_RELU = False has no effect" in caplog.text
