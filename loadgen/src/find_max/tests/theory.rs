//! The probability that an answer takes longer than `t` seconds, by queueing theory.

/// Erlang tail: the probability that the sum of `stages` exponential times of `rate` exceeds `t`.
fn erlang_tail(stages: usize, rate: f64, t: f64) -> f64 {
    let mut term = (-rate * t).exp();
    let mut sum = 0.0;
    for k in 0..stages {
        sum += term;
        term *= rate * t / (k + 1) as f64;
    }
    sum
}

/// P(wait + service > t) where the wait is Erlang distributed with `ahead` stages of rate `c/s`, and the service
/// exponential with mean `s`: the wait's density against the service's tail, by Simpson's rule.
fn response_tail(ahead: usize, servers: usize, mean: f64, t: f64) -> f64 {
    let (mu, rate) = (1.0 / mean, servers as f64 / mean);
    if ahead == 0 {
        return (-mu * t).exp();
    }
    let n = 400;
    let h = t / f64::from(n);
    // Erlang density in logarithms: powers and factorials overflow.
    let log_factorial: f64 = (1..ahead).map(|k| (k as f64).ln()).sum();
    let density = |x: f64| match (x, ahead) {
        (0.0, 1) => rate,
        (0.0, _) => 0.0,
        _ => (ahead as f64 * rate.ln() + (ahead - 1) as f64 * x.ln() - rate * x - log_factorial).exp(),
    };
    let f = |x: f64| density(x) * (-mu * (t - x)).exp();
    let inside: f64 = (1..n).map(|i| f(h * f64::from(i)) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
    erlang_tail(ahead, rate, t) + h / 3.0 * (f(0.0) + inside + f(t))
}

/// Closed loop: `users` who think `think` seconds on average, exponential service (machine repair, M/M/c//N).
/// The distribution of the thinking does not matter (BCMP theorem, Baskett, Chandy, Muntz, Palacios, J. ACM 22,
/// 1975), and who arrives sees the others in equilibrium (arrival theorem, Lavenberg and Reiser, 1980).
pub(super) fn closed(users: usize, servers: usize, mean: f64, think: f64, t: f64) -> f64 {
    let others = users - 1;
    // Weights of n at the servers: product of arrival over departure rates.
    let mut weights = vec![1.0_f64];
    for n in 0..others {
        let arrivals = (others - n) as f64 / think;
        let departures = (n + 1).min(servers) as f64 / mean;
        weights.push(weights[n] * arrivals / departures);
    }
    let all: f64 = weights.iter().sum();
    let tails = weights
        .iter()
        .enumerate()
        .map(|(n, weight)| weight / all * response_tail((n + 1).saturating_sub(servers), servers, mean, t));
    tails.sum()
}

/// Open loop, M/M/c: Erlang's C formula. 1 if the queue has no end.
pub(super) fn mmc(rate: f64, servers: usize, mean: f64, t: f64) -> f64 {
    let (load, c) = (rate * mean, servers as f64);
    if load >= c {
        return 1.0;
    }
    let mut term = 1.0;
    let mut sum = 0.0;
    for k in 0..servers {
        sum += term;
        term *= load / (k + 1) as f64;
    }
    let busy = term * c / (c - load);
    let wait = busy / (sum + busy);
    // The wait is exponential with this rate, if there is one.
    let (mu, drain) = (1.0 / mean, (c - load) / mean);
    let waiting = if (drain - mu).abs() < 1e-9 {
        (1.0 + mu * t) * (-mu * t).exp()
    } else {
        (drain * (-mu * t).exp() - mu * (-drain * t).exp()) / (drain - mu)
    };
    (1.0 - wait) * (-mu * t).exp() + wait * waiting
}

/// Open loop, M/D/1 (A. K. Erlang, 1909): P(wait <= x) = (1 - ρ) Σ (λ(kD - x))^k / k! e^(-λ(kD - x)), k <= x/D.
pub(super) fn md1(rate: f64, service: f64, t: f64) -> f64 {
    let load = rate * service;
    if load >= 1.0 {
        return 1.0;
    }
    let x = t - service;
    let mut sum = 0.0;
    let mut k = 0;
    while f64::from(k) * service <= x {
        let z = rate * (f64::from(k) * service - x);
        let factorial: f64 = (1..=k).map(f64::from).product();
        sum += z.powi(k) / factorial * (-z).exp();
        k += 1;
    }
    1.0 - (1.0 - load) * sum
}

#[test]
fn the_formulas_agree_where_they_meet() {
    // M/M/1: the response is exponential with rate μ - λ.
    assert!((mmc(5.0, 1, 0.1, 0.3) - (-5.0_f64 * 0.3).exp()).abs() < 1e-12);
    // Infinitely many users who think infinitely long are a Poisson process.
    let (closed, open) = (closed(4_000, 2, 0.1, 400.0, 0.5), mmc(10.0, 2, 0.1, 0.5));
    assert!((closed / open - 1.0).abs() < 0.02, "{closed} {open}");
    // Half of M/D/1's arrivals at half load wait: P(W > 0) = ρ.
    assert!((md1(25.0, 0.02, 0.02) - 0.5).abs() < 1e-9);
}
