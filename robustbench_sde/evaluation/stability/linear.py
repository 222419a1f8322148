"""Linearise a map at given states: products with its Jacobian, largest eigen- and singular values.

States are (draws, images, ...), and a row (draw, image) of the map depends on that row alone, so that one
product serves all rows at once.
"""

from collections.abc import Callable

import torch
from torch import Tensor

#: Products with an operator in one `largest_eigenvalue`: enough for L of the shipped networks to 0.01 %, and
#: for mu, near which there are other eigenvalues, to 2 %.
ITERATIONS = 15


class Linearised:
    """A map at given states: its value there, and both products with its Jacobian.

    v -> J v is the derivative of the linear map u -> J^T u (two reverse passes, the graph built once): faster
    than forward differentiation of these networks, and the same to rounding.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], at: Tensor) -> None:
        with torch.enable_grad():
            self._at = at.detach().requires_grad_()
            self._end = function(self._at)
            self._constant = not self._end.requires_grad
            if not self._constant:
                self._cotangent = torch.zeros_like(self._end, requires_grad=True)
                (self._pulled,) = torch.autograd.grad(self._end, self._at, self._cotangent, create_graph=True)
        #: value of the map
        self.value = self._end.detach()

    def jvp(self, v: Tensor) -> Tensor:
        """Return J v, in the shape of `value`; v has the shape of the states."""
        if self._constant:
            return torch.zeros_like(self.value)
        product: Tensor
        (product,) = torch.autograd.grad(self._pulled, self._cotangent, v, retain_graph=True)
        return product

    def vjp(self, u: Tensor) -> Tensor:
        """Return J^T u, in the shape of the states; u has the shape of `value`."""
        if self._constant:
            return torch.zeros_like(self._at)
        product: Tensor
        (product,) = torch.autograd.grad(self._end, self._at, u, retain_graph=True)
        return product

    def largest_singular_value(self, start: Tensor, iterations: int = ITERATIONS) -> Tensor:
        """Return the operator norm of J for each row, by `largest_eigenvalue` of J^T J: (draws, images)."""
        squared = largest_eigenvalue(lambda v: self.vjp(self.jvp(v)), start, iterations)
        return squared.clamp(min=0).sqrt()

    def largest_symmetric_eigenvalue(self, start: Tensor, iterations: int = ITERATIONS) -> Tensor:
        """Return the largest eigenvalue of (J + J^T) / 2 for each row: (draws, images) float64."""
        return largest_eigenvalue(lambda v: (self.jvp(v) + self.vjp(v)) / 2, start, iterations)


def norms(rows: Tensor) -> Tensor:
    """Return the Euclidean norm of each row: (draws, images, ...) to (draws, images) float64."""
    lengths: Tensor = torch.linalg.vector_norm(rows.flatten(2).double(), dim=2)
    return lengths


def normalised(rows: Tensor) -> Tensor:
    """Scale each row to length 1; zeros stay zeros."""
    factor = 1 / norms(rows).clamp_min(torch.finfo(torch.float64).tiny)
    return rows * factor.to(rows.dtype).view(*factor.shape, *[1] * (rows.ndim - 2))


def largest_eigenvalue(product: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Tensor:
    """Return the largest eigenvalue of a symmetric operator for each row: (draws, images) float64.

    Lanczos with full reorthogonalisation: power iteration that keeps all its iterates and takes the best
    vector of their span. The result is a lower bound, and never below that of power iteration with as many
    products.

    Args:
        product: function from (draws, images, ...) to the operator's product with each row.
        start: (draws, images, ...) random; no row is zero.
        iterations: largest number of products; no more are made than a row has entries.
    """
    size = min(iterations, start[0, 0].numel())
    q = normalised(start).flatten(0, 1).flatten(1)  # (rows, entries)
    basis = q.new_zeros(len(q), size, q.shape[1])
    matrix = torch.zeros(len(q), size, size, dtype=torch.float64, device=q.device)
    live = torch.ones(len(q), 1, dtype=torch.bool, device=q.device)
    for column in range(size):
        basis[:, column] = q
        w = product(q.view_as(start)).reshape(q.shape)
        quotient = (q * w).double().sum(1, keepdim=True)
        # a row whose space is exhausted repeats its first quotient, which is at most the largest eigenvalue
        repeated = torch.where(live, quotient, matrix[:, :1, 0]) if column else quotient
        matrix[:, column, column] = repeated[:, 0]
        if column + 1 < size:
            length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
            for _ in range(2):  # once loses orthogonality to rounding
                w = w - (basis.mT @ (basis @ w.unsqueeze(2))).squeeze(2)
            rest = torch.linalg.vector_norm(w, dim=1, keepdim=True)
            live = live & (rest > 100 * torch.finfo(q.dtype).eps * length)
            q = torch.where(live, w / rest, 0.0)
            beside = torch.where(live, rest, 0.0).double()[:, 0]
            matrix[:, column, column + 1] = matrix[:, column + 1, column] = beside
    eigenvalues: Tensor = torch.linalg.eigvalsh(matrix)
    return eigenvalues[:, -1].view(start.shape[:2])
