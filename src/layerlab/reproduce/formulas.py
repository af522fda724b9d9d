r"""What each claim says as a formula, in TeX: set on the page above the words of its statement.

The words of the register remain what is claimed: they define the symbols and say what is measured. A false statement
("-as-printed") stands here as it is printed.
"""

from __future__ import annotations

FORMULAS: dict[str, str] = {
    # ------------------------------------------------------------ gradients
    "gradflow.sigmoid-chain": (
        r"\left|\frac{\partial f}{\partial x}\right| \le \prod_{i=1}^{n} \frac{|w_i|}{4}, \qquad "
        r"h_i = \sigma(w_i h_{i-1} + b_i)"
    ),
    "gradflow.tanh-chain": (
        r"\left|\frac{\partial f}{\partial x}\right| \le \prod_{i=1}^{n} |w_i|, \qquad h_i = \tanh(w_i h_{i-1} + b_i)"
    ),
    "gradflow.relu-chain": (
        r"\frac{\partial f}{\partial x} = \prod_{i=1}^{n} w_i \, 1(w_i h_{i-1} + b_i > 0), \qquad "
        r"h_i = \mathrm{ReLU}(w_i h_{i-1} + b_i)"
    ),
    "gradflow.rnn-tanh": (
        r"\sigma_{\max}\left(\frac{\partial x_n}{\partial x_1}\right) \le \sigma_{\max}(W)^{n-1}, \qquad "
        r"x_{t+1} = \tanh(W x_t + b_t)"
    ),
    "gradflow.rnn-sigmoid": (
        r"\sigma_{\max}\left(\frac{\partial x_n}{\partial x_1}\right) \le "
        r"\left(\frac{\sigma_{\max}(W)}{4}\right)^{n-1}, \qquad x_{t+1} = \sigma(W x_t + b_t)"
    ),
    "gradflow.sigmoid-layer": (
        r"\sigma_{\max}\left(\frac{\partial S(a)}{\partial a}\right) = \max_i S'(a_i) = "
        r"\frac{1}{4} - \min_i \left(S(a_i) - \frac{1}{2}\right)^2"
    ),
    "gradflow.sigmoid-layer-as-printed": (
        r"\sigma_{\max}\left(\frac{\partial S(W x_t)}{\partial (W x_t)}\right) = \frac{1}{4}"
    ),
    "gradflow.product": (
        r"\sigma_{\max}(A B) \le \sigma_{\max}(A) \, \sigma_{\max}(B), \qquad "
        r"\sigma_{\max}\left(\frac{\partial f}{\partial x}\right) \le \prod_{l=1}^{n} \sigma_{\max}(J_l)"
    ),
    "gradflow.lipschitz-chain": (
        r"\sigma_{\max}\left(\frac{\partial x_n}{\partial x_0}\right) \le "
        r"\prod_{l=1}^{n} L_l \, \sigma_{\max}(W_l), \qquad |\varphi_l'| \le L_l"
    ),
    "gradflow.attained": (
        r"\sigma_{\max}\left(\frac{\partial x_n}{\partial x_0}\right) = \prod_{l=1}^{n} L_l \, s_l, \qquad "
        r"W_l = s_l Q_l, \quad Q_l^\top Q_l = I"
    ),
    "gradflow.underflow": (
        r"4^{-n} \ge 2^{-126} \iff n \le 63, \qquad \mathrm{fl}(4^{-n}) = 0 \iff n \ge 75 \quad \text{(float32)}"
    ),
    # ------------------------------------------------------------ attention
    "attention.kernel-linear": (
        r"\frac{\sum_j \varphi(q_i)^\top \varphi(k_j) \, v_j}{\sum_j \varphi(q_i)^\top \varphi(k_j)} = "
        r"\frac{\varphi(q_i)^\top \sum_j \varphi(k_j) \, v_j^\top}{\varphi(q_i)^\top \sum_j \varphi(k_j)}"
    ),
    "attention.kernel-linear-cost": r"4 n k e + 2 n k = O(n) \quad \text{operations}",
    "attention.softmax-cost": (
        r"\mathrm{softmax}\left(\frac{q k^\top}{\sqrt{d}}\right) v: \quad 2 n^2 (d + e) = O(n^2) "
        r"\quad \text{operations}"
    ),
    "attention.kernel-recurrent": (
        r"S_i = S_{i-1} + \varphi(k_i) \, v_i^\top, \quad z_i = z_{i-1} + \varphi(k_i), \quad "
        r"y_i = \frac{\varphi(q_i)^\top S_i}{\varphi(q_i)^\top z_i}"
    ),
    "attention.kernel-sign-as-printed": r"\varphi(x)^\top \varphi(y) \ge 0 \quad \text{for every } \varphi, x, y",
    "attention.kernel-denominator-as-printed": (
        r"y_i = \frac{\sum_j \mathrm{sim}(q_i, k_j) \, v_j}{\sum_j \mathrm{sim}(q_i, k_j)} \quad "
        r"\text{for every } \mathrm{sim} \ge 0"
    ),
    "attention.low-rank-svd": r"P v = (U S V^\top) v = U \left(S (V^\top v)\right)",
    "attention.low-rank-cost": (r"U \left(S (V^\top v)\right): \quad 4 n k e = O(n) \quad \text{operations}"),
    "attention.low-rank-svd-as-printed": (
        r"P v = [u_1 \cdots u_k]^\top M_2, \qquad M_2 = S (V^\top v) \in \mathbb{R}^{k \times d}"
    ),
    "attention.projection": r"P v = Q (C K)^\top (D v), \qquad C = D = V_k^\top",
    "attention.projection-cost": (
        r"\left(Q (C K)^\top\right) (D V): \quad 4 n k (d + e) = O(n) \quad \text{operations}"
    ),
    "attention.eckart-young": r"\|P v - P_k v\|_F \le \sigma_{k+1}(P) \, \|v\|_F",
    "attention.eckart-young-floor": (
        r"\sigma_{\max}(P - B) \ge \sigma_{k+1}(P) \quad \text{for every } B \text{ with } \mathrm{rank}\, B \le k"
    ),
    "attention.full-rank-causal": r"P_{ij} = 0 \; (j > i), \quad P_{ii} > 0 \implies \mathrm{rank}\, P = n",
    "attention.conv1d": r"\sum_{\text{heads}} y_i = \sum_t w_t \, x_{i-t}, \qquad p_t = \log |w_t|",
    "attention.conv1d-edges-as-printed": r"p_1 = \log 2, \; p_{-1} = 0, \; W_V = 3 \implies y_{n-1} = 2 x_{n-2}",
    "attention.conv1d-shift-as-printed": (
        r"p_1 = p_{-1} + \log 2, \; W_V = \sum_k e^{p_k} \implies y_i = 2 x_{i-1} + x_{i+1}"
    ),
    "attention.max-pool": r"0 \le \max_{|i - j| \le k} x_j - y_i \le \frac{\log(2 k + 1)}{c}",
    "attention.max-pool-sharp": (
        r"0 \le \max_{|i - j| \le k} x_j - y_i \le \frac{W(2 k / e)}{c}, \qquad W(z) \, e^{W(z)} = z"
    ),
    "attention.own-query-pool": (
        r"0 \le c^2 x_i \left(\max_{|i - j| \le k} x_j - y_i\right) \le W(2 k / e) \quad \text{where } x_i > 0"
    ),
    "attention.max-pool-as-printed": (
        r"y_i = \sum_j \frac{e^{c^2 x_i x_j}}{\sum_l e^{c^2 x_i x_l}} \, x_j \approx \max_{|i - j| \le k} x_j"
    ),
    "attention.max-pool-weights-as-printed": (
        r"\alpha_{ij} = s_i \, e^{c^2 x_i x_j}, \qquad s_i = \sum_j e^{x_i x_j}"
    ),
    # ----------------------------------------------------------- estimators
    "estimators.closed-form": (
        r"g_d = f(a) \, \frac{\partial \log p(a)}{\partial \theta_d} = a (1 - \mu) x_d, \qquad "
        r"\mu = \sigma(\theta^\top x)"
    ),
    "estimators.unbiased": (
        r"\mathbb{E}[g_d] = \mu (1 - \mu) x_d = \frac{\partial}{\partial \theta_d} \mathbb{E}[f(a)]"
    ),
    "estimators.unbiased-sampled": (
        r"\frac{1}{N} \sum_{s=1}^{N} g_1^{(s)} \approx \mu (1 - \mu) x_1, \qquad N = 200{,}000"
    ),
    "estimators.variance": r"\mathrm{Var}[g_1] = \mu (1 - \mu)^3 x_1^2",
    "estimators.variance-sampled": (
        r"\frac{1}{N} \sum_{s=1}^{N} \left(g_1^{(s)} - \bar{g}_1\right)^2 \approx \mu (1 - \mu)^3 x_1^2"
    ),
    "estimators.variance-largest": r"\arg\max_{\mu} \; \mu (1 - \mu)^3 = \frac{1}{4}",
    "estimators.hint-as-printed": r"\mathbb{E}[a^2] = \mu (1 - \mu)",
    "estimators.slow-learning": r"\frac{\mathrm{Var}[g_1]}{\mathbb{E}[g_1]^2} = \frac{1 - \mu}{\mu}",
    "estimators.baseline": (
        r"\mathrm{Var}\left[(f(a) - b) \frac{\partial \log p(a)}{\partial \theta_1}\right] = "
        r"\mu (1 - \mu) (1 - \mu - b)^2 x_1^2"
    ),
    "estimators.best-baseline": (
        r"b^* = \frac{\mathbb{E}\left[f \|s\|^2\right]}{\mathbb{E}\left[\|s\|^2\right]} = "
        r"1 - \mu, \qquad \mathrm{Var} = 0"
    ),
    "estimators.mean-baseline": (
        r"\mathrm{Var}_{b = \mu} > \mathrm{Var}_{b = 0} \iff |1 - 2 \mu| > 1 - \mu \iff \mu > \frac{2}{3}"
    ),
    "estimators.loo": (
        r"\mathbb{E}\left[\frac{1}{K} \sum_{i=1}^{K} "
        r"\left(f(x_i) - \frac{1}{K - 1} \sum_{j \ne i} f(x_j)\right) s(x_i)\right] = "
        r"\frac{\partial \mathbb{E}[f]}{\partial \text{logits}}"
    ),
    "estimators.loo-variance": (
        r"K \, \mathrm{Var}[\text{leave-one-out}] = \mathrm{Var}[h s] + "
        r"\frac{g^2 + \mathbb{E}[h^2] \, \mathbb{E}[s^2]}{K - 1}, \qquad h = f - \mathbb{E}[f], \; g = \mathbb{E}[h s]"
    ),
    "estimators.loo-not-above": (
        r"\frac{g_d^2 + \mathbb{E}[h^2] \, \mathbb{E}[s_d^2]}{K - 1} \le "
        r"\mathbb{E}[f] \left(2 \, \mathbb{E}[h s_d^2] + \mathbb{E}[f] \, \mathbb{E}[s_d^2]\right) \implies "
        r"\mathrm{Var}[\text{leave-one-out}_d] \le \mathrm{Var}[\text{REINFORCE}_d]"
    ),
    "estimators.arm": (
        r"\mathbb{E}_u\left[(f(b) - f(b')) \left(u_d - \frac{1}{2}\right)\right] = "
        r"\frac{\partial \mathbb{E}[f]}{\partial \text{logit}_d}"
    ),
    "estimators.disarm": (
        r"\mathbb{E}_u\left[\frac{1}{2} (f(b) - f(b')) (b_d - b'_d) \, \sigma(|\text{logit}_d|)\right] = "
        r"\frac{\partial \mathbb{E}[f]}{\partial \text{logit}_d}"
    ),
    "estimators.disarm-variance": (
        r"\mathrm{DisARM} = \mathbb{E}[\mathrm{ARM} \mid b, b'] \implies "
        r"\mathrm{Var}[\mathrm{DisARM}_d] \le \mathrm{Var}[\mathrm{ARM}_d]"
    ),
    # ----------------------------------------------------------- projection
    "projection.jl": (
        r"P\left(\text{some pair is off by more than } \varepsilon\right) \le "
        r"\frac{N (N - 1)}{2} \, P\left(\text{one pair is}\right)"
    ),
    "projection.chi-square": (
        r"P\left(\left|\frac{\|A x\|^2}{\|x\|^2} - 1\right| > \varepsilon\right) = "
        r"P\left(\left|\frac{\chi_n^2}{n} - 1\right| > \varepsilon\right)"
    ),
    "projection.classic-tail": (
        r"P\left(\left|\frac{\chi_n^2}{n} - 1\right| > \varepsilon\right) \le "
        r"2 \exp\left(-\frac{n}{2} \left(\frac{\varepsilon^2}{2} - \frac{\varepsilon^3}{3}\right)\right)"
    ),
    "projection.signs": (
        r"P\left(\left|\frac{\|A x\|^2}{\|x\|^2} - 1\right| > \varepsilon\right) \le "
        r"e^{-\frac{n}{2} (\varepsilon - \ln(1 + \varepsilon))} + "
        r"\min_h \left(1 - h + \frac{3 h^2}{2}\right)^n e^{n h (1 - \varepsilon)}"
    ),
    "projection.scikit-learn": (
        r"n_{\text{exact}} \le \left\lfloor \frac{4 \ln N}{\varepsilon^2 / 2 - \varepsilon^3 / 3} \right\rfloor"
    ),
    "projection.implied-failure": (
        r"n = \left\lfloor \frac{4 \ln N}{\varepsilon^2 / 2 - \varepsilon^3 / 3} \right\rfloor \implies "
        r"P(\text{failure}) \le 10 \, P\left(|Z| > \sqrt{4 \ln 5}\right)"
    ),
    "projection.eight-for-every-eps": (
        r"n \ge \frac{8 \ln N}{\varepsilon^2} \implies "
        r"\mathbb{E}\left[\text{pairs beyond } \varepsilon\right] < 1 \quad \text{for every } 0 < \varepsilon < 1"
    ),
    "projection.almost-orthogonal": (
        r"d = \left\lfloor e^{n \delta^2 / 72} \right\rfloor - 1 \quad \text{unit vectors with} \quad "
        r"\max_{i \ne j} |u_i^\top u_j| \le \delta"
    ),
    "projection.unit-vectors-as-printed": (r"u_i = \frac{M e_i}{\|M e_i\|^2} \implies \|u_i\| = 1"),
    "projection.counts": (
        r"\left\lfloor e^{n \delta^2 / 72} \right\rfloor - 1 \le \left\lfloor e^{n \delta^2 / 4} \right\rfloor"
    ),
    "projection.rademacher": r"P\left(\max_{i < j} |\cos| > \delta\right) \le N (N - 1) \, e^{-n \delta^2 / 2}",
    "projection.floors": (
        r"\max_{i \ne j} |\cos| \ge \left(\frac{N M_k - 1}{N - 1}\right)^{1 / (2 k)}, \qquad "
        r"\max_{i \ne j} |\cos| \ge \frac{1}{\sqrt{n}} \quad \text{for } N > \frac{n (n + 1)}{2}"
    ),
    "projection.refusal": r"\delta < \text{floor}(N, n) \implies \text{refused}",
    "projection.kerdock": r"N = n \left(\frac{n}{2} + 1\right), \qquad \max_{i \ne j} |\cos| = \frac{1}{\sqrt{n}}",
    # ---------------------------------------------------------------- graph
    "graph.quadratic-form": r"x^\top L x = \sum_{\{u, v\} \in E} w_{uv} (x_u - x_v)^2, \qquad L = D - A",
    "graph.lambda-min": r"L \succeq 0, \qquad \lambda_{\min}(L) = 0, \qquad L \mathbf{1} = 0",
    "graph.components": r"\dim \ker L = \#\,\text{components}",
    "graph.lambda-max": r"\lambda_{\max}\left(D^{-1/2} (D - A) D^{-1/2}\right) \le 2",
    "graph.adjacency-interval": r"\max_i |\lambda_i(\tilde{A})| \le 1, \qquad \tilde{A} = D^{-1/2} A D^{-1/2}",
    "graph.bipartite-two": r"\dim \ker(\mathcal{L} - 2 I) = \#\,\text{bipartite components with an edge}",
    "graph.leading-eigenvector": (
        r"\mathcal{L} v = 2 v, \quad y = D^{-1/2} v \implies y_u + y_v = 0 \quad \text{for every edge } \{u, v\}"
    ),
    "graph.leading-eigenvector-as-printed": (
        r"\mathcal{L} v = 2 v \implies v_u + v_v = 0 \quad \text{for every edge } \{u, v\}"
    ),
    "graph.power": r"\tilde{A}^K x = Q \Lambda^K Q^\top x",
    "graph.oversmoothing": r"\|d_{K+1}\| \le \rho \, \|d_K\|, \qquad d_K = \tilde{A}^K x - \Pi x - (-1)^K \Pi' x",
    "graph.oversmoothing-with-loops": (
        r"\|d_{K+1}\| \le \rho \, \|d_K\|, \qquad d_K = P^K x - \Pi x - (-1)^K \Pi' x, \quad "
        r"P = D^{-1/2} (A + I) D^{-1/2}"
    ),
    "graph.gat-coefficients": (
        r"\alpha_{ij} = \frac{\exp \mathrm{LeakyReLU}(a_l^\top W h_i + a_r^\top W h_j)}"
        r"{\sum_{m \in N(i)} \exp \mathrm{LeakyReLU}(a_l^\top W h_i + a_r^\top W h_m)}"
    ),
    # --------------------------------------------------------- segmentation
    "segmentation.skips": (
        r"\overline{\mathrm{IoU}}_{\text{skips on}} - "
        r"\overline{\mathrm{IoU}}_{\text{skips off}} \ge 0.78 - 0.68"
    ),
    "segmentation.finest-level": (
        r"\overline{\mathrm{IoU}}_{\text{level 0 alone}} - "
        r"\overline{\mathrm{IoU}}_{\text{level 1 alone}} \ge 0.05"
    ),
    "segmentation.skips-always-as-printed": (
        r"\overline{\mathrm{IoU}}_{\text{skips on}} - \overline{\mathrm{IoU}}_{\text{skips off}} \ge 0.1 \quad "
        r"\text{on any data}"
    ),
    "segmentation.bottleneck": (
        r"\mathrm{rank}\, \frac{\partial\, \text{logits}}{\partial\, \text{image}} \le \min_{j \le k} C_j H_j W_j"
    ),
    "segmentation.zero-control": r"\left|\text{logits}_{\text{zero}} - \text{logits}_{\text{off}}\right| = 0",
    "segmentation.stem-gradient": (
        r"\mathbb{E} \ln \frac{\|\partial\, \text{loss} / \partial\, \text{stem}\|_{\text{off}}}"
        r"{\|\partial\, \text{loss} / \partial\, \text{stem}\|_{\text{on}}} \le 0"
    ),
    "segmentation.gradient-reason-as-printed": (
        r"\mathbb{E} \ln \frac{\|\partial\, \text{loss} / \partial\, \text{stem}\|_{\text{off}}}"
        r"{\|\partial\, \text{loss} / \partial\, \text{stem}\|_{\text{on}}} \le 0 \quad \text{with batch norm}"
    ),
}
