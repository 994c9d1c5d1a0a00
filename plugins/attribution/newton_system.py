"""The reduced Newton matrix of BROJA's dual, factorised by blocks.

    H = sum_ij G_ij' [diag(A_ij e_ij) + (A_ij / s_ij) e_ij e_ij'] G_ij        G_ij picks (lambda_i., mu_j.)

Its two diagonal quarters are block-diagonal, one ny x ny block per symbol, so the quarter of source 1 is eliminated
block by block and only the quarter of source 2 needs a dense factor. It is the Cholesky factorisation of H with its
zeros skipped: a matrix product of side n2 ny carries most of the work instead of a factorisation of (n1 + n2) ny.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_RIDGE = 1e-13
LAST_RIDGE = 1.0


class NewtonSystem:
    """Factorised H; calling it solves for (d lambda, d mu).

    Args:
        A, s: multipliers and slacks, [b, n1, n2]. e: exp(lambda + mu), [b, n1, n2, ny].
        free_1, free_2: 1 for the entries that move, [b, n1, ny] and [b, n2, ny]; the others get a step of zero.
    """

    def __init__(self, A: Tensor, s: Tensor, e: Tensor, free_1: Tensor, free_2: Tensor) -> None:  # noqa: N803
        weighted = (A / s).sqrt()[..., None] * e
        coupling = A[..., None] * e
        mass_1, mass_2 = coupling.sum(dim=2), coupling.sum(dim=1)
        square = weighted.square()
        # Jacobi scaling: the diagonal of what is factorised is one; entries that do not move have scale zero.
        self.scale_1 = (square.sum(dim=2) + mass_1).clamp_min(1e-300).rsqrt() * free_1
        self.scale_2 = (square.sum(dim=1) + mass_2).clamp_min(1e-300).rsqrt() * free_2
        factor_1, factor_2 = weighted * self.scale_1[:, :, None, :], weighted * self.scale_2[:, None, :, :]
        self.within_1 = _block(factor_1, mass_1 * self.scale_1.square() + 1.0 - free_1)
        self.within_2 = _block(factor_2.transpose(1, 2), mass_2 * self.scale_2.square() + 1.0 - free_2)
        across = factor_1.transpose(2, 3)[..., None] * factor_2[:, :, None, :, :]  # [b, n1, ny, n2, ny]
        across.diagonal(dim1=2, dim2=4).add_(coupling * self.scale_1[:, :, None, :] * self.scale_2[:, None, :, :])
        self.across = across.flatten(3)  # [b, n1, ny, n2 ny]
        self._factorise()

    def __call__(self, right_1: Tensor, right_2: Tensor, *, refine: bool) -> tuple[Tensor, Tensor]:
        """Solve H (step_1, step_2) = (right_1, right_2), [b, n1, ny] and [b, n2, ny].

        Args:
            refine: add one step of iterative refinement.
        """
        right_1, right_2 = (right_1 * self.scale_1)[..., None], (right_2 * self.scale_2)[..., None]
        step_1, step_2 = self._solve(right_1, right_2)
        if refine:
            flat = self.across.flatten(1, 2)
            image_1 = self.within_1 @ step_1 + (flat @ step_2.flatten(1, 2)).view_as(step_1)
            image_2 = self.within_2 @ step_2 + (flat.mT @ step_1.flatten(1, 2)).view_as(step_2)
            more_1, more_2 = self._solve(right_1 - image_1, right_2 - image_2)
            step_1, step_2 = step_1 + more_1, step_2 + more_2
        return step_1[..., 0] * self.scale_1, step_2[..., 0] * self.scale_2

    def _factorise(self) -> None:
        """Cholesky with the smallest ridge that succeeds for each item, from 1e-13."""
        batch, n2, ny = self.scale_2.shape
        ridge = self.scale_2.new_full((batch, 1, 1), FIRST_RIDGE)
        while True:
            blocks = self.within_1.clone()
            blocks.diagonal(dim1=2, dim2=3).add_(ridge)
            self.factor_1, failed_1 = torch.linalg.cholesky_ex(blocks)
            self.half = torch.linalg.solve_triangular(self.factor_1, self.across, upper=False).flatten(1, 2)
            rest = self.half.mT @ self.half
            rest.neg_()
            quarter = rest.view(batch, n2, ny, n2, ny).diagonal(dim1=1, dim2=3)  # [b, ny, ny, n2]
            quarter.add_(self.within_2.permute(0, 2, 3, 1))
            rest.diagonal(dim1=1, dim2=2).add_(ridge[..., 0])
            self.factor_2, failed_2 = torch.linalg.cholesky_ex(rest)
            failed = failed_1.any(dim=1) | (failed_2 > 0)
            if not failed.any() or ridge.max() > LAST_RIDGE:
                return
            ridge = torch.where(failed[:, None, None], ridge * 100.0, ridge)

    def _solve(self, right_1: Tensor, right_2: Tensor) -> tuple[Tensor, Tensor]:
        """With right_1 [b, n1, ny, 1] and right_2 [b, n2, ny, 1], scaled."""
        forward = torch.linalg.solve_triangular(self.factor_1, right_1, upper=False)
        rest = right_2.flatten(1, 2) - self.half.mT @ forward.flatten(1, 2)
        rest = torch.linalg.solve_triangular(self.factor_2, rest, upper=False)
        step_2 = torch.linalg.solve_triangular(self.factor_2.mT, rest, upper=True)
        backward = forward - (self.half @ step_2).view_as(forward)
        return torch.linalg.solve_triangular(self.factor_1.mT, backward, upper=True), step_2.view_as(right_2)


def _block(factor: Tensor, diagonal: Tensor) -> Tensor:
    """sum_j f_ij f_ij' + diag, [b, n, ny, ny], from factors [b, n, m, ny]."""
    block = factor.mT @ factor
    block.diagonal(dim1=2, dim2=3).add_(diagonal)
    return block
