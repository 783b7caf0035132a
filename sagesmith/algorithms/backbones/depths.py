"""depths: which residual networks there are, without torch, so that hyperparameters can be checked at no cost."""

from __future__ import annotations

# Blocks of each stage, by depth: He et al. 2015, table 1; 200: He et al., Identity Mappings, 2016.
LARGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
BOTTLENECK_FROM = 50  # depths from which on the blocks are bottlenecks
SMALL = (20, 32, 44, 56, 110)  # 6n+2 layers, section 4.2
SMALL_PIXELS = 32  # pictures up to this height and width get a form without the stem that divides them by four
