"""One of the processes of `test_two_processes.py`: computes with its share of a batch and saves what it found."""

import contextlib
import itertools
import os
import sys

import torch
import torch.distributed as dist
from mmcv.cnn import build_norm_layer
from mmengine.optim import OptimWrapper
from mmengine.structures import LabelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from csrm_plugin import functional as F
from csrm_plugin.engine.cpu_data_parallel import CPUDistributedDataParallel
from csrm_plugin.models.memory_bank import MemoryBank
from csrm_plugin.models.segmentors import CAMClassifier, NonFiniteLossError

K, DIM, BATCH, SIZE = 5, 6, 4, 8


def shares(*tensors):
    """This rank's part of tensors (B, ...)."""
    return [value.chunk(F.world_size())[F.rank()] for value in tensors]


def differentiate(found, name, loss, inputs):
    found['losses'][name] = loss.detach()
    (gradient,) = torch.autograd.grad(loss, inputs)
    # The gradient of the whole batch: zero where the pictures are another rank's.
    whole = torch.zeros(BATCH, *gradient.shape[1:])
    shares(whole)[0].copy_(gradient)
    found['gradients'][name] = whole


def reliability(found):
    values = torch.randn(BATCH, SIZE, SIZE) + torch.arange(BATCH).view(-1, 1, 1)
    valid = torch.rand(BATCH, SIZE, SIZE) < torch.tensor([0.9, 0.2, 0.7, 0.4]).view(-1, 1, 1)
    values, valid = shares(values, valid)
    found['quantiles'] = F.quantiles(values[valid], [0.0, 0.2, 0.55, 1.0])
    found['no_quantiles'] = F.quantiles(values.new_empty(0), [0.5])
    found['reliable'] = F.reliable_pixels(values, 0.3, valid)
    found['low'], found['high'] = F.split_by_entropy(values, 0.3, valid)
    found['fraction'] = F.fraction(values > 1, valid).item()


def losses(found):
    logits, probs = torch.randn(BATCH, K, SIZE, SIZE), torch.randn(BATCH, K, SIZE, SIZE).mul(2).softmax(dim=1)
    cam, bg = torch.randn(BATCH, K - 1, 4, 4), torch.randn(BATCH, SIZE, SIZE)
    labels = torch.randint(0, K, (BATCH, SIZE, SIZE))
    labels[0] = 255  # shares of certain pixels differ between the ranks
    logits, probs, cam, bg, labels = shares(logits, probs, cam, bg, labels)
    for name, inputs, loss in (
        ('masked_mean', logits, lambda x: F.masked_mean(x[:, 0] ** 2, labels == 1)),
        ('s', logits, lambda x: F.pixel_cross_entropy(x, labels, labels != 255)),
        ('s2c', cam, lambda x: F.activation_consistency_loss(x, bg, probs, 0.5)),
        ('u', logits, lambda x: F.segmentation_consistency_loss(x, probs, 0.3)),
    ):
        inputs = inputs.clone().requires_grad_()
        differentiate(found, name, loss(inputs), inputs)
    mutual_losses(found, labels)


def mutual_losses(found, labels):
    """Those of RML, with different shares of pairs, pictures and positions on the ranks."""
    pairs = F.pair_labels(labels[:, ::2, ::2], radius=2)
    maps, others = shares(*torch.rand(2, BATCH, 3, SIZE, SIZE))
    affinity, teacher = shares(*torch.rand(2, BATCH, SIZE * 2, SIZE * 2))
    valid = labels != 255  # no position at all in the first picture
    near = valid[:, ::2, ::2].flatten(1)
    for name, inputs, loss in (
        ('affinity', affinity, lambda x: F.affinity_loss(x, pairs)),
        ('map_distance', maps, lambda x: F.map_distance(x, others[..., ::2, ::2], valid[:, None, ::2, ::2])),
        ('spatial_kl', maps, lambda x: F.mutual_spatial_kl(x, others, 0.5, valid)),
        ('affinity_kl', affinity, lambda x: F.mutual_affinity_kl(x, teacher, near)),
    ):
        inputs = inputs.clone().requires_grad_()
        differentiate(found, name, loss(inputs), inputs)


