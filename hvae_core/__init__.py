"""Hierarchical variational autoencoders with one Lagrange multiplier per layer.

A companion to two papers:

    A  Xiao & Bamler, Trading Information between Latents in Hierarchical Variational Autoencoders, ICLR 2023
    B  Alemi et al., Fixing a Broken ELBO, ICML 2018

All rates, distortions and information are in nats per image. From the papers' symbols to names:

    ===========================  ======================================  ==========================================
    paper                        meaning                                 here
    ===========================  ======================================  ==========================================
    x, y                         image, class label                      ``x``, ``y``
    L                            number of latent layers; z_L on top     ``model.layers``
    z_2, z_1                     latents of L = 2                        ``z2``, ``z1``; lists of them top first
    p(z_l | z_>l)                prior                                   ``model.prior(z_above)``
    q(z_l | z_>l, x)             posterior, same order as the prior      ``model.posterior(x, z_above)``
    p(x | z)                     likelihood                              ``model.likelihood(z)``
    sigma_x                      its fixed standard deviation            ``sigma_x``
    D                            distortion E_q[-log p(x | z)]           ``terms.distortion``, ``distortion``
    R(z_L), R(z_l | z_>l)        layer-wise rates (A, Eq. 7)             ``terms.rates``, ``rate_2``, ``rate_1``
    R                            total rate (A, Eq. 6)                   ``terms.rate(...)``, ``rate``
    ELBO                         -(D + R)                                ``terms.elbo(...)``, ``elbo``
    beta_L ... beta_1            one multiplier a layer (A, Eq. 8)       ``betas``; ``beta_2``, ``beta_1``
    L_beta                       objective (A, Eq. 8)                    ``objective.lagrangian``
    r_L ... r_1                  rates asked for; not in the papers      ``target_rates``; ``target_2``, ``target_1``
    mu_2, mu_1                   modes of the posteriors                 ``mu2``, ``mu1`` in column names
    IS                           Inception Score (A, Eq. 12)             ``inception_score``
    I_q(y; z_2)                  mutual information (A, Eq. 10)          ``mi_z2``
    f, f^-1                      accuracy bound (A, Eq. 11)              ``bounds.information``, ``.accuracy_bound``
    H[p_data]                    entropy of the data (A, Eqs. 3, 9)      ``bounds.entropy_bound``
    e(z|x), d(x|z), m(z)         B's encoder, decoder, marginal          posterior, likelihood, prior
    -/+, -/+, -/+/v              B's families: encoder, decoder, m(z)    ``build("-+v", ...)``, ``models.FAMILIES``
    R*                           B's target rate                         ``objective.target_rate``
    E, G                         bounds on I_gen (B, appendix C)         ``mi_lower``, ``mi_upper``
    IWAE                         importance-weighted bound, K samples    ``iwae_5``, ``iwae_500``
    ===========================  ======================================  ==========================================
"""
