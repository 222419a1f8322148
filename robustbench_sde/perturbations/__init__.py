"""Attacks and corruptions: from images to perturbed images, and no claim about what they do."""
