"""One network of every family of timm, the smallest of each, and what becomes of it here.

A family is a module of timm and the letters that its networks' names begin with. As a script,
``python -m tests.condinst.modeling.timm_families [family ...]`` prints docs/backbones.md's table.
"""

from __future__ import annotations

import copy
import pickle
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from timm.models import get_arch_name
from torch import nn

from condinst.config import load_config
from condinst.engine.buffers import non_finite
from condinst.errors import UserError
from condinst.inference.inference_copy import inference_copy
from condinst.modeling.backbone.timm_backbone import check_backbone
from condinst.modeling.backbone.timm_network import choose_features, create_network

RECIPE = Path(__file__).parents[3] / "configs" / "CondInst" / "MS_R_50_1x.yaml"
FAMILIES = {
    "beit/beit": "beit_base_patch16_224",
    "beit/beitv": "beitv2_base_patch16_224",
    "byoanet/botnet": "botnet26t_256",
    "byoanet/eca": "eca_botnext26ts_256",
    "byoanet/halo": "halo2botnet50ts_256",
    "byoanet/halonet": "halonet_h1",
    "byoanet/haloregnetz": "haloregnetz_b",
    "byoanet/lambda": "lambda_resnet26t",
    "byoanet/lamhalobotnet": "lamhalobotnet50ts_256",
    "byoanet/sebotnet": "sebotnet33ts_256",
    "byoanet/sehalonet": "sehalonet33ts",
    "byobnet/bat": "bat_resnext26ts",
    "byobnet/eca": "eca_resnext26ts",
    "byobnet/gcresnet": "gcresnet33ts",
    "byobnet/gcresnext": "gcresnext26ts",
    "byobnet/gernet": "gernet_s",
    "byobnet/mobileone": "mobileone_s1",
    "byobnet/regnetz": "regnetz_b16",
    "byobnet/repvgg": "repvgg_a0",
    "byobnet/resnet": "resnet32ts",
    "byobnet/resnext": "resnext26ts",
    "byobnet/seresnet": "seresnet33ts",
    "byobnet/seresnext": "seresnext26ts",
    "cait/cait": "cait_xxs24_224",
    "coat/coat": "coat_tiny",
    "convit/convit": "convit_tiny",
    "convmixer/convmixer": "convmixer_768_32",
    "convnext/convnext": "convnext_zepto_rms",
    "convnext/convnextv": "convnextv2_atto",
    "cpubone/cpubone": "cpubone_nano",
    "crossvit/crossvit": "crossvit_tiny_240",
    "csatv2/csatv": "csatv2",
    "cspnet/cs": "cs3darknet_focus_s",
    "cspnet/cspdarknet": "cspdarknet53",
    "cspnet/cspresnet": "cspresnet50",
    "cspnet/cspresnext": "cspresnext50",
    "cspnet/darknet": "darknet17",
    "cspnet/darknetaa": "darknetaa53",
    "cspnet/sedarknet": "sedarknet21",
    "cspnext/cspnext": "cspnext_tiny",
    "davit/davit": "davit_tiny",
    "deepseek_vit/deepseek": "deepseek_vit_412m",
    "deit/deit": "deit_tiny_patch16_224",
    "densenet/densenet": "densenet121",
    "densenet/densenetblur": "densenetblur121d",
    "dla/dla": "dla46x_c",
    "dpn/dpn": "dpn48b",
    "edgenext/edgenext": "edgenext_xx_small",
    "efficientformer/efficientformer": "efficientformer_l1",
    "efficientformer_v2/efficientformerv": "efficientformerv2_s0",
    "efficientnet/efficientnet": "efficientnet_lite0",
    "efficientnet/efficientnetv": "efficientnetv2_rw_t",
    "efficientnet/fbnetc": "fbnetc_100",
    "efficientnet/gc": "gc_efficientnetv2_rw_t",
    "efficientnet/mixnet": "mixnet_s",
    "efficientnet/mnasnet": "mnasnet_small",
    "efficientnet/mobilenet": "mobilenet_edgetpu_100",
    "efficientnet/mobilenetv": "mobilenetv2_035",
    "efficientnet/semnasnet": "semnasnet_050",
    "efficientnet/spnasnet": "spnasnet_100",
    "efficientnet/tf": "tf_mixnet_s",
    "efficientnet/tinynet": "tinynet_e",
    "efficientvim/efficientvim": "efficientvim_m1",
    "efficientvit_mit/efficientvit": "efficientvit_b0",
    "efficientvit_msra/efficientvit": "efficientvit_m0",
    "eva/eva": "eva02_tiny_patch14_224",
    "eva/vit": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet/fasternet": "fasternet_t0",
    "fastvit/fastvit": "fastvit_t8",
    "focalnet/focalnet": "focalnet_tiny_srf",
    "gcvit/gcvit": "gcvit_xxtiny",
    "gemma4_vit/gemma": "gemma4_vit_167m",
    "ghostnet/ghostnet": "ghostnet_050",
    "ghostnet/ghostnetv": "ghostnetv3_050",
    "hardcorenas/hardcorenas": "hardcorenas_b",
    "hgnet/hgnet": "hgnet_tiny",
    "hgnet/hgnetv": "hgnetv2_b0",
    "hiera/hiera": "hiera_tiny_224",
    "hieradet_sam2/hieradet": "hieradet_small",
    "hieradet_sam2/sam": "sam2_hiera_tiny",
    "hrnet/hrnet": "hrnet_w18_small",
    "iformer/iformer": "iformer_t",
    "inception_next/inception": "inception_next_atto",
    "inception_resnet_v2/inception": "inception_resnet_v2",
    "inception_v3/inception": "inception_v3",
    "inception_v4/inception": "inception_v4",
    "lcnetv2/lcnetv": "lcnetv2_small",
    "levit/levit": "levit_128s",
    "lowformer/lowformer": "lowformer_b0",
    "mambaout/mambaout": "mambaout_femto",
    "maxxvit/coatnet": "coatnet_pico_rw_224",
    "maxxvit/coatnext": "coatnext_nano_rw_224",
    "maxxvit/maxvit": "maxvit_pico_rw_256",
    "maxxvit/maxxvit": "maxxvit_rmlp_nano_rw_256",
    "maxxvit/maxxvitv": "maxxvitv2_nano_rw_256",
    "metaformer/caformer": "caformer_s18",
    "metaformer/convformer": "convformer_s18",
    "metaformer/poolformer": "poolformer_s12",
    "metaformer/poolformerv": "poolformerv2_s12",
    "mlp_mixer/gmixer": "gmixer_12_224",
    "mlp_mixer/gmlp": "gmlp_ti16_224",
    "mlp_mixer/mixer": "mixer_s16_224",
    "mlp_mixer/resmlp": "resmlp_12_224",
    "mobilenetv3/fbnetv": "fbnetv3_b",
    "mobilenetv3/lcnet": "lcnet_035",
    "mobilenetv3/mobilenetv": "mobilenetv3_small_050",
    "mobilenetv3/tf": "tf_mobilenetv3_small_075",
    "mobilenetv5/mobilenetv": "mobilenetv5_base",
    "mobilevit/mobilevit": "mobilevit_xxs",
    "mobilevit/mobilevitv": "mobilevitv2_050",
    "mvitv2/mvitv": "mvitv2_tiny",
    "naflexvit/naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet/nasnetalarge": "nasnetalarge",
    "nest/nest": "nest_tiny",
    "nextvit/nextvit": "nextvit_small",
    "nfnet/dm": "dm_nfnet_f0",
    "nfnet/eca": "eca_nfnet_l0",
    "nfnet/nf": "nf_regnet_b0",
    "nfnet/nfnet": "nfnet_l0",
    "pit/pit": "pit_ti_224",
    "pnasnet/pnasnet": "pnasnet5large",
    "pvt_v2/pvt": "pvt_v2_b0",
    "qwen3_vit/qwen": "qwen3_vit_88m",
    "rdnet/rdnet": "rdnet_tiny",
    "regnet/regnetv": "regnetv_040",
    "regnet/regnetx": "regnetx_002",
    "regnet/regnety": "regnety_002",
    "regnet/regnetz": "regnetz_005",
    "repghost/repghostnet": "repghostnet_050",
    "repvit/repvit": "repvit_m1",
    "res2net/res": "res2next50",
    "resnest/resnest": "resnest14d",
    "resnet/ecaresnet": "ecaresnet26t",
    "resnet/ecaresnetlight": "ecaresnetlight",
    "resnet/ecaresnext": "ecaresnext26t_32x4d",
    "resnet/resnet": "resnet10t",
    "resnet/resnetaa": "resnetaa34d",
    "resnet/resnetblur": "resnetblur18",
    "resnet/resnetrs": "resnetrs50",
    "resnet/resnext": "resnext50_32x4d",
    "resnet/senet": "senet154",
    "resnet/seresnet": "seresnet18",
    "resnet/seresnetaa": "seresnetaa50d",
    "resnet/seresnext": "seresnext26t_32x4d",
    "resnet/seresnextaa": "seresnextaa101d_32x8d",
    "resnet/wide": "wide_resnet50_2",
    "resnetv2/resnetv": "resnetv2_18",
    "rexnet/rexnet": "rexnet_100",
    "rexnet/rexnetr": "rexnetr_100",
    "selecsls/selecsls": "selecsls42",
    "senet/legacy": "legacy_seresnet18",
    "sequencer/sequencer": "sequencer2d_s",
    "shvit/shvit": "shvit_s1",
    "sknet/skresnet": "skresnet18",
    "sknet/skresnext": "skresnext50_32x4d",
    "starnet/starnet": "starnet_s050",
    "swiftformer/swiftformer": "swiftformer_xs",
    "swin_transformer/swin": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2/swinv": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr/swinv": "swinv2_cr_tiny_224",
    "tiny_vit/tiny": "tiny_vit_5m_224",
    "tnt/tnt": "tnt_s_legacy_patch16_224",
    "tresnet/tresnet": "tresnet_m",
    "twins/twins": "twins_svt_small",
    "vgg/vgg": "vgg11",
    "visformer/visformer": "visformer_tiny",
    "vision_transformer/aimv": "aimv2_large_patch14_224",
    "vision_transformer/beit": "beit3_base_patch16_224",
    "vision_transformer/eva": "eva_large_patch14_196",
    "vision_transformer/flexivit": "flexivit_small",
    "vision_transformer/vit": "vit_tiny_patch16_224",
    "vision_transformer_hybrid/vit": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos/vit": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam/samvit": "samvit_base_patch16_224",
    "vitamin/vitamin": "vitamin_small_224",
    "volo/volo": "volo_d1_224",
    "vovnet/eca": "eca_vovnet39b",
    "vovnet/ese": "ese_vovnet19b_slim_dw",
    "vovnet/vovnet": "vovnet39a",
    "xception/legacy": "legacy_xception",
    "xception_aligned/xception": "xception41p",
    "xcit/xcit": "xcit_nano_12_p8_224",
}
REFUSED = {
    "beit/beit": "no pyramid",
    "beit/beitv": "no pyramid",
    "byoanet/botnet": "does not take images",
    "byoanet/eca": "does not take images",
    "byoanet/halo": "does not take images",
    "byoanet/halonet": "does not take images",
    "byoanet/haloregnetz": "does not take images",
    "byoanet/lamhalobotnet": "does not take images",
    "byoanet/sebotnet": "does not take images",
    "byoanet/sehalonet": "does not take images",
    "byobnet/bat": "does not take images",
    "cait/cait": "no pyramid",
    "coat/coat": "does not take images",
    "convit/convit": "no pyramid",
    "convmixer/convmixer": "no pyramid",
    "crossvit/crossvit": "no pyramid",
    "cspnet/sedarknet": "gives the features",
    "deepseek_vit/deepseek": "no pyramid",
    "deit/deit": "no pyramid",
    "efficientformer/efficientformer": "does not take images",
    "efficientformer_v2/efficientformerv": "does not take images",
    "efficientvim/efficientvim": "gives the features",
    "efficientvit_msra/efficientvit": "gives the features",
    "eva/eva": "no pyramid",
    "eva/vit": "no pyramid",
    "gcvit/gcvit": "does not take images",
    "gemma4_vit/gemma": "no pyramid",
    "hardcorenas/hardcorenas": "does not give feature maps",
    "hiera/hiera": "does not take images",
    "inception_resnet_v2/inception": "does not take images",
    "inception_v3/inception": "does not take images",
    "inception_v4/inception": "does not take images",
    "levit/levit": "gives the features",
    "maxxvit/coatnet": "does not take images",
    "maxxvit/coatnext": "does not take images",
    "maxxvit/maxvit": "does not take images",
    "maxxvit/maxxvit": "does not take images",
    "maxxvit/maxxvitv": "does not take images",
    "mlp_mixer/gmixer": "no pyramid",
    "mlp_mixer/gmlp": "no pyramid",
    "mlp_mixer/mixer": "no pyramid",
    "mlp_mixer/resmlp": "no pyramid",
    "mobilevit/mobilevitv": "gives for images",
    "naflexvit/naflexvit": "no pyramid",
    "nest/nest": "gives the features",
    "pit/pit": "does not take images",
    "qwen3_vit/qwen": "no pyramid",
    "sequencer/sequencer": "gives the features",
    "shvit/shvit": "gives the features",
}


