"""backbones: the networks that the three vision algorithms stand on, and where their first weights come from.

    rectified.py normalisation, sum and ReLU in one, compiled for CPUs
    resnet.py    residual networks (He et al., 2015)
    vgg.py       VGG-16 without its classifier (Simonyan and Zisserman, 2014), as SSD uses it
    pixels.py    bytes of pictures to what a network reads
    weights.py   files of published weights

All but weights.py import torch at once: import them inside the functions that train or answer.
"""