def contrast(found):
    """Three steps of each rule, the later ones with keys of the earlier."""
    found['bank'], found['contrast'] = {}, {}
    small_bank = MemoryBank(K, DIM, 10)
    for rule, step in itertools.product(F.QUERY_RULES, (1, 2, 3)):
        bank = found['bank'].setdefault(rule, MemoryBank(K, DIM, 1000))
        student, teacher = torch.randn(2, BATCH, DIM, SIZE, SIZE)
        teacher[..., 0] = torch.arange(BATCH).view(-1, 1, 1)  # tells the picture, hence the rank
        probs = torch.randn(BATCH, K, SIZE, SIZE).mul(2).softmax(dim=1)
        pseudo, labels = probs.argmax(dim=1), (torch.rand(BATCH, K - 1) < 0.5).float()
        pseudo[-1] = 255  # the last rank has fewer queries
        pseudo[:, ::3] = 255
        student, *batch = shares(student, teacher, probs, pseudo, labels)
        student = student.clone().requires_grad_()
        # Only the generator of rank 0 counts.
        generator = torch.Generator().manual_seed(step + 100 * F.rank())
        options = dict(generator=generator, low_rank=1, high_rank=3, query_rule=rule)
        terms = F.contrastive_terms(student, *batch, bank, 0.4, **options)
        differentiate(found, f'{rule}{step}', terms.loss, student)
        found['contrast'][rule, step] = terms._asdict()
        teacher_number = torch.arange(BATCH).float().view(-1, 1, 1, 1).expand(-1, DIM, SIZE, SIZE)
        batch[0] = shares(teacher_number)[0]
        F.contrastive_loss(student, *batch, small_bank, 0.4, **options)
    found['bank'] = {rule: bank.state_dict() for rule, bank in found['bank'].items()}
    found['small_bank'] = small_bank.state_dict()
    found['small_bank_origins'] = (torch.cat([small_bank.keys(c) for c in range(K)]) >= BATCH / 2).float().mean().item()


