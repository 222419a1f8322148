"""Write the files of a gate for somebody's own repository: suite, policy and workflow, as texts."""

from collections.abc import Sequence

from robustbench_sde.storage.files import to_yaml

#: files of a gate, from the folder of the repository
SUITE = "robustness/suite.yaml"
POLICY = "robustness/policy.yaml"
BASELINE = "robustness/baseline.json"
WORKFLOW = ".github/workflows/robustness.yml"
#: folder of the run that is compared with the baseline; reports/ is not committed
RUN = "reports/gate"

_CHECKOUT = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2"
_PYTHON = "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0"
_CACHE = "actions/cache@5a3ec84eff668545956fd18022155c47e93e2684 # v4.2.3"
_UPLOAD = "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2"


def suite_text(
    checkpoints: Sequence[str],
    *,
    dataset: str,
    data_dir: str | None,
    images: int | None,
    attacks: Sequence[str],
    norm: str,
    eps: Sequence[float],
) -> str:
    """Return a suite: every checkpoint on clean images, under the attacks, and under two corruptions."""
    budgets = [_budget(each) for each in eps]
    spec = {
        "description": "What the gate measures; docs/suites.md explains the keys.",
        "dataset": dataset,
        **({} if data_dir is None else {"data_dir": data_dir}),
        "images": images,
        "checkpoints": list(checkpoints),
        "score_draws": 16,
        "perturbations": [
            *(
                {"attack": name, "norm": norm, "eps": budgets if len(budgets) > 1 else budgets[0]}
                | ({"steps": 10, "eot_draws": 4} if name == "pgd" else {})
                for name in attacks
            ),
            {"corruption": ["gaussian_noise", "fog"], "severity": 3},
        ],
    }
    return to_yaml(spec)


def _budget(eps: float) -> float | str:
    """Return a budget as people write it: ``8/255`` where the decimal is long."""
    grey = round(255 * eps)
    return f"{grey}/255" if len(f"{eps:g}") > 5 and abs(255 * eps - grey) < 1e-6 else eps


def policy_text(max_drop: float) -> str:
    """Return a policy with one limit for all cells, and examples of others as comments."""
    return (
        "# Limits of the gate; docs/ci.md explains them.\n"
        f"max_drop: {max_drop:g}   # largest drop of an accuracy that is tolerated, as a share\n"
        "alpha: 0.05      # probability of a false verdict over the whole comparison\n"
        "# cells:          # other limits for some cells\n"
        '#   - match: "* clean"\n'
        "#     max_drop: 0.01\n"
    )


def gitignore_text(present: str) -> str:
    """Return the `.gitignore` with a line for the folder of runs; `present` is its text now."""
    if any(line.strip() in ("reports", "reports/", "/reports", "/reports/") for line in present.splitlines()):
        return present
    ended = present if not present or present.endswith("\n") else present + "\n"
    return f"{ended}reports/\n"


def workflow_text(requirement: str, *, dataset: str, data_dir: str | None) -> str:
    """Return a workflow of GitHub Actions that measures, compares, comments and keeps the tables.

    Args:
        requirement: what `pip install` takes, with its revision, like ``git+https://...@<commit>``.
        dataset: name of the data set; all but the embedded digits are downloaded and cached.
        data_dir: folder of the files of the data set; None: the usual one.
    """
    local = dataset.partition(":")[0] == "digits" or ":" in dataset
    place = data_dir or "~/.cache/sde-bench-data"
    cache = (
        ""
        if local
        else f"""
      - uses: {_CACHE}
        with:
          path: {place}
          key: sde-bench-data-{dataset}"""
    )
    download = "" if local else " --download"
    return f"""# Has robustness regressed? Written by `sde-bench gate init`; docs/ci.md explains it.
name: robustness
on:
  push:
    branches: [main]
  pull_request:
permissions:
  contents: read
  pull-requests: write # for the comment
jobs:
  gate:
    runs-on: ubuntu-latest
    timeout-minutes: 60
    steps:
      - uses: {_CHECKOUT}
      - uses: {_PYTHON}
        with:
          python-version: "3.12"
          cache: pip
          cache-dependency-path: {WORKFLOW}{cache}
      - name: Install PyTorch for CPUs, then sde-bench at a fixed revision
        run: |
          pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu
          pip install "{requirement}"
      - name: Measure
        run: sde-bench run {SUITE} --name gate --force --no-cache --quiet{download}
      - name: Compare with the baseline
        run: >-
          sde-bench compare {BASELINE} {RUN} --policy {POLICY} --markdown
          --comment reports/comment.md --badge reports/badge.json --junit-xml reports/gate.xml
      - name: Comment on the pull request
        if: >-
          always() && github.event_name == 'pull_request' &&
          github.event.pull_request.head.repo.full_name == github.repository
        env:
          GH_TOKEN: ${{{{ github.token }}}}
          NUMBER: ${{{{ github.event.pull_request.number }}}}
        run: >-
          test ! -f reports/comment.md ||
          gh pr comment "$NUMBER" --edit-last --create-if-none --body-file reports/comment.md
      - uses: {_UPLOAD}
        if: always()
        with:
          name: robustness
          path: reports/
"""
