"""Muon for matrices and convolutions: momentum, then the update is made orthogonal (Newton-Schulz), so that every
direction of a weight learns at the same pace. A convolution counts as a matrix [out, in x taps]."""
import torch

import common


def orthogonal(g, steps):
    x = g.to(torch.bfloat16 if common.BF16 else torch.float32)
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """lr has AdamW's scale (the update's root mean square is 0.2 lr)."""
    def __init__(self, params, lr=1e-3, momentum=.95, weight_decay=.01, steps=5):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, steps=steps))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group['params']:
                if p.grad is None:
                    continue
                s = self.state[p]
                if not s:
                    s['momentum'] = torch.zeros_like(p)
                m = s['momentum'].lerp_(p.grad, 1 - group['momentum'])
                g = p.grad.lerp(m, group['momentum'])
                flat = g.reshape(g.shape[0], -1)
                u = orthogonal(flat, group['steps']).view(g.shape) * (.2 * max(flat.shape) ** .5)
                p.mul_(1 - group['lr'] * group['weight_decay']).add_(u, alpha=-group['lr'])
