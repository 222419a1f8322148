"""Has robustness regressed? Two runs compared image by image, with a verdict for every cell."""