def few_classes(found):
    """Each rank's pictures have one class: not zero if it is another one on the other rank."""
    student, teacher = torch.randn(2, BATCH, DIM, SIZE, SIZE)
    probs, labels = torch.full((BATCH, K, SIZE, SIZE), 0.1), torch.ones(BATCH, K - 1)
    probs[: BATCH // 2, 1] = probs[BATCH // 2 :, 2] = 1 - 0.1 * (K - 1)
    found['few_classes'] = {}
    for name, second in (('apart', 2), ('alike', 1), ('alone', 255)):
        bank = MemoryBank(K, DIM, 500)
        bank.enqueue(torch.randn(9 * K, DIM), torch.arange(9 * K) % K)  # negatives are there
        pseudo = torch.ones(BATCH, SIZE, SIZE, dtype=torch.long)
        pseudo[BATCH // 2 :] = second
        inputs, *batch = shares(student, teacher, probs, pseudo, labels)
        inputs = inputs.clone().requires_grad_()
        generator = torch.Generator().manual_seed(1)
        terms = F.contrastive_terms(inputs, *batch, bank, 0.0, query_confidence=0.05, generator=generator)
        (gradient,) = torch.autograd.grad(terms.loss, inputs)
        found['few_classes'][name] = terms.num_classes, terms.loss.detach(), gradient.abs().sum()


def stop(found):
    class Model(CAMClassifier):
        def __init__(self):
            torch.nn.Module.__init__(self)

    value = torch.tensor(torch.nan if F.rank() == 1 else 1.0)
    try:
        Model().parse_losses(dict(loss_a=torch.tensor(1.0), loss_b=value))
        found['stopped'] = None
    except NonFiniteLossError as error:
        found['stopped'] = str(error)


@MODELS.register_module()
class TwoConvs(torch.nn.Module):
    """Backbone of 8 channels at a half and a quarter of the size, with SyncBN after the first convolution."""

    def __init__(self):
        super().__init__()
        self.low, self.high = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Conv2d(8, 8, 3, 2, 1)
        self.norm = build_norm_layer(dict(type='SyncBN'), 8)[1]

    def forward(self, inputs):
        low = self.norm(self.low(inputs)).relu()
        return low, self.high(low).relu()


def csrm_config():
    """Config and terms of CSRM."""
    head = dict(in_channels=8, in_index=1, channels=8, dilations=(1, 2), c1_in_channels=8, c1_channels=4)
    head['norm_cfg'] = dict(type='SyncBN')
    config = dict(
        type='CSRM',
        backbone=dict(type='TwoConvs'),
        decode_head=dict(type='DepthwiseSeparableASPPHead', num_classes=K, dropout_ratio=0.1, **head),
        cam_head=dict(type='CAMHead', in_channels=8, num_classes=K - 1),
        representation_head=dict(type='RepresentationHead', embed_dims=DIM, **head),
        loss_c=dict(type='MultiLabelSoftMarginLoss'),
        loss_s=dict(type='PseudoLabelLoss'),
        pseudo_label=dict(fg_threshold=0.6, bg_threshold=0.3, crf=None),
        reliability=dict(alpha=0.5),
    )
    terms = dict(
        loss_s2c=dict(type='ActivationConsistencyLoss'),
        loss_u=dict(type='SegmentationConsistencyLoss'),
        loss_m=dict(type='PixelContrastLoss', query_confidence=0.1),
    )
    return config, terms


def rml_config():
    """Config and terms of RML on the same backbone."""
    config = dict(
        type='RML',
        backbone=dict(type='TwoConvs'),
        cam_head=dict(type='CAMHead', in_channels=8, num_classes=K - 1, pooling='max'),
        affinity_head=dict(type='AttentionAffinityHead', in_channels=8, embed_dims=8, num_heads=2),
        context_head=dict(type='ContextHead', in_channels=[8, 8], channels=3, norm_cfg=dict(type='SyncBN')),
        loss_c=dict(type='MultiLabelSoftMarginLoss'),
        pseudo_label=dict(par=dict(iterations=1, dilations=[1])),
        view_scale=0.5,
    )
    terms = dict(
        loss_instance=dict(type='InstanceMutualLoss'),
        loss_feature=dict(type='FeatureMutualLoss'),
        loss_pixel=dict(type='PixelMutualLoss'),
    )
    return config, terms


def train(found):
    """Three steps, one of them in the warm-up, of each method with all terms and with all but each."""
    found['trained'], found['drawn'] = {}, {}
    for config, terms in (csrm_config(), rml_config()):
        for absent in (None, *terms):
            key = config['type'], absent
            wanted = config | {name: term for name, term in terms.items() if name != absent}
            with recorded(F, 'class_mix', found['drawn'].setdefault(key, [])):
                found['trained'][key] = train_model(wanted, seed=5 + F.rank())


def train_alike(found):
    """The same of CSRM with nothing drawn: what one process does with the whole batch is to be seen."""
    config, terms = csrm_config()
    config['decode_head']['dropout_ratio'] = 0
    config['representation_head']['dropout_ratio'] = 0
    del terms['loss_m']
    found['alike'] = train_model(config | terms | dict(mix_prob=0.0), seed=5)


def train_model(config, seed):
    """State of a model after three steps with this rank's share of the batch; `seed` is what its weights come from."""
    torch.manual_seed(7)
    pictures = torch.randn(BATCH, 3, 16, 16) * torch.arange(1, BATCH + 1).view(-1, 1, 1, 1)
    multi_hot = (torch.rand(BATCH, K - 1) < 0.6).float()
    torch.manual_seed(seed)
    model = network = MODELS.build(config)
    model.init_weights()
    if F.world_size() > 1:
        model = CPUDistributedDataParallel(model)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.05))
    for factor in (0.0, 1.0, 1.0):
        network.warmup_factor = factor
        samples = [SegDataSample() for _ in shares(pictures)[0]]
        for sample, labels in zip(samples, shares(multi_hot)[0]):
            sample.set_field(LabelData(multi_hot=labels), 'gt_image_labels', dtype=LabelData)
        model.train_step(dict(inputs=shares(pictures)[0], data_samples=samples), wrapper)
        if config['type'] == 'CSRM':
            network.update_teacher(0.5)
    return {name: value.clone() for name, value in network.state_dict().items()}


@contextlib.contextmanager
def recorded(module, name, results):
    """Add what a function gives to a list."""
    function = getattr(module, name)

    def record(*args, **kwargs):
        results.append(function(*args, **kwargs))
        return results[-1]

    setattr(module, name, record)
    yield
    setattr(module, name, function)


def main(path):
    if os.environ['WORLD_SIZE'] != '1':
        dist.init_process_group('gloo')
    found = dict(losses={}, gradients={})
    for part in (reliability, losses, contrast, few_classes, stop, train, train_alike):
        torch.manual_seed(0)
        if part is train and F.world_size() == 1:
            continue
        part(found)
    torch.save(found, path)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == '__main__':
    main(sys.argv[1])