class Row(NamedTuple):
    """A line of the table: "yes", "-", or the reason why not."""

    family: str
    model: str
    built: str
    trained: str = "-"
    evaluated: str = "-"


def family_of(model: str) -> str:
    """The family of a network's name."""
    letters = re.match(r"[a-z]+(?:v\d(?=_|$|\d))?", model)
    assert letters is not None, model
    return f"{_module_of(model)}/{letters[0]}"


def _module_of(model: str) -> str:
    return timm.model_entrypoint(get_arch_name(model)).__module__.rpartition(".")[2]


def config(model: str) -> CfgNode:
    """The recipe with that backbone, a narrow pyramid and norms for random weights."""
    overrides = ["MODEL.BACKBONE.NAME", f"timm/{model}", "MODEL.DEVICE", "cpu"]
    overrides += ["MODEL.FPN.OUT_CHANNELS", "64", "MODEL.TIMM.NORM", "BN"]
    return load_config(RECIPE, [*overrides, "MODEL.BACKBONE.FREEZE_AT", "0"])


def attempt(family: str) -> Row:
    """Check, build, train a step, evaluate; what fails other than by refusal is raised."""
    model = FAMILIES[family]
    torch.manual_seed(0)
    cfg = config(model)
    try:
        with torch.device("meta"):  # what it offers, without its weights
            _, features = create_network(model)
        choose_features(model, features, cfg.MODEL.FPN.IN_FEATURES)
        check_backbone(cfg)
    except UserError as error:
        return Row(family, model, str(error))
    detector = build_model(cfg)
    _train(detector)
    _evaluate(detector)
    return Row(family, model, "yes", "yes", "yes")


