"""Explain the headings and words of the page, as texts that appear when the mouse rests on them."""

#: sentences about headings, by their words without an interval
GLOSSARY = {
    "accuracy": "Share of images that the decision rule gets right, over all score draws of an image.",
    "over noise": "95 % interval over fresh draws of the noise, for these images: more draws narrow it.",
    "single draw": "Accuracy of one draw of the noise: what one answer of the classifier is worth.",
    "undecided": "Share of images that a single draw classifies correctly between 5 and 95 % of the time.",
    "passes/image": "Number of forward passes, each with one draw, that the attack used for each image.",
    "perturbation": "What was done to the images before they were scored.",
    "control eps 0": "The attack without a budget: its row must equal the clean row exactly.",
    "distance": "Distance at which images are fooled: median, and quartiles in parentheses.",
    "in target": "Share of the images of other classes whose prediction is the target of the attack.",
    "left out": "Number of images that are of the target class already.",
    "bad gradients": "Share of images with gradients that an attack cannot follow, at least once.",
    "batch-dependent": "Change of logits that other images of a batch make, relative to the largest logit.",
    "random point": "Accuracy at random points of the ball, over perturbations and noise together.",
    "certified": "Share of images whose decision is proven right for every perturbation within the radius.",
    "attacked": "Accuracy under the attack within the same radius: an upper bound.",
    "gap": "Accuracy under attack less certified accuracy, in points.",
    "mean radius": "Mean over images of the proven L2 radius, 0 where the decision is wrong or left open.",
    "abstained": "Share of images about which nothing is proven.",
    "draws/image": "Mean number of draws of noise that the certificate of an image took.",
    "found from": "Smallest difference, in points, that 80 % of such tables would have found.",
    "p": "p-value of the exact paired test, adjusted for all tests of the table (Holm).",
    "its p": "p-value of the exact paired test of single draws, adjusted for all tests of the table (Holm).",
    "mCE": "Mean corruption error: errors divided by those of the reference.",
    "ECE": "Expected calibration error of the mean probability.",
}


def explained(heading: str) -> str:
    """Return the sentence about a heading like ``accuracy (95 %)`` or a cell; empty if it explains itself."""
    words = heading.partition(" (")[0].removesuffix(", %")
    if words.startswith("survives "):
        return "Accuracy of single draws if each image may be submitted so many times."
    if words.startswith("reaches "):
        return "Share of images whose accuracy at random points is at least this, beyond chance."
    return GLOSSARY.get(words, "")