def _train(model: nn.Module) -> None:
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    losses = model.train()([_example(0), _example(1)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values()), losses
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    assert any(p.grad is not None for n, p in named if "bottom_up" in n)
    found = non_finite([(n, p.grad) for n, p in named if p.grad is not None])
    assert not found, found
    optimizer.step()
    optimizer.zero_grad()
    assert not non_finite(model.state_dict().items())


def _evaluate(model: nn.Module) -> None:
    """The inference copy gives the model's maps, and so do copies of it."""
    fast: Any = inference_copy(model.eval())
    slow: Any = model
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        wanted, got = slow.backbone(x), fast.backbone(x)
        for level, maps in wanted.items():
            error = float((got[level] - maps).abs().max() / maps.abs().max())
            assert error < 1e-3, (level, error)
        again: Any = pickle.loads(pickle.dumps(copy.deepcopy(fast)))
        assert all(torch.equal(maps, got[level]) for level, maps in again.backbone(x).items())
        (found,) = fast([{"image": _example(2)["image"], "height": 64, "width": 96}])
    assert found["instances"].image_size == (64, 96)


def _example(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    truth = Instances((64, 96))
    truth.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 56.0, 56.0]]))
    truth.gt_classes = torch.tensor([3])
    masks = torch.zeros(1, 64, 96, dtype=torch.bool)
    masks[:, 8:56, 8:56] = True
    truth.gt_masks = BitMasks(masks)
    image = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=generator)
    return {"image": image, "instances": truth}


def main(families: list[str]) -> None:
    """Print the table, a line as soon as it is known."""
    print("| family | network | built | trained | evaluated |\n|---|---|---|---|---|")
    for family in families or FAMILIES:
        try:
            row = attempt(family)
        except Exception as error:
            row = Row(family, FAMILIES[family], f"FAILED {type(error).__name__}: {error}")
        print(f"| {' | '.join(text.splitlines()[0] for text in row)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
